// channels/webhook.ts: sends one webhook: signed, only to allowed addresses, within a time limit, the answer capped.

import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { Webhook } from "standardwebhooks";
import { parseWebhookUrl } from "../contract/fields.ts";
import { DAY_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import { type AttemptErrorCode, type AttemptResult, emptyResult, storedText } from "./attempt-result.ts";
import type { AddressGuard } from "./guard.ts";
import { ConnectFailure, deadline, errorCode, networkFault, openSocket } from "./outgoing-socket.ts";

type WebhookChannelOptions = {
  readonly guard: AddressGuard;
  readonly userAgent?: string;
  /** For name resolution, connection and TLS handshake together. */
  readonly connectTimeoutMs?: number;
  /** For the whole attempt, until the last byte of the answer is read. */
  readonly attemptTimeoutMs?: number;
  /** For the body of an answer. It changes nothing, so it is not waited for any longer. */
  readonly bodyTimeoutMs?: number;
  /** How much of an answer's body is read before the connection is cut. */
  readonly maxResponseBytes?: number;
};

type WebhookRequest = {
  readonly url: string;
  /** The same on every attempt, so that receivers can drop repeats. */
  readonly id: string;
  /** The time of this attempt. */
  readonly timestamp: Instant;
  /** JSON, sent and signed byte for byte. */
  readonly body: string;
  /** Further headers, none of ours among them. */
  readonly headers?: Readonly<Record<string, string>>;
  /** `whsec_` and base64. All of them sign: the current one first, then those whose grace has not ended. */
  readonly secrets: readonly string[];
  readonly signal?: AbortSignal;
};

const PROVIDER = "webhook";
const KEEP_ALIVE_MS = 4_000;
// Beyond this many open connections none is kept alive, so that idle ones do not use up file descriptors.
const MAX_KEPT_CONNECTIONS = 256;
const MAX_RETRY_AFTER_MS = DAY_MS;
/** The first bytes of an answer, kept until it is understood: the longest head that is accepted, and a body to store. */
const MAX_FIRST_BYTES = 20_480;

type Answer = { readonly status: number; readonly body: string; readonly retryAfter: string | null };

export type WebhookChannel = ReturnType<typeof createWebhookChannel>;

/** Makes the channel. Disposing it closes its connections. Attempts still under way then end as `cancelled`. */
export function createWebhookChannel(options: WebhookChannelOptions) {
  const { guard, userAgent = "ChatAPI-Webhook/1", connectTimeoutMs = 5_000, attemptTimeoutMs = 15_000 } = options;
  const { bodyTimeoutMs = 5_000, maxResponseBytes = 65_536 } = options;
  const closing = new AbortController();
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
   * Answers with what the receiver said, once its status line is read: whatever follows it, and however it breaks off, the
   * receiver has the webhook and has said what became of it. Node's parser reads it where it can, `answerIn` where not.
   */
  async function exchange(
    url: URL,
    { body, headers, ...request }: WebhookRequest,
    signal: AbortSignal,
  ): Promise<Answer> {
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
      method: "POST",
      headers: {
        ...headers,
        host: url.host,
        "content-type": "application/json",
        "user-agent": userAgent,
        ...signatureHeaders({ body, ...request }),
        ...(openConnections >= MAX_KEPT_CONNECTIONS ? { connection: "close" } : {}),
      },
      signal,
    });
    outgoing.once("socket", (socket) => {
      used = socket;
      socket.prependListener("data", keep);
    });
    outgoing.once("response", answered.resolve).on("error", answered.reject).end(body);
    try {
      const response = await answered.promise;
      const text = storedText(await readCapped(response, maxResponseBytes, bodyTimeoutMs));
      return { status: response.statusCode ?? 0, body: text, retryAfter: response.headers["retry-after"] ?? null };
    } catch (error) {
      const answer = answerIn(Buffer.concat(firstBytes));
      // fence: webhook-status-read
      if (answer === null) throw error;
      return answer;
    } finally {
      used?.off("data", keep);
    }
  }

  /**
   * Makes one attempt. A 2xx succeeded, 410 is permanent, everything else is transient. Redirects are not followed. A 2xx
   * counts whatever becomes of its body: the receiver has accepted the webhook, and sending it again would be a repeat.
   * Never rejects for what the target does. Throws a RangeError when there are no secrets: an unsigned webhook must not
   * leave.
   */
  async function send(request: WebhookRequest): Promise<AttemptResult> {
    if (request.secrets.length === 0) throw new RangeError("a webhook needs a secret to be signed with");
    const url = parseWebhookUrl(request.url);
    if (!(url instanceof URL)) return failed("invalid_target", `The URL ${url.reason}`);
    using time = deadline(attemptTimeoutMs, request.signal, closing.signal);
    try {
      return judge(await exchange(url, request, time.signal), request.timestamp);
    } catch (error) {
      if (time.isUp) return failed("timeout", `No answer within ${attemptTimeoutMs / SECOND_MS} s`);
      if (time.signal.aborted) return failed("cancelled", "The attempt was cancelled");
      return failureOf(error);
    }
  }

  return {
    /** The longest time that an attempt takes. */
    attemptTimeoutMs,
    send,
    async [Symbol.asyncDispose]() {
      closing.abort();
      agents.http.destroy();
      agents.https.destroy();
    },
  };
}

/** The Standard Webhooks headers. Receivers that know any one of the secrets can verify them. */
function signatureHeaders({ id, timestamp, body, secrets }: WebhookRequest) {
  const at = new Date(timestamp);
  const signatures = secrets.map((secret) => new Webhook(secret).sign(id, at, /* fence: webhook-signature */ body));
  return {
    "webhook-id": id,
    "webhook-timestamp": Math.floor(timestamp / SECOND_MS).toString(),
    "webhook-signature": signatures.join(" "),
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
function answerIn(bytes: Buffer): Answer | null {
  let text = bytes.toString("latin1");
  for (;;) {
    const status = Number(/^HTTP\/\d(?:\.\d)? (\d{3})(?: [^\r\n]*)?\r?\n/.exec(text)?.[1]);
    if (Number.isNaN(status)) return null;
    const end = /\r?\n\r?\n/.exec(text);
    const head = text.slice(0, end?.index);
    const rest = end === null ? "" : text.slice(end.index + end[0].length);
    if (/* fence: webhook-interim */ status >= 200) {
      const retryAfter = /^retry-after:([^\r\n]*)/im.exec(head)?.[1] ?? null;
      return { status, body: storedText(Buffer.from(rest, "latin1")), retryAfter };
    }
    text = rest;
  }
}

function judge({ status, body, retryAfter }: Answer, now: Instant): AttemptResult {
  const result = { ...emptyResult(PROVIDER), response: { status, body } };
  if (status >= 200 && status < 300) return { ...result, outcome: "succeeded" };
  if (status === 410) {
    const error = { code: "gone", message: "The receiver answered 410: it wants no more webhooks" } as const;
    return { ...result, outcome: "permanent", error };
  }
  const error = { code: "unexpected_status", message: `The receiver answered ${status}` } as const;
  return { ...result, outcome: "transient", error, retryAfterMs: retryAfterMs(retryAfter, now) };
}

function failed(code: AttemptErrorCode, message: string): AttemptResult {
  return { ...emptyResult(PROVIDER), outcome: "transient", error: { code, message } };
}

function failureOf(error: unknown): AttemptResult {
  if (error instanceof ConnectFailure) return failed(error.code, error.message);
  const fault = networkFault(error);
  if (fault) return failed(fault.code, fault.message);
  if (errorCode(error).startsWith("HPE_")) return failed("protocol_error", "The target's answer is not valid HTTP");
  return failed("network_failure", "The connection failed");
}

/** `Retry-After`, given in seconds or as an HTTP date, in ms from now, between 0 and 24 h. Null when it is unusable. */
function retryAfterMs(value: string | null, now: Instant): number | null {
  if (value === null) return null;
  const text = value.trim();
  const seconds = /^\d+$/.test(text) ? Number(text) * SECOND_MS : null;
  const wait = seconds ?? (/[A-Za-z]{3}/.test(text) ? Date.parse(text) - now : Number.NaN);
  return Number.isNaN(wait) ? null : Math.min(Math.max(0, wait), MAX_RETRY_AFTER_MS);
}
