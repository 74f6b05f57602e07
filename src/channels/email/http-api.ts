// channels/email/http-api.ts: sends mails through the HTTP API of a vendor. What is the vendor's own is in its file.

import { createHash } from "node:crypto";
import type { Refusal } from "../../contract/deliveries.ts";
import { SECOND_MS } from "../../contract/time.ts";
import type { ProviderSettings } from "../../domain/provider.ts";
import {
  type AttemptErrorCode,
  type AttemptResult,
  emptyResult,
  type RecipientResult,
  type Redact,
  redactor,
  storedText,
} from "../attempt-result.ts";
import {
  attemptFailure,
  type HttpAnswer,
  type HttpClient,
  type HttpRequest,
  httpFailure,
  retryAfterMs,
} from "../outgoing-http.ts";
import { ConnectFailure, type ConnectStage, deadline } from "../outgoing-socket.ts";
import { InvalidMail, type MailContent, type MailParts, partsOf } from "./message.ts";
import { type EmailProvider, type EmailVerdict, verdictMessage } from "./provider.ts";
import { testMail } from "./verify.ts";

/** A vendor's answer, its body read as JSON where it is JSON. */
export type ApiAnswer = Pick<HttpAnswer, "status" | "header"> & { readonly text: string; readonly json: unknown };

/** What an answer that took no mail says. Of what is left out the status decides. */
export type ApiRefusal = {
  readonly refusal?: Refusal | null;
  /** It may be taken later. */
  readonly transient?: boolean;
  readonly retryAfterMs?: number | null;
};

/** What is a vendor's own. Nothing in it waits or fails: it makes requests and reads answers. */
export type MailApi = {
  /** The origin of the API, without a slash at its end. */
  readonly origin: string;
  /** What the vendor knows the account by. */
  readonly account: string;
  readonly secrets: readonly (string | null)[];
  readonly send: (parts: MailParts) => Promise<HttpRequest>;
  /** A call that sends nothing, and that a key which may only send may make. */
  readonly probe: () => Promise<HttpRequest>;
  /** Of an answer with a status 2xx: the id that the vendor gave the mail, and the addresses that it will not deliver to. */
  readonly accepted: (answer: ApiAnswer) => { readonly messageId: string | null; readonly refused?: readonly string[] };
  readonly refused: (answer: ApiAnswer, parts: MailParts | null) => ApiRefusal;
  /** Whether the answer to the probe shows that the key may send. */
  readonly probed: (answer: ApiAnswer) => boolean;
};

const ATTEMPTS_AT_ONCE = 40;
export const USER_AGENT = "ChatAPI-Mail/1";

/** A short name of a key that tells accounts apart and gives none away. */
export const keyName = (key: string): string => createHash("sha256").update(key).digest("hex").slice(0, 12);

type ApiOptions = {
  readonly http: HttpClient;
  /** For one attempt. */
  readonly maxMs: number;
  readonly verifyTimeoutMs: number;
  /** Aborts when the channel closes. */
  readonly closing: AbortSignal;
};

/** A provider whose mails go through an API. */
export function apiProvider(settings: ProviderSettings, api: MailApi, options: ApiOptions): EmailProvider {
  const { http, maxMs, verifyTimeoutMs, closing } = options;
  const { name, type } = settings;
  const redact = redactor(api.secrets);
  const sender = { ...settings, tags: settings.options.tags };

  /**
   * Makes one attempt for the recipients that are not settled yet. A status 2xx: the vendor took the mail. 408, 425, 429,
   * 5xx and network faults are transient, a refused account too, other statuses permanent. A request that had left whole
   * when the connection broke or the time was up is unknown. Never rejects for what the vendor does.
   */
  async function send(mail: MailContent, signal?: AbortSignal): Promise<AttemptResult> {
    using time = deadline(maxMs, signal, closing);
    let handedOver = false;
    try {
      const parts = await partsOf(sender, mail);
      const request = await api.send(parts);
      const answer = await http.exchange(request, time.signal, () => {
        handedOver = true;
      });
      return judge({ name, api, redact, parts, mail }, read(answer));
    } catch (error) {
      const result = emptyResult(name);
      if (error instanceof InvalidMail) {
        return { ...result, outcome: "permanent", error: { code: "invalid_message", message: error.message } };
      }
      const outcome = handedOver ? "unknown" : "transient";
      return { ...result, outcome, error: attemptFailure(error, time, maxMs) };
    }
  }

  async function verify(toEmail: string | null): Promise<EmailVerdict> {
    using time = deadline(verifyTimeoutMs, closing);
    try {
      const answer = read(await http.exchange(await api.probe(), time.signal));
      if (!api.probed(answer)) {
        const code = isTransient(answer.status) ? "unexpected_status" : "auth_failed";
        const message = `The provider answered ${answer.status} to a check of the key`;
        return { ok: false, stage: "auth", code, message: verdictMessage(message, redact(answer.text)) };
      }
      if (toEmail === null) return { ok: true, stage: "auth", code: null, message: null };
      const { outcome, error, response } = await send(testMail(toEmail), time.signal);
      const message = error === null ? null : verdictMessage(error.message, response?.body ?? "");
      return { ok: outcome === "succeeded", stage: "send", code: error?.code ?? null, message };
    } catch (error) {
      const stage: ConnectStage | "auth" = error instanceof ConnectFailure ? error.stage : "auth";
      const message = `The provider took longer than ${verifyTimeoutMs / SECOND_MS} s`;
      if (time.signal.aborted) return { ok: false, stage, code: "timeout", message };
      return { ok: false, stage, ...httpFailure(error) };
    }
  }

  return {
    ...{ name, type, account: `${type}:${api.origin}:${api.account}`, attemptsAtOnce: ATTEMPTS_AT_ONCE },
    ...{ maxMs, send, verify },
  };
}

function read({ status, header, body }: HttpAnswer): ApiAnswer {
  const text = new TextDecoder().decode(body);
  return { status, header, text, json: jsonIn(text) };
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A redirect is none of an API's answers: something else answers there, for now. */
const isTransient = (status: number): boolean => status >= 500 || status < 400 || [408, 425, 429].includes(status);

type Sent = {
  readonly name: string;
  readonly api: MailApi;
  readonly redact: Redact;
  readonly parts: MailParts;
  readonly mail: MailContent;
};

function judge({ name, api, redact, parts, mail }: Sent, answer: ApiAnswer): AttemptResult {
  const { status } = answer;
  const response = { status, body: storedText(Buffer.from(redact(answer.text))) };
  const result = { ...emptyResult(name), response };
  if (status >= 200 && status < 300) {
    const { messageId, refused = [] } = api.accepted(answer);
    const each = recipientResults(parts, refused, status);
    const own = each.find(({ index }) => index === 0);
    if (own?.outcome === "refused") {
      const error = { code: REFUSED.recipient, message: "The provider refused the recipient" };
      return { ...result, outcome: "permanent", error, refusal: "recipient", recipients: each };
    }
    return { ...result, outcome: "succeeded", providerMessageId: messageId, recipients: each };
  }
  const said = api.refused(answer, parts);
  const retryAfter = said.retryAfterMs ?? retryAfterMs(answer.header("retry-after"), mail.at);
  if (said.transient ?? isTransient(status)) {
    const error = { code: "unexpected_status", message: `The provider answered ${status}` } as const;
    return { ...result, outcome: "transient", error, retryAfterMs: retryAfter };
  }
  const refusal = said.refusal ?? ([401, 403].includes(status) ? "account" : null);
  const error = {
    code: REFUSED[refusal ?? "message"],
    message: `The provider refused the ${refusal ?? "mail"} (${status})`,
  };
  // A mail is not at fault for the account, which may be put right.
  const outcome = refusal === "account" ? "transient" : "permanent";
  return { ...result, outcome, error, refusal, retryAfterMs: outcome === "transient" ? retryAfter : null };
}

const REFUSED: Readonly<Record<Refusal | "message", AttemptErrorCode>> = {
  account: "auth_failed",
  sender: "sender_refused",
  recipient: "recipient_refused",
  message: "message_refused",
};

/** What became of each recipient of this attempt. Of a mail without copies the attempt's outcome says it. */
function recipientResults(
  { envelope: { to, indexes, total } }: MailParts,
  refused: readonly string[],
  status: number,
): readonly RecipientResult[] {
  if (total === 1) return [];
  const known = new Set(refused.map((address) => address.toLowerCase()));
  return indexes.map((index, nth) => {
    const outcome = known.has(to[nth]?.toLowerCase() ?? "") ? "refused" : "taken";
    return { index, outcome, status };
  });
}
