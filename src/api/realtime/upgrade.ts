// Before a socket is one: host, path and origin are checked, and what is refused gets a plain HTTP answer.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { Services } from "../../app/services.ts";
import { credential } from "../http/authentication.ts";
import { answerPlainly, targetOf } from "../http/hardening.ts";
import { hostCheck, socketOriginCheck } from "../http/origin.ts";
import { Problem, requestId } from "../http/problems.ts";
import type { Credential } from "./identity.ts";

const PATHS: ReadonlySet<string> = new Set(["/ws", "/api/v1/ws"]);

/** What a request for an upgrade presents; `wrong` when what it presents can never be right. */
type Presented = Credential | "wrong" | undefined;

/** Checks a request. Throws Problem (400, 421, 404, 405, 403). */
export function upgradeCheck(config: Services["config"]): (request: IncomingMessage) => void {
  const isKnownHost = hostCheck(config);
  const mayOpen = socketOriginCheck(config);
  return (request) => {
    const target = targetOf(request);
    if (target === undefined) throw new Problem("malformed_request");
    if (!isKnownHost(target.host)) throw new Problem("unknown_host");
    if (!PATHS.has(target.path.replace(/(.)\/$/, "$1"))) {
      throw new Problem("not_found", { detail: "There is no such path." });
    }
    if (request.method !== "GET") throw new Problem("method_not_allowed", { headers: { Allow: "GET" } });
    if (!mayOpen(request.headers.origin)) {
      throw new Problem("forbidden", { detail: "Pages of this origin may not open a socket. See CORS_ORIGINS." });
    }
  };
}

/** The credential in header or query; in the query only a token, for addresses are kept in many places. */
export function presented(request: IncomingMessage): Presented {
  const searchParams = new URLSearchParams(targetOf(request)?.search);
  const userId = searchParams.get("user_id") ?? undefined;
  const bearer = credential(request);
  if (bearer !== undefined) return { bearer, userId };
  const token = searchParams.get("token");
  if (token === null) return undefined;
  return token.startsWith("ck_") ? "wrong" : { bearer: token, userId };
}

/** Answers a refused request and ends its connection. */
export const refuse = (
  { config, newId }: Pick<Services, "config" | "newId">,
  request: IncomingMessage,
  socket: Duplex,
  problem: Problem,
): void => answerPlainly(socket, problem, config, requestId(request, newId));
