// The contract, bound to the log in memory.

import { openInMemoryLog } from "../support/in-memory-log.ts";
import { eventStoreContract } from "./event-store.contract.ts";

eventStoreContract(
  "in memory",
  async () => {
    const store = await openInMemoryLog();
    return { store, close: async () => store[Symbol.asyncDispose]() };
  },
  { shared: false },
);
