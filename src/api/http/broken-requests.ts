// Requests that are no HTTP or never arrive whole: each gets its problem, after the answers before it, and the connection ends.
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
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

type Parts = {
  /** Where the pages are. */
  readonly base: string;
  readonly newId: () => string;
};

/** Watches a server for what its parser refuses and for what takes too long. */
export function answerBrokenRequests(server: Server, { base, newId }: Parts): void {
  /** Of each connection the answer to the last request whose head could be read: answers leave in the order of requests. */
  const last = new WeakMap<Duplex, ServerResponse<IncomingMessage>>();
  const ending = new WeakSet<Duplex>();
  const note = (request: IncomingMessage, response: ServerResponse<IncomingMessage>) =>
    void last.set(request.socket, response);
  server.prependListener("request", note);
  server.prependListener("checkExpectation", note);

  const refuse = (socket: Duplex, problem: Problem) => {
    const answer = () => answerPlainly(socket, problem, base, newId());
    const response = last.get(socket);
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
