// domain/provider.ts: an email provider of a client, as the client's events keep it.
import { z } from "zod";
import { ClientIdSchema } from "../contract/ids.ts";
import { isObject, type JsonObject } from "../contract/json.ts";
import {
  MailgunRegionSchema,
  ProviderTypeSchema,
  ProviderUseSchema,
  SendgridRegionSchema,
  SmtpSecuritySchema,
} from "../contract/providers.ts";
import { reveal, sealed } from "./event.ts";

// Each type's config, named as in requests. A storage format: sealed, and of one shape with its type only.
const dkim = z.object({ domain: z.string(), selector: z.string(), private_key: z.string() });
const smtp = z.object({
  host: z.string(),
  port: z.number(),
  username: z.string().nullable(),
  password: z.string().nullable(),
  security: SmtpSecuritySchema,
  dkim: dkim.nullable(),
});
const baseUrl = z.string().nullable();
const mailgun = z.object({
  api_key: z.string(),
  domain: z.string(),
  region: MailgunRegionSchema,
  webhook_signing_key: z.string().nullable(),
  base_url: baseUrl,
});
const sendgrid = z.object({
  api_key: z.string(),
  region: SendgridRegionSchema,
  webhook_public_key: z.string().nullable(),
  base_url: baseUrl,
});
const postmark = z.object({
  server_token: z.string(),
  message_stream: z.string().nullable(),
  webhook_username: z.string().nullable(),
  webhook_password: z.string().nullable(),
  base_url: baseUrl,
});
const ses = z.object({
  access_key_id: z.string(),
  secret_access_key: z.string(),
  region: z.string(),
  configuration_set: z.string().nullable(),
  sns_topic_arn: z.string().nullable(),
  base_url: baseUrl,
});

const typedConfig = z.discriminatedUnion("type", [
  z.object({ type: z.literal("smtp"), config: smtp }),
  z.object({ type: z.literal("mailgun"), config: mailgun }),
  z.object({ type: z.literal("sendgrid"), config: sendgrid }),
  z.object({ type: z.literal("postmark"), config: postmark }),
  z.object({ type: z.literal("ses"), config: ses }),
]);
/** A type and its config. */
export type TypedConfig = z.infer<typeof typedConfig>;
/** The same without anything beside it. */
export const typedConfigOf = (given: TypedConfig): TypedConfig => typedConfig.parse(given);

const options = z.object({
  ratePerSecond: z.number().nullable(),
  timeoutSeconds: z.number().nullable(),
  /** The share among providers of the same order. Null: 1. */
  weight: z.number().nullable(),
  /** Of SMTP: the domain at which receiving servers report to us. Null: they report to the sender. */
  returnPath: z.string().nullable(),
  /** On every mail, beside the mail's own. */
  tags: z.array(z.string()),
  /** Null: as the account says. */
  trackOpens: z.boolean().nullable(),
  trackClicks: z.boolean().nullable(),
});
/** What stands for the mailbox of development mode where a provider's name does. */
export const DEVELOPMENT_MAILBOX = "development-mailbox";

/** Of a provider that sets none. */
export const NO_OPTIONS: z.infer<typeof options> = {
  ...{ ratePerSecond: null, timeoutSeconds: null, weight: null, returnPath: null, tags: [] },
  ...{ trackOpens: null, trackClicks: null },
};
export const provider = z.object({
  client: ClientIdSchema,
  name: z.string(),
  type: ProviderTypeSchema,
  config: sealed(z.union([smtp, mailgun, sendgrid, postmark, ses])),
  fromEmail: z.string(),
  fromName: z.string().nullable(),
  /** Domains that mails may be from, beside that of `fromEmail`; in lower-case ASCII. */
  fromDomains: z.array(z.string()),
  replyTo: z.string().nullable(),
  useFor: z.array(ProviderUseSchema),
  order: z.number(),
  options,
});
export type ProviderData = z.infer<typeof provider>;

/** From SMTP alone to providers of every type. */
export function upcastToEveryType(data: JsonObject): JsonObject {
  const { config, options } = data;
  const open = isObject(config) && isObject(config.open) ? { open: { ...config.open, dkim: null } } : config;
  const all = { ...NO_OPTIONS, ...(isObject(options) ? options : {}) };
  return { ...data, config: open ?? null, fromDomains: [], options: all };
}

/** A provider with its secrets, as it is used for sending. */
export type ProviderSettings = TypedConfig &
  Pick<ProviderData, "name" | "fromEmail" | "fromName" | "replyTo" | "options">;

/** What a provider sends with. Null when its secrets were erased. */
export function settingsOf({ type, config, ...data }: ProviderData): ProviderSettings | null {
  const known = typedConfig.safeParse({ type, config: reveal(config) });
  if (!known.success) return null;
  const { name, fromEmail, fromName, replyTo, options } = data;
  return { ...known.data, name, fromEmail, fromName, replyTo, options };
}
