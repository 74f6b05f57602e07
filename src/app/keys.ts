// A client's API keys: creating, listing, rotating and deleting them.
import type { CreatedKeyResource, KeyResource, NewKey, RotatedKeyResource } from "../contract/clients.ts";
import type { FieldFault } from "../contract/errors.ts";
import type { KeyId } from "../contract/ids.ts";
import { isObject } from "../contract/json.ts";
import { type Instant, parseInstant, rfc3339, SECOND_MS } from "../contract/time.ts";
import { holds, keyExpiryFaults } from "../domain/client-keys.ts";
import { DomainError } from "../domain/decider.ts";
import { deriveTail } from "../event-store/derived-ids.ts";
import type { Position } from "../event-store/event-store.ts";
import { executeOnClient, existing, ownClient } from "./clients.ts";
import { KEY_BYTES, keyData, makeApiKey } from "./credentials.ts";
import { keyResource } from "./key-use.ts";
import type { Call, Written } from "./services.ts";

/** The faults of the expiry in a body as it was sent, as far as it is a time. */
export function expiryFaults(body: unknown, at: Instant): readonly FieldFault[] {
  if (!isObject(body) || typeof body.expires_at !== "string") return [];
  return keyExpiryFaults(parseInstant(body.expires_at) ?? null, at);
}

/** A new key and the record of it that the log keeps. The id follows from the command's. */
function makeKey({ services, context }: Call, name: string) {
  const apiKey = makeApiKey(services.randomBytes(KEY_BYTES));
  return { apiKey, data: keyData(`key_${deriveTail("key", context.commandId)}`, name, apiKey) };
}

/** The key is shown this once. Throws InvalidInput, insufficient_scope, key_limit. */
export async function createKey(
  call: Call,
  { name, scopes, expires_at: expiresAt }: NewKey,
): Promise<Written & { readonly key: CreatedKeyResource }> {
  const { services, caller, at } = call;
  const { apiKey, data } = makeKey(call, name);
  const command = { type: "CreateKey", at, key: data, scopes, expiresAt, granter: caller.scopes } as const;
  const { state, events, position, replayed } = await executeOnClient(call, command);
  const [created] = events;
  const key = existing(state).keys.find((one) => one.id === data.id);
  if (created?.type !== "KeyCreated" || key === undefined) throw new DomainError("not_found");
  return {
    key: { ...(await keyResource(services.keyUse, key)), api_key: replayed ? null : apiKey },
    position,
    replayed,
  };
}

const heldKeys = async (call: Call) => (await ownClient(call)).keys.filter(holds(call.at));

/** Those that hold, newest first. */
export async function listKeys(call: Call): Promise<readonly KeyResource[]> {
  const keys = (await heldKeys(call)).toReversed();
  return Promise.all(keys.map((key) => keyResource(call.services.keyUse, key)));
}

/** Throws not_found. */
export async function getKey(call: Call, id: KeyId): Promise<KeyResource> {
  const key = (await heldKeys(call)).find((one) => one.id === id);
  if (key === undefined) throw new DomainError("not_found");
  return keyResource(call.services.keyUse, key);
}

/** Ends a key at once, within a second on every node. Throws not_found, last_key. */
export async function revokeKey(call: Call, id: KeyId): Promise<{ readonly position: Position }> {
  return executeOnClient(call, { type: "RevokeKey", at: call.at, key: id });
}

/** The old key works until the grace ends; the new one is shown this once. Throws not_found, insufficient_scope, key_limit. */
export async function rotateKey(
  call: Call,
  old: KeyId,
  graceSeconds: number,
): Promise<Written & { readonly key: RotatedKeyResource }> {
  const { services, caller, at } = call;
  const { apiKey, data } = makeKey(call, "");
  const { name: _ofTheOld, ...made } = data;
  const graceMs = graceSeconds * SECOND_MS;
  const command = { type: "RotateKey", at, old, key: made, graceMs, granter: caller.scopes } as const;
  const { state, events, position, replayed } = await executeOnClient(call, command);
  const [rotated] = events;
  const key = existing(state).keys.find((one) => one.id === made.id);
  if (rotated?.type !== "KeyRotated" || key === undefined) throw new DomainError("not_found");
  const { old: previous, graceUntil } = rotated.data;
  return {
    key: {
      ...(await keyResource(services.keyUse, key)),
      api_key: replayed ? null : apiKey,
      previous: { id: previous, expires_at: rfc3339(graceUntil) },
    },
    position,
    replayed,
  };
}
