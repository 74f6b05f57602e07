// Email providers: what requests send and answers show.
import { z } from "zod";
import {
  canonicalMailAddress,
  input,
  line,
  mailAddress,
  orNull,
  parseWebhookUrl,
  pattern,
  refuse,
  text,
  time,
} from "./fields.ts";

export const ProviderTypeSchema = z.enum(["smtp", "mailgun", "sendgrid", "postmark", "ses"]);
export type ProviderType = z.infer<typeof ProviderTypeSchema>;
export const SmtpSecuritySchema = z.enum(["starttls", "tls", "none"]);
export const MailgunRegionSchema = z.enum(["us", "eu"]);
export const SendgridRegionSchema = z.enum(["global", "eu"]);
export const ProviderUseSchema = z.enum(["single", "bulk"]);

/** The name under which each mail carries its delivery's id to a provider, which gives it back with what it reports. */
export const DELIVERY_ARGUMENT = "chatapi_delivery";
/** The header in which each mail carries it. */
export const DELIVERY_HEADER = "X-ChatAPI-Delivery";

// Answers.

const ProviderHealth = z.object({
  state: z
    .enum(["up", "down", "paused"])
    .describe("`down`: it refused the account, or could not be reached; it gets no mail until a probe succeeds"),
  since: time,
  last_error: z.object({ code: z.string(), message: z.string() }).nullable(),
});

const secret = z.object({ set: z.literal(true) }).describe("That there is one; never the secret");
const base_url = z.string().nullable().describe("Another origin of the API than the region's own");
const CONFIGS = {
  smtp: z.object({
    host: z.string(),
    port: z.int(),
    username: z.string().nullable(),
    password: secret.nullable(),
    security: SmtpSecuritySchema,
    dkim: z.object({ domain: z.string(), selector: z.string(), private_key: secret }).nullable(),
  }),
  mailgun: z.object({
    api_key: secret,
    domain: z.string(),
    region: MailgunRegionSchema,
    webhook_signing_key: secret.nullable(),
    base_url,
  }),
  sendgrid: z.object({
    api_key: secret,
    region: SendgridRegionSchema,
    webhook_public_key: z.string().nullable(),
    base_url,
  }),
  postmark: z.object({
    server_token: secret,
    message_stream: z.string().nullable(),
    webhook_username: z.string().nullable(),
    webhook_password: secret.nullable(),
    base_url,
  }),
  ses: z.object({
    access_key_id: z.string(),
    secret_access_key: secret,
    region: z.string(),
    configuration_set: z.string().nullable(),
    sns_topic_arn: z.string().nullable(),
    base_url,
  }),
} as const;

const shownOfEvery = {
  from_email: z.string(),
  from_name: z.string().nullable(),
  from_domains: z.array(z.string()),
  reply_to: z.string().nullable(),
  use_for: z.array(ProviderUseSchema),
  order: z.int(),
  events_url: z.string().nullable().describe("Where its vendor is to post what becomes of mails; a secret"),
  options: z.object({
    rate_per_second: z.number().nullable(),
    timeout_seconds: z.number().nullable(),
    weight: z.number().nullable(),
    return_path: z.string().nullable().describe("Of smtp: the domain that receiving servers return mails to"),
    tags: z.array(z.string()),
    track_opens: z.boolean().nullable(),
    track_clicks: z.boolean().nullable(),
  }),
  health: ProviderHealth,
};
const shownAs = <T extends ProviderType>(type: T) =>
  z.object({ name: z.string(), type: z.literal(type), config: CONFIGS[type], ...shownOfEvery });

export const ProviderResource = z
  .discriminatedUnion("type", [
    shownAs("smtp"),
    shownAs("mailgun"),
    shownAs("sendgrid"),
    shownAs("postmark"),
    shownAs("ses"),
  ])
  .meta({ id: "EmailProvider" });
export type ProviderResource = z.infer<typeof ProviderResource>;

export const ProviderVerdict = z
  .object({
    ok: z.boolean(),
    stage: z
      .enum(["resolve", "connect", "tls", "auth", "send"])
      .describe("The last one passed, or the one that failed"),
    code: z.string().nullable(),
    message: z.string().nullable().describe("At most 200 characters"),
  })
  .meta({ id: "ProviderVerdict" });
export type ProviderVerdict = z.infer<typeof ProviderVerdict>;

// Requests.

export const ProviderParams = z.object({
  name: pattern(/^[a-z0-9][a-z0-9_-]{0,63}$/, "of a-z 0-9 _ - and begin with a-z 0-9", 1, 64),
});
export const VerifiedProviderParams = z.object({ name: z.string() });

/** Text that stands in headers, or in a dialogue of lines. */
const headerLine = (max: number) => line(max, /\p{Cc}/u, "must not contain control characters");
/** A key as it stands in a header of HTTP. */
const apiKey = (max = 512) => line(max, /[^\x21-\x7e]/, "must be of visible ASCII characters");
const MAX_DOMAIN_LENGTH = 253;
/** A domain that mails may be from; becomes lower-case ASCII. */
const mailDomain = z
  .string()
  .transform((value, context) => {
    if (value.length > MAX_DOMAIN_LENGTH) {
      refuse(context, "too_long", `must have at most ${MAX_DOMAIN_LENGTH} characters`);
      return z.NEVER;
    }
    const address = canonicalMailAddress(`a@${value}`);
    if (address !== undefined) return address.slice("a@".length);
    refuse(context, "invalid_format", "must be a domain");
    return z.NEVER;
  })
  .meta({ minLength: 1, maxLength: MAX_DOMAIN_LENGTH });
/** Scheme, host and port alone. */
const origin = z
  .string()
  .transform((value, context) => {
    const url = parseWebhookUrl(value);
    if ("ok" in url) refuse(context, url.code, url.reason);
    else if (url.pathname !== "/" || url.search !== "")
      refuse(context, "not_allowed", "must be an origin, without a path or a query");
    else return url.origin;
    return z.NEVER;
  })
  .meta({ format: "uri", maxLength: 2_048, description: "Another origin of the API than the region's own." });

const MAX_DOMAINS = 50;
const MAX_TAGS = 5;
export const MAX_TIMEOUT_SECONDS = 45;
const unique = <T>(given: readonly T[]): T[] => [...new Set(given)];

const ofEvery = {
  from_email: mailAddress,
  from_name: orNull(headerLine(200)),
  from_domains: orNull(z.array(mailDomain).max(MAX_DOMAINS).transform(unique)).meta({
    description: "Domains that mails may be from, beside that of `from_email`.",
  }),
  reply_to: orNull(mailAddress),
  use_for: orNull(z.array(ProviderUseSchema).min(1).max(2).transform(unique)),
  order: z.int().min(0).max(1_000).default(0),
  options: orNull(
    input({
      rate_per_second: orNull(z.number().min(0.01).max(1_000)),
      timeout_seconds: orNull(z.int().min(1).max(MAX_TIMEOUT_SECONDS)),
      weight: orNull(z.int().min(1).max(1_000)).meta({ description: "The share among providers of one `order`; 1." }),
      return_path: orNull(mailDomain).meta({
        description:
          "Of smtp alone: mails are sent from an address of their own at this domain, which INBOUND_SMTP receives for.",
      }),
      tags: orNull(
        z
          .array(pattern(/^[A-Za-z0-9_-]{1,64}$/, "of A-Z a-z 0-9 _ -", 1, 64))
          .max(MAX_TAGS)
          .transform(unique),
      ),
      track_opens: orNull(z.boolean()).meta({ description: "Not of smtp and ses, which have no such setting." }),
      track_clicks: orNull(z.boolean()).meta({ description: "Not of smtp and ses, which have no such setting." }),
    }),
  ),
};

const SmtpInput = input({
  type: z.literal("smtp"),
  config: input({
    host: headerLine(255),
    port: z.int().min(1).max(65_535),
    username: orNull(headerLine(255)),
    password: orNull(headerLine(1_024)),
    security: SmtpSecuritySchema.default("starttls"),
    dkim: orNull(
      input({
        domain: mailDomain,
        selector: pattern(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "of A-Z a-z 0-9 . _ -", 1, 63),
        private_key: text(1, 8_192).meta({ description: "PEM; RSA of 1,024 to 4,096 bits, or Ed25519." }),
      }),
    ),
  }),
  ...ofEvery,
});
const MailgunInput = input({
  type: z.literal("mailgun"),
  config: input({
    api_key: apiKey(),
    domain: mailDomain,
    region: MailgunRegionSchema.default("us"),
    webhook_signing_key: orNull(apiKey()),
    base_url: orNull(origin),
  }),
  ...ofEvery,
});
const SendgridInput = input({
  type: z.literal("sendgrid"),
  config: input({
    api_key: apiKey(),
    region: SendgridRegionSchema.default("global"),
    webhook_public_key: orNull(text(1, 2_048)).meta({
      description: "Of the signed event webhook: the key that SendGrid shows, or PEM.",
    }),
    base_url: orNull(origin),
  }),
  ...ofEvery,
});
const PostmarkInput = input({
  type: z.literal("postmark"),
  config: input({
    server_token: apiKey(),
    message_stream: orNull(pattern(/^[A-Za-z0-9_-]{1,64}$/, "of A-Z a-z 0-9 _ -", 1, 64)),
    webhook_username: orNull(headerLine(255)),
    webhook_password: orNull(headerLine(255)),
    base_url: orNull(origin),
  }),
  ...ofEvery,
});
const SesInput = input({
  type: z.literal("ses"),
  config: input({
    access_key_id: pattern(/^\w{1,128}$/, "of A-Z a-z 0-9 _", 1, 128),
    secret_access_key: apiKey(),
    region: pattern(/^[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}$/, "a region such as eu-central-1", 1, 48),
    configuration_set: orNull(pattern(/^[A-Za-z0-9_-]{1,64}$/, "of A-Z a-z 0-9 _ -", 1, 64)),
    sns_topic_arn: orNull(
      pattern(
        /^arn:aws[a-z-]{0,16}:sns:[a-z0-9-]{1,48}:\d{12}:[A-Za-z0-9_-]{1,256}$/,
        "the ARN of an SNS topic",
        1,
        384,
      ),
    ),
    base_url: orNull(origin),
  }),
  ...ofEvery,
});

export const ProviderInput = z.discriminatedUnion("type", [
  SmtpInput,
  MailgunInput,
  SendgridInput,
  PostmarkInput,
  SesInput,
]);
export type ProviderInput = z.output<typeof ProviderInput>;
export const Verification = input({ to_email: orNull(mailAddress) });
