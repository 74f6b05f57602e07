// Requests that are no HTTP or never arrive whole: each gets its problem, after the answers before it, and the connection ends.
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import type { Services } from "../../app/services.ts";
import { lastAnswer } from "./in-order.ts";
import { answerPlainly, endSoon } from "./plain-answer.ts";
import { Problem } from "./problems.ts";

const BROKEN = "broken";
/** Those of which the rest cannot be read. */
const broken = new WeakMap<IncomingMessage, Problem>();

/** Tells whoever reads the body that it will not come whole, and why: once, now or when it turns out. */
export function onBroken(request: IncomingMessage, tell: (problem: Problem) => void): void {
  const problem = broken.get(request);
  if (problem === undefined) request.once(BROKEN, tell);
  else tell(problem);
}

/** Watches a server, which takes its requests in order, for what its parser refuses and for what takes too long. */
export function answerBrokenRequests(server: Server, { config, newId }: Pick<Services, "config" | "newId">): void {
  const ending = new WeakSet<Duplex>();

  const refuse = (socket: Duplex, problem: Problem) => {
    const answer = () => answerPlainly(socket, problem, config, newId());
    // fence: broken-after-answer
    const response = lastAnswer(socket);
    if (response === undefined) return answer();
    const isWhole = response.req.complete;
    const end = () => (isWhole && socket.writable ? answer() : endSoon(socket));
    if (response.writableFinished) return end();
    // What was asked before is being answered: to write now would be taken for that answer.
    response.once("close", end);
    if (isWhole) return;
    response.shouldKeepAlive = false;
    broken.set(response.req, problem);
    response.req.emit(BROKEN, problem);
  };
  server.on("clientError", (error: Error & { readonly code?: string }, socket) => {
    if (ending.has(socket)) return;
    ending.add(socket);
    if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
    refuse(socket, problemOf(error.code));
  });
  // Left to itself Node ends the connection at once, with the answers that it still owes.
  server.on("connect", (_request, socket: Duplex) => {
    socket.on("error", () => socket.destroy());
    refuse(socket, new Problem("malformed_request", { detail: "CONNECT is for proxies." }));
  });
}

function problemOf(code: string | undefined): Problem {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new Problem("headers_too_large");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new Problem("request_timeout");
    default:
      return new Problem("malformed_request");
  }
}
