// channels/webhook.ts: sends one webhook: signed, only to allowed addresses, within a time limit, the answer capped.

import { Webhook } from "standardwebhooks";
import { Agent, type Dispatcher, errors } from "undici";
import { parseWebhookUrl } from "../contract/fields.ts";
import { DAY_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import { type AttemptErrorCode, type AttemptResult, emptyResult, storedText } from "./attempt-result.ts";
import type { AddressGuard } from "./guard.ts";
import { ConnectFailure, deadline, networkFault, openSocket } from "./outgoing-socket.ts";

type WebhookChannelOptions = {
  readonly guard: AddressGuard;
  readonly userAgent?: string;
  /** For name resolution, connection and TLS handshake together. */
  readonly connectTimeoutMs?: number;
  /** For the whole attempt, until the last byte of the answer is read. */
  readonly attemptTimeoutMs?: number;
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
  /** `whsec_` and base64. All of them sign: the current one first, then those whose grace has not ended. */
  readonly secrets: readonly string[];
  readonly signal?: AbortSignal;
};

export type WebhookChannel = AsyncDisposable & {
  /** The longest time that an attempt takes. */
  readonly attemptTimeoutMs: number;
  /**
   * Makes one attempt. A 2xx succeeded, 410 is permanent, everything else is transient. Redirects are not followed. A
   * 2xx whose body is longer than the cap still succeeded: the receiver has accepted the webhook, and sending it again
   * would be a repeat. A 2xx whose body does not end in time is a timeout. Never rejects for what the target does.
   * Throws a RangeError when there are no secrets: an unsigned webhook must not leave.
   */
  send(request: WebhookRequest): Promise<AttemptResult>;
};

const PROVIDER = "webhook";
const KEEP_ALIVE_MS = 4_000;
// Beyond this many open connections none is kept alive, so that idle ones do not use up file descriptors.
const MAX_KEPT_CONNECTIONS = 256;
const MAX_RETRY_AFTER_MS = DAY_MS;

type Answer = { readonly status: number; readonly body: string; readonly retryAfter: string | null };

/** Makes the channel. Disposing it closes its connections. Attempts still under way then end as `cancelled`. */
export function createWebhookChannel(options: WebhookChannelOptions): WebhookChannel {
  const { guard, userAgent = "ChatAPI-Webhook/1" } = options;
  const { connectTimeoutMs = 5_000, attemptTimeoutMs = 15_000, maxResponseBytes = 65_536 } = options;
  let openConnections = 0;

  const agent = new Agent({
    allowH2: false,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MS,
    // The attempt's own deadline covers both.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: ({ hostname, port, protocol }, callback) => {
      const tls = protocol === "https:";
      const target = { host: hostname, port: Number(port) || (tls ? 443 : 80), tls, alpn: ["http/1.1"] };
      openSocket({ guard, timeoutMs: connectTimeoutMs, ...target }).then(
        (socket) => {
          openConnections += 1;
          socket.once("close", () => {
            openConnections -= 1;
          });
          callback(null, socket);
        },
        (failure: Error) => callback(failure, null),
      );
    },
  });

  async function exchange(url: URL, request: WebhookRequest, signal: AbortSignal): Promise<Answer> {
    const response = await agent.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: "POST",
      headers: {
        "content-type": "application/json",
        "user-agent": userAgent,
        ...signatureHeaders(request),
      },
      body: request.body,
      signal,
      reset: openConnections >= MAX_KEPT_CONNECTIONS,
    });
    const retryAfter = response.headers["retry-after"];
    return {
      status: response.statusCode,
      body: storedText(await readCapped(response.body, maxResponseBytes)),
      retryAfter: (Array.isArray(retryAfter) ? retryAfter[0] : retryAfter) ?? null,
    };
  }

  async function send(request: WebhookRequest): Promise<AttemptResult> {
    if (request.secrets.length === 0) throw new RangeError("a webhook needs a secret to be signed with");
    const url = parseWebhookUrl(request.url);
    if (!(url instanceof URL)) return failed("invalid_target", `The URL ${url.reason}`);
    using time = deadline(attemptTimeoutMs, request.signal);
    try {
      return judge(await exchange(url, request, time.signal), request.timestamp);
    } catch (error) {
      if (request.signal?.aborted) return failed("cancelled", "The attempt was cancelled");
      if (time.isUp) return failed("timeout", `No complete answer within ${attemptTimeoutMs / SECOND_MS} s`);
      return failureOf(error);
    }
  }

  return { attemptTimeoutMs, send, [Symbol.asyncDispose]: () => agent.destroy() };
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

/** Reads at most `limit` bytes. Leaving the loop early destroys the connection. */
async function readCapped(body: Dispatcher.ResponseData["body"], limit: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    const bytes = Buffer.from(chunk);
    chunks.push(bytes);
    length += bytes.length;
    if (length >= limit) break;
  }
  return Buffer.concat(chunks).subarray(0, limit);
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
  if (error instanceof errors.ClientDestroyedError || error instanceof errors.ClientClosedError) {
    return failed("cancelled", "The attempt was cancelled");
  }
  const fault = networkFault(error);
  if (fault) return failed(fault.code, fault.message);
  if (error instanceof errors.HTTPParserError || error instanceof errors.HeadersOverflowError) {
    return failed("protocol_error", "The target's answer is not valid HTTP");
  }
  return failed("network_failure", "The connection failed");
}

/** `Retry-After`, given in seconds or as an HTTP date, in ms from now, between 0 and 24 h. Null when it is unusable. */
export function retryAfterMs(value: string | null, now: Instant): number | null {
  if (value === null) return null;
  const text = value.trim();
  const seconds = /^\d+$/.test(text) ? Number(text) * SECOND_MS : null;
  const wait = seconds ?? (/[A-Za-z]{3}/.test(text) ? Date.parse(text) - now : Number.NaN);
  return Number.isNaN(wait) ? null : Math.min(Math.max(0, wait), MAX_RETRY_AFTER_MS);
}
