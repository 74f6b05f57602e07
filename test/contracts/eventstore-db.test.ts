// The contract, bound to the log on EventStoreDB.

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe } from "vitest";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { missingEventStore, type TestEventStore, testEventStore } from "../support/eventstored.ts";
import { eventStoreContract } from "./event-store.contract.ts";

if (missingEventStore !== undefined) console.info(missingEventStore);

describe.skipIf(missingEventStore !== undefined)("", () => {
  let server: TestEventStore;
  beforeAll(async () => {
    server = await testEventStore();
  }, 180_000);
  afterAll(() => server[Symbol.asyncDispose]());

  eventStoreContract(
    "EventStoreDB",
    async () => {
      // A prefix of its own for each: one server holds several systems.
      const options = { url: server.url, prefix: `${randomUUID()}-` };
      const store = await openEventStoreDb(options);
      return {
        store,
        second: () => openEventStoreDb(options),
        writer: { kind: "eventstore", ...options },
        close: async () => store[Symbol.asyncDispose](),
      };
    },
    { shared: true },
  );
});
