// The client's late replies and broken writes reject promises that nobody holds; such a one must not end the process.

import { setImmediate as turnOfTheLoop } from "node:timers/promises";
import type { WarnLogger } from "../../platform/supervise.ts";

let guarded = 0;
let logger: WarnLogger | undefined;

const isClients = (reason: unknown): boolean =>
  reason instanceof Error && /@eventstore[\\/]db-client|@grpc[\\/]grpc-js/.test(reason.stack ?? "");

function onStray(reason: unknown): void {
  // Anybody else's is as fatal as it would be without us.
  if (!isClients(reason)) throw reason;
  logger?.warn({ err: reason }, "the EventStoreDB client rejected a promise that nobody waits for");
}

/** While held, rejections out of the client's depths are logged. Their appends have deadlines of our own. */
export function holdStrayRejections(warn: WarnLogger | undefined): AsyncDisposable {
  logger = warn ?? logger;
  if (guarded === 0) process.on("unhandledRejection", onStray);
  guarded += 1;
  return {
    async [Symbol.asyncDispose]() {
      await turnOfTheLoop(); // those of the last client's end come before
      guarded -= 1;
      if (guarded === 0) process.off("unhandledRejection", onStray);
    },
  };
}
