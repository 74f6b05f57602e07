// channels/email/ses.ts: sends mails through Amazon SES, v2, as MIME, each request signed (Signature Version 4).

import { createHash, createHmac, type Hash, type Hmac } from "node:crypto";
import type { SignatureV4 } from "@smithy/signature-v4";
import { z } from "zod";
import { DELIVERY_ARGUMENT } from "../../contract/providers.ts";
import type { ProviderSettings } from "../../domain/provider.ts";
import { type ApiAnswer, type ApiRefusal, type MailApi, USER_AGENT } from "./http-api.ts";
import { addressedTo, type MailParts } from "./message.ts";
import { composeMail } from "./mime.ts";

type SesSettings = Extract<ProviderSettings, { type: "ses" }>;

/** `now`: the time that requests are signed with. */
export function ses({ config }: SesSettings, now: () => number): MailApi {
  const { access_key_id, secret_access_key, region, configuration_set, base_url } = config;
  const origin = base_url ?? `https://email.${region}.amazonaws.com`;
  const credentials = { accessKeyId: access_key_id, secretAccessKey: secret_access_key };
  // Loaded with the first request: few servers send through Amazon.
  let signing: Promise<SignatureV4> | undefined;
  const openSigner = async (): Promise<SignatureV4> => {
    const { SignatureV4: Signer } = await import("@smithy/signature-v4");
    return new Signer({ service: "ses", region, credentials, sha256: Sha256 });
  };

  async function signed(method: "GET" | "POST", path: string, body: string | null) {
    const url = new URL(`${origin}${path}`);
    const { protocol, hostname, host } = url;
    const headers = {
      host,
      "user-agent": USER_AGENT,
      ...(body === null ? {} : { "content-type": "application/json" }),
    };
    const request = { method, protocol, hostname, path, query: {}, headers, ...(body === null ? {} : { body }) };
    signing ??= openSigner();
    const { headers: all } = await (await signing).sign(request, { signingDate: new Date(now()) });
    return { method, url, headers: all, body };
  }

  async function send(parts: MailParts) {
    const { message } = await composeMail(parts);
    const { to, cc, bcc } = addressedTo(parts);
    const addresses = (all: typeof to) => all.map(({ address }) => address);
    const tags = parts.tags.map((Value, nth) => ({ Name: nth === 0 ? "tag" : `tag_${nth + 1}`, Value }));
    const body = JSON.stringify({
      FromEmailAddress: parts.from.address,
      Destination: { ToAddresses: addresses(to), CcAddresses: addresses(cc), BccAddresses: addresses(bcc) },
      Content: { Raw: { Data: message.toString("base64") } },
      EmailTags: [{ Name: DELIVERY_ARGUMENT, Value: tagValue(parts.deliveryId) }, ...tags],
      ...(configuration_set === null ? {} : { ConfigurationSetName: configuration_set }),
    });
    return signed("POST", "/v2/email/outbound-emails", body);
  }

  return {
    ...{ origin, account: access_key_id, secrets: [secret_access_key], send },
    probe: () => signed("GET", "/v2/email/account", null),
    accepted: ({ json }) => ({ messageId: Accepted.safeParse(json).data?.MessageId ?? null }),
    refused,
    // A key that may only send may not read the account: its signature was right all the same.
    probed: (answer) =>
      answer.status === 200 || (answer.status === 403 && errorType(answer) === "AccessDeniedException"),
  };
}

const tagValue = (text: string): string => text.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 256);

/** SHA-256, or HMAC with it, in the shape that the signer wants. */
class Sha256 {
  #hash: Hash | Hmac;
  readonly #secret: string | Uint8Array | undefined;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#secret = secret === undefined || typeof secret === "string" ? secret : bytesOf(secret);
    this.#hash = this.#start();
  }
  #start(): Hash | Hmac {
    return this.#secret === undefined ? createHash("sha256") : createHmac("sha256", this.#secret);
  }
  update(data: Uint8Array): void {
    this.#hash.update(data);
  }
  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
  reset(): void {
    this.#hash = this.#start();
  }
}
const bytesOf = (data: ArrayBuffer | ArrayBufferView): Uint8Array =>
  ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);

const Accepted = z.object({ MessageId: z.string() });
const Refused = z.object({
  __type: z.string().nullish(),
  code: z.string().nullish(),
  message: z.string().nullish(),
  Message: z.string().nullish(),
});

/** The error's name, from the header or the body, without a namespace or a link behind it. */
function errorType({ header, json }: ApiAnswer): string {
  const body = Refused.safeParse(json).data;
  const type = header("x-amzn-errortype") ?? body?.__type ?? body?.code ?? "";
  return type.split(":", 1)[0]?.split("#").at(-1) ?? "";
}

const ACCOUNT: readonly string[] = [
  ...["AccountSuspendedException", "SendingPausedException", "NotFoundException", "UnrecognizedClientException"],
  ...["InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature"],
  ...["IncompleteSignatureException", "MissingAuthenticationToken", "MissingAuthenticationTokenException"],
  ...["AccessDeniedException", "NotAuthorized", "OptInRequired", "ExpiredTokenException", "RequestExpired"],
];
const TRANSIENT: readonly string[] = [
  ...["TooManyRequestsException", "LimitExceededException", "ThrottlingException", "Throttling"],
  ...["ServiceUnavailable", "InternalFailure", "ConcurrentModificationException"],
];

function refused(answer: ApiAnswer, parts: MailParts | null): ApiRefusal {
  const type = errorType(answer);
  const body = Refused.safeParse(answer.json).data;
  const message = body?.message ?? body?.Message ?? "";
  if (TRANSIENT.includes(type)) return { transient: true };
  if (ACCOUNT.includes(type)) return { refusal: "account" };
  if (type === "MailFromDomainNotVerifiedException") return { refusal: "sender" };
  // In the sandbox recipients have to be verified too: then it is the account that may not send to others.
  if (type === "MessageRejected" && /\bnot verified\b/i.test(message)) {
    return { refusal: parts !== null && message.includes(parts.from.address) ? "sender" : "account" };
  }
  return {};
}
