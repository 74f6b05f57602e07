// Node's HTTP server as every role has it: requests in order, each expectation and each broken request answered, all bounded.
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from "node:http";
import type { Services } from "../../app/services.ts";
import { answerBrokenRequests } from "./broken-requests.ts";
import { inOrder } from "./in-order.ts";
import { type HttpTimings, MAX_CONNECTIONS, timeouts } from "./limits.ts";
import { Problem } from "./problems.ts";

type Options = ServerOptions & Pick<Services, "config" | "newId"> & { readonly timings: HttpTimings };

/** Hands every request whose head can be read to `handle`, which begins with `checkExpectation`. Not listening yet. */
export function createGuardedServer(
  { config, newId, timings, ...options }: Options,
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const serve = inOrder(handle);
  const server = createServer({ ...timeouts(timings), ...options }, serve);
  // Node would answer them by itself, past the answers before them.
  server.on("checkExpectation", serve);
  answerBrokenRequests(server, { config, newId });
  server.maxConnections = MAX_CONNECTIONS;
  return server;
}

/** Throws the Problem of an expectation that no server meets (RFC 9110, section 10.1.1). */
export function checkExpectation({ headers }: IncomingMessage): void {
  if (!/^(100-continue)?$/i.test(headers.expect ?? "")) throw new Problem("expectation_failed");
}
