// Email providers: the servers through which a client's mail goes out.
import type { FieldFault } from "../contract/errors.ts";
import type { PageQuery } from "../contract/fields.ts";
import { isObject } from "../contract/json.ts";
import type { ProviderInput, ProviderResource, ProviderVerdict } from "../contract/providers.ts";
import { rfc3339 } from "../contract/time.ts";
import type { Provider } from "../domain/client.ts";
import { DomainError, type IfMatch } from "../domain/decider.ts";
import { reveal } from "../domain/event.ts";
import { healthySince } from "../domain/provider-health.ts";
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

/** Settings, never secrets. */
function shown({ name, type, config, fromEmail, fromName, replyTo, useFor, order, options, health }: Provider) {
  const { host = null, port = null, username = null, password = null, security = null } = reveal(config) ?? {};
  return {
    name,
    type,
    config: { host, port, username, password: password === null ? null : { set: true }, security },
    from_email: fromEmail,
    from_name: fromName,
    reply_to: replyTo,
    use_for: useFor,
    order,
    options: { rate_per_second: options.ratePerSecond, timeout_seconds: options.timeoutSeconds },
    health: {
      state: health.circuit === null ? "up" : "down",
      since: rfc3339(health.since),
      last_error: health.lastError,
    },
  } satisfies ProviderResource;
}

type ShownProvider = { readonly provider: ProviderResource; readonly etag: number };

/** What no schema sees of a body as it was sent. */
export function providerFaults(body: unknown): readonly FieldFault[] {
  const { username = null, password = null } = isObject(body) && isObject(body.config) ? body.config : {};
  if (password === null || username !== null) return [];
  return [{ path: "config.username", code: "required", message: "is required with a password" }];
}

/** `created`: it is new. Throws validation_failed, provider_limit. */
export async function putProvider(
  call: Call,
  name: string,
  wanted: ProviderInput,
  { ifMatch, onlyNew }: { readonly ifMatch: IfMatch; readonly onlyNew: boolean },
): Promise<ShownProvider & { readonly created: boolean; readonly position: Position }> {
  const { services, caller, at } = call;
  const { type, config, from_email, from_name, reply_to, use_for, order, options } = wanted;
  const faults: FieldFault[] = [];
  const verdict = await services.guard.checkHost(config.host);
  // fence: ssrf-provider
  if (!verdict.ok) faults.push({ path: "config.host", code: verdict.code, message: verdict.reason });
  faults.push(...providerFaults(wanted));
  if (faults.length > 0) throw invalid(faults);
  const created = (await providersOf(call)).every((one) => one.name !== name);
  const provider = {
    ...{ client: caller.client, name, type, config, order },
    fromEmail: from_email,
    fromName: from_name,
    replyTo: reply_to,
    useFor: use_for ?? ["single" as const, "bulk" as const],
    options: { ratePerSecond: options?.rate_per_second ?? null, timeoutSeconds: options?.timeout_seconds ?? null },
  };
  const { state, position } = await executeOnClient(call, { type: "SetProvider", at, provider, ifMatch, onlyNew });
  const set = state.status === "none" ? undefined : state.providers.find((one) => one.name === name);
  // Another request may have removed it since; this one's answer is what it set.
  const known = set ?? { ...provider, config: { open: config }, changedSeq: 0, health: healthySince(at) };
  return { provider: shown(known), etag: known.changedSeq, created, position };
}

/** In the order in which they are tried. Throws InvalidCursor. */
export async function listProviders(call: Call, { limit, cursor }: PageQuery): Promise<Page<ProviderResource>> {
  const [order, name] = readCursor(cursor, ["integer", "text"]) ?? [-1, ""];
  const rest = (await providersOf(call)).filter((one) => one.order > order || (one.order === order && one.name > name));
  const { rows, next } = pageOf(rest, limit, (last) => [last.order, last.name]);
  return { rows: rows.map(shown), next };
}

/** Throws not_found. */
export async function getProvider(call: Call, name: string): Promise<ShownProvider> {
  const provider = await providerNamed(call, name);
  return { provider: shown(provider), etag: provider.changedSeq };
}

/** Throws not_found. */
export const deleteProvider = (call: Call, name: string, ifMatch: IfMatch): Promise<{ readonly position: Position }> =>
  executeOnClient(call, { type: "RemoveProvider", at: call.at, name, ifMatch });

/** Tries a provider's settings, up to sending a test mail when an address is given. Throws not_found. */
export async function verifyProvider(call: Call, name: string, to: string | null): Promise<ProviderVerdict> {
  const { config: sealed, fromEmail, fromName, replyTo } = await providerNamed(call, name);
  const config = reveal(sealed);
  if (config === null) throw new DomainError("not_found");
  const { ok, stage, code, message } = await call.services.smtp.verify(
    { ...config, name, fromEmail, fromName, replyTo },
    to,
  );
  return { ok, stage, code, message };
}
