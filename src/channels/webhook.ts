// channels/webhook.ts: sends one webhook: signed, only to allowed addresses, within a time limit, the answer capped.

import { Webhook } from "standardwebhooks";
import { parseWebhookUrl } from "../contract/fields.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { type AttemptErrorCode, type AttemptResult, emptyResult, storedText } from "./attempt-result.ts";
import type { AddressGuard } from "./guard.ts";
import { attemptFailure, createHttpClient, type HttpAnswer, retryAfterMs } from "./outgoing-http.ts";
import { deadline } from "./outgoing-socket.ts";

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
  /** In place of the channel's own limit for an attempt. */
  readonly timeoutMs?: number;
};

const PROVIDER = "webhook";
export type WebhookChannel = ReturnType<typeof createWebhookChannel>;

/** Makes the channel. Disposing it closes its connections. Attempts still under way then end as `cancelled`. */
export function createWebhookChannel(options: WebhookChannelOptions) {
  const { guard, userAgent = "ChatAPI-Webhook/1", connectTimeoutMs = 5_000, attemptTimeoutMs = 15_000 } = options;
  const { bodyTimeoutMs = 5_000, maxResponseBytes = 65_536 } = options;
  const closing = new AbortController();
  const http = createHttpClient({ guard, connectTimeoutMs, bodyTimeoutMs, maxResponseBytes });

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
    const { timeoutMs = attemptTimeoutMs } = request;
    using time = deadline(timeoutMs, request.signal, closing.signal);
    try {
      const own = { "content-type": "application/json", "user-agent": userAgent, ...signatureHeaders(request) };
      const headers = { ...request.headers, ...own };
      const post = { method: "POST", url, headers, body: request.body } as const;
      return judge(await http.exchange(post, time.signal), request.timestamp);
    } catch (error) {
      const { code, message } = attemptFailure(error, time, timeoutMs);
      return failed(code, message);
    }
  }

  return {
    /** The longest time that an attempt takes. */
    attemptTimeoutMs,
    send,
    async [Symbol.asyncDispose]() {
      closing.abort();
      await http[Symbol.asyncDispose]();
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

function judge({ status, header, body }: HttpAnswer, now: Instant): AttemptResult {
  const result = { ...emptyResult(PROVIDER), response: { status, body: storedText(body) } };
  if (status >= 200 && status < 300) return { ...result, outcome: "succeeded" };
  if (status === 410) {
    const error = { code: "gone", message: "The receiver answered 410: it wants no more webhooks" } as const;
    return { ...result, outcome: "permanent", error };
  }
  const error = { code: "unexpected_status", message: `The receiver answered ${status}` } as const;
  return { ...result, outcome: "transient", error, retryAfterMs: retryAfterMs(header("retry-after"), now) };
}

function failed(code: AttemptErrorCode, message: string): AttemptResult {
  return { ...emptyResult(PROVIDER), outcome: "transient", error: { code, message } };
}
