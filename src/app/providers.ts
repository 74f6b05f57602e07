// Email providers: the servers through which a client's mail goes out.
import { dkimKeyFault } from "../channels/email/dkim.ts";
import { sendgridKey } from "../channels/email/events/sendgrid.ts";
import { onBehalfOf } from "../channels/resolver.ts";
import type { FieldFault } from "../contract/errors.ts";
import type { PageQuery } from "../contract/fields.ts";
import { isObject } from "../contract/json.ts";
import {
  type ProviderInput,
  type ProviderResource,
  ProviderTypeSchema,
  type ProviderVerdict,
} from "../contract/providers.ts";
import { rfc3339 } from "../contract/time.ts";
import type { Provider } from "../domain/client.ts";
import { DomainError, type IfMatch } from "../domain/decider.ts";
import { seal } from "../domain/event.ts";
import { healthySince, settingsOf, typedConfigOf } from "../domain/provider.ts";
import type { Position } from "../event-store/event-store.ts";
import { type Page, pageOf, readCursor } from "../projections/page.ts";
import { executeOnClient, ownClient } from "./clients.ts";
import { invalid } from "./errors.ts";
import type { Call } from "./services.ts";

/** The client's providers in the order in which they are tried. */
async function providersOf(call: Call): Promise<readonly Provider[]> {
  const { providers } = await ownClient(call);
  return providers.toSorted((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
}

async function providerNamed(call: Call, name: string): Promise<Provider> {
  const found = (await providersOf(call)).find((one) => one.name === name);
  if (found === undefined) throw new DomainError("not_found");
  return found;
}

/** Settings, never secrets. Null when they were erased. */
function shown({ services: { links } }: Pick<Call, "services">, data: Provider): ProviderResource | null {
  const settings = settingsOf(data);
  if (settings === null) return null;
  const { name, fromEmail, fromName, fromDomains, replyTo, useFor, order, options, health } = data;
  const rest = {
    ...{ name, from_email: fromEmail, from_name: fromName, from_domains: fromDomains, reply_to: replyTo },
    ...{ use_for: useFor, order },
    events_url: settings.type === "smtp" ? null : links.eventsUrl({ client: data.client, provider: name }),
    options: {
      ...{ rate_per_second: options.ratePerSecond, timeout_seconds: options.timeoutSeconds, weight: options.weight },
      ...{ return_path: options.returnPath, tags: options.tags },
      ...{ track_opens: options.trackOpens, track_clicks: options.trackClicks },
    },
    health: {
      state: health.circuit === null ? ("up" as const) : ("down" as const),
      since: rfc3339(health.since),
      last_error: health.lastError,
    },
  };
  switch (settings.type) {
    case "smtp": {
      const { type, config } = settings;
      const dkim = config.dkim === null ? null : { ...config.dkim, private_key: SET };
      return { type, config: { ...config, password: setOrNull(config.password), dkim }, ...rest };
    }
    case "mailgun": {
      const { type, config } = settings;
      const webhook_signing_key = setOrNull(config.webhook_signing_key);
      return { type, config: { ...config, api_key: SET, webhook_signing_key }, ...rest };
    }
    case "sendgrid":
      return { type: settings.type, config: { ...settings.config, api_key: SET }, ...rest };
    case "postmark": {
      const { type, config } = settings;
      const webhook_password = setOrNull(config.webhook_password);
      return { type, config: { ...config, server_token: SET, webhook_password }, ...rest };
    }
    case "ses":
      return { type: settings.type, config: { ...settings.config, secret_access_key: SET }, ...rest };
  }
}

const SET = { set: true } as const;
const setOrNull = (secret: string | null) => (secret === null ? null : SET);

type ShownProvider = { readonly provider: ProviderResource; readonly etag: number };

/** Throws not_found when its secrets were erased. */
function shownNow(call: Call, data: Provider): ShownProvider {
  const provider = shown(call, data);
  if (provider === null) throw new DomainError("not_found");
  return { provider, etag: data.changedSeq };
}

/** What no schema sees of a body as it was sent. */
export function providerFaults(body: unknown): readonly FieldFault[] {
  const given = isObject(body) ? body : {};
  const config = isObject(given.config) ? given.config : {};
  const typed = ProviderTypeSchema.safeParse(given.type).success;
  // Without its type nothing else of it is looked at.
  const untyped =
    typed || !isObject(body) ? [] : ["config", "from_email"].filter((field) => given[field] === undefined);
  const pairs = [
    ["username", "password"],
    ["webhook_username", "webhook_password"],
  ].filter(
    ([username = "", password = ""]) => (config[password] ?? null) !== null && (config[username] ?? null) === null,
  );
  return [
    ...optionFaults(given),
    ...untyped.map((path) => ({ path, code: "required" as const, message: "is required" })),
    ...pairs.map(([username = ""]) => {
      return { path: `config.${username}`, code: "required" as const, message: "is required with a password" };
    }),
  ];
}

/** Options that a provider of the type has no way to follow. */
function optionFaults({ type, options }: Readonly<Record<string, unknown>>): readonly FieldFault[] {
  const given = isObject(options) ? options : {};
  const refuse = (name: string, why: string): FieldFault => {
    return { path: `options.${name}`, code: "not_allowed", message: `must be left out with ${String(type)}: ${why}` };
  };
  const tracks = ["track_opens", "track_clicks"].filter((name) => given[name] === true);
  const own = type === "smtp" || type === "ses" ? tracks : [];
  const returned =
    ProviderTypeSchema.safeParse(type).success && type !== "smtp" && (given.return_path ?? null) !== null;
  return [
    ...(returned ? [refuse("return_path", "its events come to events_url")] : []),
    ...own.map((name) =>
      refuse(name, type === "ses" ? "its configuration set says what is tracked" : "SMTP tracks nothing"),
    ),
  ];
}

/** What the network, or the keys themselves, say against a config. */
async function configFaults(call: Call, { type, config }: ProviderInput): Promise<readonly FieldFault[]> {
  const { services, caller } = call;
  const target = type === "smtp" ? config.host : (URL.parse(config.base_url ?? "")?.hostname ?? null);
  const check = (host: string) => onBehalfOf(caller.client, () => services.guard.checkHost(unbracketed(host)));
  const verdict = target === null ? ({ ok: true } as const) : await check(target);
  const path = type === "smtp" ? "config.host" : "config.base_url";
  // fence: ssrf-provider
  const faults = verdict.ok ? [] : [{ path, code: verdict.code, message: verdict.reason }];
  const dkim = type === "smtp" && config.dkim !== null ? dkimKeyFault(config.dkim.private_key) : null;
  const events = type === "sendgrid" && config.webhook_public_key !== null && !isEventKey(config.webhook_public_key);
  return [
    ...faults,
    ...(dkim === null ? [] : [invalidFormat("config.dkim.private_key", dkim)]),
    ...(events ? [invalidFormat("config.webhook_public_key", "must be an ECDSA public key")] : []),
  ];
}

const invalidFormat = (path: string, message: string): FieldFault => ({ path, code: "invalid_format", message });
const unbracketed = (host: string): string => host.replace(/^\[(.*)\]$/, "$1");

/** Whether this is a public key of ECDSA. A public key can be had of a private one too. */
const isEventKey = (text: string): boolean =>
  sendgridKey(text)?.asymmetricKeyType === "ec" && !text.includes("PRIVATE KEY");

/** `created`: it is new. Throws validation_failed, provider_limit. */
export async function putProvider(
  call: Call,
  name: string,
  wanted: ProviderInput,
  { ifMatch, onlyNew }: { readonly ifMatch: IfMatch; readonly onlyNew: boolean },
): Promise<ShownProvider & { readonly created: boolean; readonly position: Position }> {
  const { caller, at } = call;
  const faults = [...(await configFaults(call, wanted)), ...providerFaults(wanted)];
  if (faults.length > 0) throw invalid(faults);
  const created = (await providersOf(call)).every((one) => one.name !== name);
  const provider = { client: caller.client, name, ...typedConfigOf(wanted), ...settingsIn(wanted) };
  const { state, position } = await executeOnClient(call, { type: "SetProvider", at, provider, ifMatch, onlyNew });
  const set = state.status === "none" ? undefined : state.providers.find((one) => one.name === name);
  // Another request may have removed it since; this one's answer is what it set.
  const known = set ?? { ...provider, config: seal(provider.config), changedSeq: 0, health: healthySince(at) };
  return { ...shownNow(call, known), created, position };
}

function settingsIn(wanted: ProviderInput) {
  const { from_email, from_name, from_domains, reply_to, use_for, order, options } = wanted;
  return {
    ...{ fromEmail: from_email, fromName: from_name, fromDomains: from_domains ?? [], replyTo: reply_to, order },
    useFor: use_for ?? ["single" as const, "bulk" as const],
    options: {
      ratePerSecond: options?.rate_per_second ?? null,
      timeoutSeconds: options?.timeout_seconds ?? null,
      weight: options?.weight ?? null,
      returnPath: options?.return_path ?? null,
      tags: options?.tags ?? [],
      trackOpens: options?.track_opens ?? null,
      trackClicks: options?.track_clicks ?? null,
    },
  };
}

/** In the order in which they are tried. Throws InvalidCursor. */
export async function listProviders(call: Call, { limit, cursor }: PageQuery): Promise<Page<ProviderResource>> {
  const [order, name] = readCursor(cursor, ["integer", "text"]) ?? [-1, ""];
  const rest = (await providersOf(call)).filter((one) => one.order > order || (one.order === order && one.name > name));
  const { rows, next } = pageOf(rest, limit, (last) => [last.order, last.name]);
  return { rows: rows.map((one) => shown(call, one)).filter((one) => one !== null), next };
}

/** Throws not_found. */
export async function getProvider(call: Call, name: string): Promise<ShownProvider> {
  const provider = await providerNamed(call, name);
  return shownNow(call, provider);
}

/** Throws not_found. */
export const deleteProvider = (call: Call, name: string, ifMatch: IfMatch): Promise<{ readonly position: Position }> =>
  executeOnClient(call, { type: "RemoveProvider", at: call.at, name, ifMatch });

/** Tries a provider's settings, up to sending a test mail when an address is given. Throws not_found. */
export async function verifyProvider(call: Call, name: string, to: string | null): Promise<ProviderVerdict> {
  const settings = settingsOf(await providerNamed(call, name));
  if (settings === null) throw new DomainError("not_found");
  return await onBehalfOf(call.caller.client, () => call.services.email.provider(settings).verify(to));
}
