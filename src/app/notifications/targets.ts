// Whom a notification is for: from the fields of a request to recipients, each once.
import { isIP } from "node:net";
import type { AddressGuard } from "../../channels/guard.ts";
import type { FieldFault } from "../../contract/errors.ts";
import { canonicalMailAddress } from "../../contract/fields.ts";
import type { ClientId } from "../../contract/ids.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { seal } from "../../domain/event.ts";
import type { Recipient } from "../../domain/notification.ts";
import { mapBounded } from "../../platform/bounded.ts";
import { AppError } from "../errors.ts";
import type { Services } from "../services.ts";
import type { NotificationInput } from "./input.ts";

/** Host names looked up at once for one request, and for how long in all: what is not known then is left to the attempt. */
const LOOK_UPS_AT_ONCE = 8;
const LOOK_UPS_FOR_MS = 5 * SECOND_MS;

/** One whom a request names; `canonical` tells whether two are the same. */
export type Target = {
  readonly address: string;
  readonly canonical: string;
  readonly name: string | null;
  /** Where in the body. */
  readonly path: string;
};

type Named = { readonly field: string; readonly value: unknown };

/** The alternative fields, of which exactly one is to be there. */
function alternatives(asked: NotificationInput): readonly Named[] {
  const fields = (names: Record<string, unknown>) =>
    Object.entries(names).flatMap(([field, value]) => (value === null ? [] : [{ field, value }]));
  switch (asked.type) {
    case "email":
      return fields({ to_email: asked.to_email, to: asked.to, recipients: asked.recipients });
    case "websocket":
      return fields({ user_ids: asked.user_ids, recipients: asked.recipients });
    case "webhook":
      return fields({ url: asked.url, urls: asked.urls, recipients: asked.recipients });
  }
}

const FIELDS = {
  email: "to_email, to, recipients",
  websocket: "user_ids, recipients, room_id",
  webhook: "url, urls, recipients",
} as const;

/** Whom the request names, each once, the first mention wins; null: the members of its room. Throws AppError. */
export function targetsOf(asked: NotificationInput): readonly Target[] | null {
  const named = alternatives(asked);
  const [only] = named;
  if (named.length === 0 && asked.type === "websocket" && asked.room_id !== null) return null;
  if (only === undefined || named.length > 1) {
    throw new AppError("ambiguous_recipients", { detail: `give exactly one of ${FIELDS[asked.type]}` });
  }
  const seen = new Map<string, Target>();
  for (const target of listed(only, asked.type)) {
    if (!seen.has(target.canonical)) seen.set(target.canonical, target);
  }
  return [...seen.values()];
}

function listed({ field, value }: Named, type: NotificationInput["type"]): readonly Target[] {
  const many = Array.isArray(value);
  const items: readonly unknown[] = many ? value : [value];
  return items.map((item, index) => {
    const path = many ? `${field}.${index}` : field;
    const isObject = typeof item === "object" && item !== null && "email" in item;
    const address = String(isObject ? item.email : item);
    const name = isObject && "name" in item && typeof item.name === "string" ? item.name : null;
    return { address, canonical: canonicalOf(type, address), name, path };
  });
}

function canonicalOf(type: NotificationInput["type"], address: string): string {
  if (type === "email") return canonicalMailAddress(address) ?? address;
  return type === "webhook" ? (URL.parse(address)?.href ?? address) : address;
}

type Parts = Pick<Services, "keyring">;

/** The targets as events name them. */
export const recipientsOf = (
  { keyring }: Parts,
  client: ClientId,
  type: NotificationInput["type"],
  targets: readonly Target[],
): Promise<readonly Recipient[]> =>
  Promise.all(
    targets.map(async ({ address, canonical, name }) => ({
      subject: await (type === "websocket"
        ? keyring.subjectOfUser(client, canonical)
        : keyring.subjectOfAddress(client, canonical)),
      address: seal(address),
      name: name === null ? null : seal(name),
    })),
  );

/** The targets among URLs that may not be called. A name that does not resolve is accepted, and fails at the attempt. */
export async function forbiddenUrls(guard: AddressGuard, targets: readonly Target[]): Promise<readonly FieldFault[]> {
  const byHost = Map.groupBy(targets, (target) => URL.parse(target.address)?.hostname ?? "");
  const literal = (host: string) => isIP(host.replace(/^\[|\]$/g, "")) !== 0;
  const deadline = performance.now() + LOOK_UPS_FOR_MS;
  const faults = await mapBounded([...byHost], LOOK_UPS_AT_ONCE, async ([host, there]) => {
    const [first] = there;
    if (first === undefined || (!literal(host) && performance.now() > deadline)) return [];
    const verdict = await guard.checkUrl(first.address);
    // fence: ssrf-request
    if (verdict.ok) return [];
    return there.map(({ path }) => ({ path, code: verdict.code, message: verdict.reason }));
  });
  return faults.flat();
}

/** The subjects by which a recipient may be known: a user id, a mail address or a URL. */
export async function subjectsNamed({ keyring }: Parts, client: ClientId, recipient: string) {
  const addresses = new Set([
    recipient,
    canonicalMailAddress(recipient) ?? recipient,
    URL.parse(recipient)?.href ?? recipient,
  ]);
  const asAddress = [...addresses].map((address) => keyring.subjectOfAddress(client, address));
  return Promise.all([keyring.subjectOfUser(client, recipient), ...asAddress]);
}
