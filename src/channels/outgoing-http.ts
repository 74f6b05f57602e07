// channels/outgoing-http.ts: the only way out over HTTP: to allowed addresses, with the answer capped, and never redirected.

import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { DAY_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import type { AttemptErrorCode } from "./attempt-result.ts";
import type { AddressGuard } from "./guard.ts";
import { ConnectFailure, type Deadline, errorCode, networkFault, openSocket } from "./outgoing-socket.ts";

type HttpClientOptions = {
  readonly guard: AddressGuard;
  /** For name resolution, connection and TLS handshake together. */
  readonly connectTimeoutMs: number;
  /** For the body of an answer, and no longer: the status has been said. */
  readonly bodyTimeoutMs: number;
  /** How much of an answer's body is read before the connection is cut. */
  readonly maxResponseBytes: number;
};

export type HttpRequest = {
  readonly method: "GET" | "POST";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer | null;
};

type HttpFailure = { readonly code: AttemptErrorCode; readonly message: string };

export type HttpAnswer = {
  readonly status: number;
  /** A header's value; null without one. */
  readonly header: (name: string) => string | null;
  /** As much of it as was read. */
  readonly body: Uint8Array;
};

const KEEP_ALIVE_MS = 4_000;
// Beyond this many open connections none is kept alive, so that idle ones do not use up file descriptors.
const MAX_KEPT_CONNECTIONS = 256;
const MAX_RETRY_AFTER_MS = DAY_MS;
/** The first bytes of an answer, kept until it is understood: the longest head that is accepted, and a body to store. */
const MAX_FIRST_BYTES = 20_480;

export type HttpClient = ReturnType<typeof createHttpClient>;

/** Makes the client. Disposing it closes its connections. */
export function createHttpClient({ guard, connectTimeoutMs, bodyTimeoutMs, maxResponseBytes }: HttpClientOptions) {
  let openConnections = 0;

  /** Connections are opened under the guard, with TLS where the agent is for it: Node's agent only keeps them. */
  function agentFor(tls: boolean): Agent {
    const agent = new Agent({ keepAlive: true, timeout: KEEP_ALIVE_MS, maxFreeSockets: MAX_KEPT_CONNECTIONS });
    agent.createConnection = ({ host, port }, connected) => {
      const target = { host: host ?? "", port: Number(port), tls, alpn: ["http/1.1"] };
      openSocket({ guard, timeoutMs: connectTimeoutMs, ...target }).then(
        (socket) => {
          openConnections += 1;
          socket.once("close", () => {
            openConnections -= 1;
          });
          connected?.(null, socket);
        },
        (failure: Error) => connected?.(failure, undefined as never),
      );
      return undefined;
    };
    return agent;
  }
  const agents = { http: agentFor(false), https: agentFor(true) };

  /**
   * Answers with what the target said, once its status line is read: whatever follows it, and however it breaks off, the
   * target has the request and has said what became of it. Node's parser reads it where it can, `answerIn` where not.
   * `onHandedOver`: all of the request has left. Rejects with `ConnectFailure` and what `httpFailure` reads.
   */
  async function exchange(
    { method, url, headers, body }: HttpRequest,
    signal: AbortSignal,
    onHandedOver: () => void = () => {},
  ): Promise<HttpAnswer> {
    const tls = url.protocol === "https:";
    const answered = Promise.withResolvers<IncomingMessage>();
    const firstBytes: Buffer[] = [];
    let length = 0;
    const keep = (bytes: Buffer) => {
      if (length < MAX_FIRST_BYTES) firstBytes.push(bytes);
      length += bytes.length;
    };
    let used: Socket | undefined;
    const outgoing = httpRequest({
      agent: tls ? agents.https : agents.http,
      host: url.hostname,
      port: url.port || (tls ? 443 : 80),
      path: url.pathname + url.search,
      method,
      headers: {
        host: url.host,
        ...headers,
        ...(openConnections >= MAX_KEPT_CONNECTIONS ? { connection: "close" } : {}),
      },
      signal,
    });
    outgoing.once("socket", (socket) => {
      used = socket;
      socket.prependListener("data", keep);
    });
    outgoing.once("finish", onHandedOver);
    outgoing.once("response", answered.resolve).on("error", answered.reject).end(body);
    try {
      const response = await answered.promise;
      const read = await readCapped(response, maxResponseBytes, bodyTimeoutMs);
      const header = (name: string) => {
        const value = response.headers[name.toLowerCase()];
        return typeof value === "string" ? value : null;
      };
      return { status: response.statusCode ?? 0, header, body: read };
    } catch (error) {
      const answer = answerIn(Buffer.concat(firstBytes));
      // fence: webhook-status-read
      if (answer === null) throw error;
      return answer;
    } finally {
      used?.off("data", keep);
    }
  }

  return {
    exchange,
    async [Symbol.asyncDispose]() {
      agents.http.destroy();
      agents.https.destroy();
    },
  };
}

/** Reads at most `limit` bytes, for `ms`, and takes what came when the body breaks off. Then the connection is cut. */
async function readCapped(response: IncomingMessage, limit: number, ms: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let length = 0;
  const timer = setTimeout(() => response.destroy(), ms);
  try {
    for await (const chunk of response) {
      const bytes = Buffer.from(chunk);
      chunks.push(bytes);
      length += bytes.length;
      if (length >= limit) break;
    }
  } catch {
    // The status has been said.
  }
  clearTimeout(timer);
  return Buffer.concat(chunks).subarray(0, limit);
}

/**
 * The answer in bytes that are not quite HTTP: a folded header line, a blank behind a number, a head that breaks off. Null
 * without a status line. Interim answers (1xx) come before it.
 */
function answerIn(bytes: Buffer): HttpAnswer | null {
  let text = bytes.toString("latin1");
  for (;;) {
    const status = Number(/^HTTP\/\d(?:\.\d)? (\d{3})(?: [^\r\n]*)?\r?\n/.exec(text)?.[1]);
    if (Number.isNaN(status)) return null;
    const end = /\r?\n\r?\n/.exec(text);
    const head = text.slice(0, end?.index);
    const rest = end === null ? "" : text.slice(end.index + end[0].length);
    if (/* fence: webhook-interim */ status >= 200) {
      const lines = new Map(head.split(/\r?\n/).map((line) => [line.split(":", 1)[0]?.toLowerCase(), line]));
      const header = (name: string) => lines.get(name.toLowerCase())?.slice(name.length + 1) ?? null;
      return { status, header, body: Buffer.from(rest, "latin1") };
    }
    text = rest;
  }
}

/** Why an attempt over HTTP ended without an answer. `time`: the deadline that it had. */
export function attemptFailure(error: unknown, time: Deadline, timeoutMs: number): HttpFailure {
  if (time.isUp) return { code: "timeout", message: `No answer within ${timeoutMs / SECOND_MS} s` };
  if (time.signal.aborted) return { code: "cancelled", message: "The attempt was cancelled" };
  return httpFailure(error);
}

/** What an error of `exchange` means. */
export function httpFailure(error: unknown): HttpFailure {
  if (error instanceof ConnectFailure) return { code: error.code, message: error.message };
  const fault = networkFault(error);
  if (fault) return fault;
  if (errorCode(error).startsWith("HPE_"))
    return { code: "protocol_error", message: "The target's answer is not valid HTTP" };
  return { code: "network_failure", message: "The connection failed" };
}

/** `Retry-After`, given in seconds or as an HTTP date, in ms from now, between 0 and 24 h. Null when it is unusable. */
export function retryAfterMs(value: string | null, now: Instant): number | null {
  if (value === null) return null;
  const text = value.trim();
  const seconds = /^\d+$/.test(text) ? Number(text) * SECOND_MS : null;
  const wait = seconds ?? (/[A-Za-z]{3}/.test(text) ? Date.parse(text) - now : Number.NaN);
  return Number.isNaN(wait) ? null : Math.min(Math.max(0, wait), MAX_RETRY_AFTER_MS);
}
