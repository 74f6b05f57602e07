// A client (a tenant): registering it, what it sees and changes of itself, its API keys and its webhook secret.

import type {
  ClientPatch,
  ClientResource,
  CreatedKeyResource,
  KeyResource,
  NewClient,
  NewKey,
  RegisteredClientResource,
  RotatedKeyResource,
  WebhookSecretResource,
} from "../contract/clients.ts";
import type { FieldFault } from "../contract/errors.ts";
import type { KeyId } from "../contract/ids.ts";
import { isObject } from "../contract/json.ts";
import { type Instant, parseInstant, rfc3339, SECOND_MS } from "../contract/time.ts";
import {
  ALL_ALLOWED,
  type Client,
  type ClientCommand,
  clientDecider,
  clientStream,
  type ExistingClient,
  type Policy,
} from "../domain/client.ts";
import { holds, keyExpiryFaults } from "../domain/client-keys.ts";
import { DomainError } from "../domain/decider.ts";
import { reveal } from "../domain/event.ts";
import { deriveTail } from "../event-store/derived-ids.ts";
import type { Position } from "../event-store/event-store.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { keyResource } from "./client-directory.ts";
import { KEY_BYTES, keyData, makeApiKey } from "./credentials.ts";
import { AppError } from "./errors.ts";
import type { Call, Caller, Services, Written } from "./services.ts";

/** Makes the secret that signs a client's webhooks. */
export const makeWebhookSecret = ({ randomBytes }: Services): string =>
  `whsec_${Buffer.from(randomBytes(32)).toString("base64")}`;

/** Gives a command to the caller's own client. */
export const executeOnClient = ({ services, caller, context }: Call, command: ClientCommand) =>
  services.commands.execute(clientDecider, clientStream(caller.client), command, context);

/** The caller's own client as it is now. Throws not_found. */
export async function ownClient({ services, caller }: Call): Promise<ExistingClient> {
  return existing((await services.commands.load(clientDecider, clientStream(caller.client))).state);
}

/** Throws not_found. */
function existing(state: Client): ExistingClient {
  if (state.status === "none") throw new DomainError("not_found");
  return state;
}

/** What the caller may do of what clients allow their users. */
export const policyFor = async (call: Call): Promise<Policy> =>
  /* fence: policy-of-users */ call.caller.kind === "key" ? ALL_ALLOWED : (await ownClient(call)).policy;

/** The id of the key that calls. Throws forbidden: no user acts for a client. */
function keyOf(caller: Caller): KeyId {
  if (caller.kind !== "key") throw new AppError("forbidden");
  return caller.keyId;
}

/** Registers the client that the caller's ids announce. Its key is shown this once. */
export async function registerClient(
  call: Call,
  { name, description }: NewClient,
): Promise<Written & { readonly client: RegisteredClientResource }> {
  const { services, caller, at } = call;
  const apiKey = makeApiKey(services.randomBytes(KEY_BYTES));
  const key = keyData(keyOf(caller), "default", apiKey);
  const about = { client: caller.client, name, description, key, webhookSecret: makeWebhookSecret(services) };
  const { state, position, replayed } = await executeOnClient(call, { type: "Register", at, ...about });
  const client = existing(state);
  return {
    client: {
      id: client.id,
      name: client.name,
      description: client.description,
      api_key: replayed ? null : apiKey,
      webhook_secret: reveal(client.secret) ?? "",
      created_at: rfc3339(client.createdAt),
    },
    position,
    replayed,
  };
}

/** The client as it sees itself, by the key that asks. */
async function shown({ services, caller }: Call, client: ExistingClient): Promise<ClientResource> {
  const id = keyOf(caller);
  const key = client.keys.find((one) => one.id === id);
  if (key === undefined) throw new AppError("unauthenticated");
  return {
    id: client.id,
    name: client.name,
    description: client.description,
    policy: {
      users_create_rooms: client.policy.usersCreateRooms,
      users_add_members: client.policy.usersAddMembers,
      users_join_public_rooms: client.policy.usersJoinPublicRooms,
    },
    mode: services.config.development ? "development" : "production",
    email: { configured: client.providers.length > 0, providers: client.providers.map(({ name }) => name) },
    key: await keyResource(services.keyUse, key),
    created_at: rfc3339(client.createdAt),
  };
}

export async function getClient(call: Call): Promise<ClientResource> {
  return shown(call, await ownClient(call));
}

export async function changeClient(
  call: Call,
  patch: ClientPatch,
): Promise<{ readonly client: ClientResource; readonly position: Position }> {
  const { policy, ...about } = patch;
  const changes = omitUndefined({ ...about, policy: policy === undefined ? undefined : policyChange(policy) });
  const command = { type: "Update", at: call.at, changes } as const;
  const { state, position } = await executeOnClient(call, command);
  return { client: await shown(call, existing(state)), position };
}

/** What a merge patch of the policy says; null is what there is without one. */
function policyChange(patch: NonNullable<ClientPatch["policy"]> | null): Partial<Policy> {
  if (patch === null) return ALL_ALLOWED;
  const given = (value: boolean | null | undefined) => (value === null ? true : value);
  return omitUndefined({
    usersCreateRooms: given(patch.users_create_rooms),
    usersAddMembers: given(patch.users_add_members),
    usersJoinPublicRooms: given(patch.users_join_public_rooms),
  });
}

/** The secrets that sign at a moment. */
function secretsAt({ secret, previousSecret }: ExistingClient, at: Instant): WebhookSecretResource {
  const before = previousSecret !== null && previousSecret.until > at ? previousSecret : null;
  return {
    webhook_secret: reveal(secret) ?? "",
    previous:
      before === null ? null : { webhook_secret: reveal(before.secret) ?? "", expires_at: rfc3339(before.until) },
  };
}

export async function getWebhookSecret(call: Call): Promise<WebhookSecretResource> {
  return secretsAt(await ownClient(call), call.at);
}

/** Both secrets sign until the grace ends. */
export async function rotateWebhookSecret(
  call: Call,
  graceSeconds: number,
): Promise<Written & { readonly secret: WebhookSecretResource }> {
  const { services, at } = call;
  const about = { secret: makeWebhookSecret(services), graceMs: graceSeconds * SECOND_MS };
  const { state, events, ...written } = await executeOnClient(call, { type: "RotateWebhookSecret", at, ...about });
  // As of the rotation, so that a replay shows the same.
  return { secret: secretsAt(existing(state), events[0]?.at ?? at), ...written };
}

// A client's API keys.

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
