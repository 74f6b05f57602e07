// The contract, bound to the log in PostgreSQL.

import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { testDatabase } from "../support/postgres.ts";
import { eventStoreContract } from "./event-store.contract.ts";

eventStoreContract(
  "PostgreSQL",
  async () => {
    const database = await testDatabase();
    const store = await openPostgresLog({ url: database.url });
    return {
      store,
      second: () => openPostgresLog({ url: database.url }),
      writer: { kind: "postgres", url: database.url },
      close: async () => {
        await store[Symbol.asyncDispose]();
        await database[Symbol.asyncDispose]();
      },
    };
  },
  { shared: true },
);
