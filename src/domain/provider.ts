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
import { type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import { event, reveal, sealed } from "./event.ts";

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

// Whether a provider takes mail: its circuit, as the client's events open and close it.

/** For how long a circuit opens at first. It doubles with each probe that fails. */
const FIRST_OPEN_MS = 30 * SECOND_MS;
const MAX_OPEN_MS = 10 * MINUTE_MS;
/** So many failures of transport in a row open a circuit. */
export const FAILURES_TO_OPEN = 3;

/** Why a provider is down: it refused the account, or could not be reached. */
const ProviderFaultSchema = z.enum(["account", "transport"]);
export type ProviderFault = z.infer<typeof ProviderFaultSchema>;

// Events of the client's stream. A storage format.
export const healthEvents = {
  /** The provider gets no mail until then, when one attempt tries it again. `reason`: the code of the attempt's error. */
  ProviderDown: event({
    data: z.object({
      name: z.string(),
      fault: ProviderFaultSchema,
      reason: z.string(),
      message: z.string(),
      until: z.number(),
    }),
  }),
  ProviderUp: event({ data: z.object({ name: z.string(), reason: z.string() }) }),
} as const;
type DownData = z.infer<(typeof healthEvents)["ProviderDown"]["data"]>;

// State.
export type ProviderHealth = {
  readonly since: Instant;
  readonly lastError: { readonly code: string; readonly message: string } | null;
  /** Null: it is up. `openings`: how often it opened in a row. */
  readonly circuit: { readonly fault: ProviderFault; readonly until: Instant; readonly openings: number } | null;
};

/** A provider of whose settings nothing is known yet. */
export const healthySince = (since: Instant): ProviderHealth => ({ since, lastError: null, circuit: null });

export function downSince({ since, circuit }: ProviderHealth, data: DownData, at: Instant): ProviderHealth {
  const { fault, reason: code, message, until } = data;
  const openings = (circuit?.openings ?? 0) + 1;
  return { since: circuit === null ? at : since, lastError: { code, message }, circuit: { fault, until, openings } };
}

export const upSince = (health: ProviderHealth, at: Instant): ProviderHealth => ({
  ...health,
  ...(health.circuit === null ? {} : { since: at, circuit: null }),
});

/** Until when a circuit opens now; null: it is open already. */
export function opensUntil({ circuit }: ProviderHealth, at: Instant): Instant | null {
  if (circuit !== null && /* fence: circuit-open */ circuit.until > at) return null;
  return at + Math.min(FIRST_OPEN_MS * 2 ** (circuit?.openings ?? 0), MAX_OPEN_MS);
}
