// Hostile and broken clients: bounds and timeouts of connections, one request at a time, requests that are not HTTP,
// bodies and answers that nobody waits for. Nothing along the path of a request deals with them.
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { Duplex } from "node:stream";
import type { NodeServices } from "../../app/services.ts";
import type { Config } from "../../config.ts";
import { PROBLEMS } from "../../contract/errors.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { commonHeaders, Problem, problemBody } from "./problems.ts";

/** Durations in milliseconds. */
export type HttpTimings = {
  /** From connecting, or from a later request's first byte, to the end of its headers. */
  readonly headersMs: number;
  /** To the end of the body. */
  readonly requestMs: number;
  /** In which some of a body must arrive. */
  readonly bodyMs: number;
  /** From an answer to its reader having taken it. */
  readonly answerMs: number;
  /** How long a connection without a request is kept. */
  readonly keepAliveMs: number;
  /** How often connections are checked: the precision of the first two. */
  readonly checkMs: number;
};

export const HTTP_TIMINGS: HttpTimings = {
  headersMs: 15 * SECOND_MS,
  requestMs: 60 * SECOND_MS,
  bodyMs: 5 * SECOND_MS,
  answerMs: 60 * SECOND_MS,
  keepAliveMs: 65 * SECOND_MS,
  checkMs: 5 * SECOND_MS,
};

/** Max connections, sockets included. Further ones are closed without an answer, before they cost anything. */
const MAX_CONNECTIONS = 50_000;
/** Max bytes that are read of a refused body, so that its sender gets to read the answer. */
const MAX_DRAINED_BYTES = 16 * 1024 * 1024;
const MAX_DRAIN_MS = 10 * SECOND_MS;
/** How long incoming bytes are discarded after the last answer, so that a reset does not take it away. */
const LINGER_MS = 500;

/** Answers a request; never rejects. */
export type Handler = (...parameters: Parameters<RequestListener>) => Promise<void>;

/**
 * Node's HTTP server as every role has it. `handle` gets every request whose head can be read, one at a time for each
 * connection, and never rejects. The server is not listening yet.
 */
export function createGuardedServer(
  services: Pick<NodeServices, "config" | "newId">,
  timings: HttpTimings,
  handle: Handler,
): Server {
  const serve = inOrder(async (request, response) => {
    await handle(request, response);
    endUnread(response, timings.answerMs);
  });
  const server: Server = createServer(
    {
      headersTimeout: timings.headersMs,
      requestTimeout: timings.requestMs,
      keepAliveTimeout: timings.keepAliveMs,
      connectionsCheckingInterval: timings.checkMs,
      requireHostHeader: false, // normalizeTarget checks it, and answers with a problem
      // fence: duplicate-headers
      joinDuplicateHeaders: true, // of a header that comes twice both values count, so that neither hides the other
      // Some clients propose HTTP/2 with every request (`Upgrade: h2c`). They get a plain answer.
      shouldUpgradeCallback: ({ headers }) =>
        server.listenerCount("upgrade") > 0 && headers.upgrade?.toLowerCase() === "websocket",
    },
    serve,
  );
  // Left to Node, these would be answered before the requests that precede them.
  server.on("checkExpectation", serve);
  answerBrokenRequests(server, services);
  server.maxConnections = MAX_CONNECTIONS;
  return server;
}

// Order

/** Of each connection the answer to the last request whose head could be read. Answers leave in the order of requests. */
const lastAnswers = new WeakMap<Duplex, ServerResponse>();

/**
 * Node takes up at once all requests that a packet holds, hundreds of them, whose answers would wait in memory for a
 * reader who may never come. With this each request waits until the answer before it was read.
 */
function inOrder(handle: Handler): RequestListener {
  return (request, response) => {
    const { socket } = request;
    const previous = lastAnswers.get(socket);
    lastAnswers.set(socket, response);
    // fence: answers-in-order
    if (previous === undefined || previous.writableFinished) void handle(request, response);
    else previous.once("close", () => socket.destroyed || handle(request, response));
  };
}

/** Resolves when the answers that precede a connection's upgrade have left; rejects when the connection ends before. */
export async function answersSent(socket: Duplex): Promise<void> {
  const last = lastAnswers.get(socket);
  // fence: upgrade-in-order
  if (last !== undefined && !last.writableFinished) await once(last, "close");
  if (socket.destroyed) throw new Problem("malformed_request");
}

/** Answers that go on after their handler. */
const goingOn = new WeakSet<ServerResponse>();
/** Leaves it to the sender of an answer that goes on to bound what its reader does not take. */
export const keepOpen = (response: ServerResponse): void => void goingOn.add(response);

/** Ends the connection of an answer that is not read in time: it would stay in memory for ever. */
function endUnread(response: ServerResponse, answerMs: number): void {
  const { socket } = response;
  if (goingOn.has(response)) return;
  if (socket === null || socket.writableLength === 0) return;
  const timer = setTimeout(() => socket.destroy(), answerMs);
  response.once("close", () => clearTimeout(timer));
}

// Targets and headers

type Target = {
  /** Percent-encoded, as it was sent. */
  readonly path: string;
  /** The query with its question mark, or nothing. */
  readonly search: string;
  /** Of several `Host` headers all, joined: not a valid host. */
  readonly host: string | undefined;
};

const ORIGIN_FORM = /^([/*][^?#]*)(\?[^#]*)?/;
/** Its path as it was sent: `URL.parse` would resolve what it takes for dot segments. */
const ABSOLUTE_FORM = /^https?:\/\/[^/?#]*([^?#]*)(\?[^#]*)?/i;
/** A target that koa reads as it is: without a fragment, and without characters that `url.parse` would trim or escape. */
const PLAIN_TARGET = /^\/[^#\t\f\xa0]*$/;

/** A target with a host of its own overrides the header (RFC 9112). Undefined when it is not a valid target. */
export function targetOf({
  url = "",
  headers: { host },
}: Pick<IncomingMessage, "url" | "headers">): Target | undefined {
  const [, path, search = ""] = ORIGIN_FORM.exec(url) ?? [];
  if (path !== undefined) return { path, search, host };
  const [absolute, below, query = ""] = ABSOLUTE_FORM.exec(url) ?? [];
  const parsed = absolute === undefined ? null : URL.parse(absolute);
  if (parsed === null) return undefined;
  return { path: below || "/", search: query, /* fence: target-host */ host: parsed.host };
}

/**
 * Rewrites `url` to path and query alone, and `host` to the host that the request is meant for. Throws Problem (400)
 * unless there is exactly one; HTTP/1.0 needs none.
 */
export function normalizeTarget(request: IncomingMessage): void {
  if (!PLAIN_TARGET.test(request.url ?? "")) {
    const target = targetOf(request);
    if (target === undefined) throw new Problem("malformed_request");
    request.url = (target.path + target.search).replace(/[\t\f\xa0]/g, encodeURIComponent);
    request.headers.host = target.host;
  }
  const { host } = request.headers;
  if (host === undefined ? request.httpVersion === "1.1" : host.includes(",")) throw new Problem("malformed_request");
}

/** Throws Problem: 417 for an expectation that no server meets (RFC 9110, section 10.1.1), 400 for a coding beside chunked. */
export function checkHeaders({ headers: { expect, "transfer-encoding": coding } }: IncomingMessage): void {
  if (expect !== undefined && !/^(100-continue)?$/i.test(expect)) throw new Problem("expectation_failed");
  // fence: transfer-encoding
  if (coding !== undefined && coding.toLowerCase() !== "chunked") {
    throw new Problem("malformed_request", { detail: "Transfer-Encoding takes chunked alone." });
  }
}

// Requests that cannot be read to their end

const brokenRequests = new WeakMap<IncomingMessage, Problem>();

/** Why the rest of a request cannot be read; undefined while it can. Whoever reads it meanwhile gets an `error` event. */
export const problemOf = (request: IncomingMessage): Problem | undefined => brokenRequests.get(request);

/** Discards what is left of a refused body, up to a bound and for a while. */
export function drain(request: IncomingMessage): void {
  let drained = 0;
  const cut = setTimeout(() => request.destroy(), MAX_DRAIN_MS);
  request.once("close", () => clearTimeout(cut));
  request.on("data", (chunk: Buffer) => {
    drained += chunk.length;
    if (drained > MAX_DRAINED_BYTES) request.destroy();
  });
  request.resume();
}

/** Answers what the parser refuses and what takes too long, after the requests before it, and ends the connection. */
function answerBrokenRequests(server: Server, { config, newId }: Pick<NodeServices, "config" | "newId">): void {
  const ending = new WeakSet<Duplex>();

  const refuse = (socket: Duplex, problem: Problem) => {
    const answer = () => answerPlainly(socket, problem, config, newId());
    // fence: broken-after-answer
    const response = lastAnswers.get(socket);
    if (response === undefined) return answer();
    const { req: request } = response;
    const { complete } = request;
    const end = () => (complete && socket.writable ? answer() : endSoon(socket));
    if (response.writableFinished) return end();
    // A request is being answered: what is written now would be read as its answer.
    response.once("close", end);
    if (complete) return;
    response.shouldKeepAlive = false;
    brokenRequests.set(request, problem);
    if (request.listenerCount("error") > 0) request.emit("error", problem);
  };
  server.on("clientError", (error: Error & { readonly code?: string }, socket) => {
    if (ending.has(socket)) return;
    ending.add(socket);
    if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
    refuse(socket, problemOfParser(error.code));
  });
  // Left to Node, the connection would end at once, together with the answers that are still due.
  server.on("connect", (_request, socket: Duplex) => {
    socket.on("error", () => socket.destroy());
    refuse(socket, new Problem("malformed_request", { detail: "CONNECT is for proxies." }));
  });
}

function problemOfParser(code: string | undefined): Problem {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new Problem("headers_too_large");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new Problem("request_timeout");
    default:
      return new Problem("malformed_request");
  }
}

/** Writes a problem straight to a connection, where there is no response to write to, and ends it. */
export function answerPlainly(
  socket: Duplex,
  problem: Problem,
  { publicUrl }: Pick<Config, "publicUrl">,
  requestId: string,
): void {
  const body = JSON.stringify(problemBody(problem, publicUrl ?? "http://localhost", requestId));
  const { status } = PROBLEMS[problem.code];
  const headers = {
    ...problem.headers,
    "Content-Type": "application/problem+json; charset=utf-8",
    "Content-Length": String(Buffer.byteLength(body)),
    ...Object.fromEntries(commonHeaders(requestId)),
    Connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Refused"}\r\n${lines.join("")}\r\n${body}`);
  endSoon(socket);
}

/** Ends a connection of which nothing more is read, once what was written has left. */
function endSoon(socket: Duplex): void {
  socket.end();
  socket.resume();
  const cut = setTimeout(() => socket.destroy(), LINGER_MS);
  cut.unref();
  socket.once("close", () => clearTimeout(cut));
}
