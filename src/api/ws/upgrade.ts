// Before a socket is one: host, path and origin are checked, and what is refused gets a plain HTTP answer.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { credential, requestId } from "../http/headers.ts";
import { hostCheck, socketOriginCheck } from "../http/origin.ts";
import { PROBLEMS, Problem, problemBody } from "../http/problems.ts";
import type { Services } from "../services.ts";
import type { Credential } from "./identity.ts";

const PATHS: ReadonlySet<string> = new Set(["/ws", "/api/v1/ws"]);
const STATUS_TEXT: Readonly<Record<number, string>> = {
  403: "Forbidden",
  404: "Not Found",
  421: "Misdirected Request",
  429: "Too Many Requests",
  503: "Service Unavailable",
};

/** What a request for an upgrade presents; `wrong` when what it presents can never be right. */
type Presented = Credential | "wrong" | undefined;

/** Checks a request. Throws Problem (421, 404, 403). */
export function upgradeCheck(config: Services["config"]): (request: IncomingMessage) => void {
  const isKnownHost = hostCheck(config);
  const mayOpen = socketOriginCheck(config);
  return (request) => {
    if (!isKnownHost(request.headers.host)) throw new Problem("unknown_host");
    const path = urlOf(request).pathname.replace(/(.)\/$/, "$1");
    if (!PATHS.has(path)) throw new Problem("not_found", { detail: "There is no such path." });
    if (!mayOpen(request.headers.origin)) {
      throw new Problem("forbidden", { detail: "Pages of this origin may not open a socket. See CORS_ORIGINS." });
    }
  };
}

/** The credential in header or query; in the query only a token, for addresses are kept in many places. */
export function presented(request: IncomingMessage): Presented {
  const { searchParams } = urlOf(request);
  const userId = searchParams.get("user_id") ?? undefined;
  const bearer = credential(request);
  if (bearer !== undefined) return { bearer, userId };
  const token = searchParams.get("token");
  if (token === null) return undefined;
  return token.startsWith("ck_") ? "wrong" : { bearer: token, userId };
}

/** Answers a refused request and ends its connection. */
export function refuse(
  services: Pick<Services, "config" | "newId">,
  request: IncomingMessage,
  socket: Duplex,
  problem: Problem,
): void {
  const id = requestId(request, services.newId);
  const body = JSON.stringify(problemBody(problem, services.config.publicUrl ?? "http://localhost", id));
  const { status } = PROBLEMS[problem.code];
  const headers = {
    ...problem.headers,
    "Content-Type": "application/problem+json; charset=utf-8",
    "Content-Length": String(Buffer.byteLength(body)),
    "X-Request-Id": id,
    Connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.once("finish", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_TEXT[status] ?? "Refused"}\r\n${lines.join("")}\r\n${body}`);
}

function urlOf(request: IncomingMessage): URL {
  const target = request.url ?? "/";
  const base = "http://localhost";
  return URL.canParse(target, base) ? new URL(target, base) : new URL(base);
}
