// A client (a tenant): registering it, what it sees and changes of itself, and its webhook secret.
import type {
  ClientPatch,
  ClientResource,
  NewClient,
  RegisteredClientResource,
  WebhookSecretResource,
} from "../contract/clients.ts";
import type { KeyId } from "../contract/ids.ts";
import { type Instant, rfc3339, SECOND_MS } from "../contract/time.ts";
import {
  ALL_ALLOWED,
  type Client,
  type ClientCommand,
  clientDecider,
  clientStream,
  type ExistingClient,
  type Policy,
} from "../domain/client.ts";
import { DomainError } from "../domain/decider.ts";
import { reveal } from "../domain/event.ts";
import type { Position } from "../event-store/event-store.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { KEY_BYTES, keyData, makeApiKey } from "./credentials.ts";
import { AppError } from "./errors.ts";
import { keyResource } from "./key-use.ts";
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
export function existing(state: Client): ExistingClient {
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
