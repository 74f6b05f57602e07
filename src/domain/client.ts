// domain/client.ts: a tenant: its keys, its webhook secret, its email providers, its webhook endpoints.
import { z } from "zod";
import { type ClientId, ClientIdSchema } from "../contract/ids.ts";
import { sameJson } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import {
  type ApiKey,
  decideKeys,
  evolveKeys,
  type KeyCommand,
  type KeyData,
  keyData,
  keyEvents,
  newKey,
} from "./client-keys.ts";
import {
  type Decider,
  DomainError,
  type EventContext,
  type IfMatch,
  requireMatch,
  requireNew,
  type TimedCommand,
} from "./decider.ts";
import {
  decideEndpoints,
  type Endpoint,
  type EndpointCommand,
  endpointEvents,
  evolveEndpoints,
  isEndpointCommand,
  isEndpointEvent,
} from "./endpoint.ts";
import { type EventsOf, event, type Sealed, seal, sealed } from "./event.ts";
import {
  downSince,
  healthEvents,
  healthySince,
  opensUntil,
  type ProviderData,
  type ProviderFault,
  type ProviderHealth,
  provider,
  type TypedConfig,
  upcastToEveryType,
  upSince,
} from "./provider.ts";

/** What users' tokens may do of what belongs to their client's rooms. */
const policy = z.object({
  usersCreateRooms: z.boolean(),
  /** Also naming others where a room is created. */
  usersAddMembers: z.boolean(),
  usersJoinPublicRooms: z.boolean(),
});
export type Policy = z.infer<typeof policy>;
export const ALL_ALLOWED: Policy = { usersCreateRooms: true, usersAddMembers: true, usersJoinPublicRooms: true };

export const clientStream = (id: ClientId) => `client-${id}`;
const MAX_PROVIDERS = 20;

// Events. A storage format.
export const clientEvents = {
  ClientRegistered: event({
    data: z.object({
      client: ClientIdSchema,
      name: z.string(),
      description: z.string().nullable(),
      key: keyData,
      webhookSecret: sealed(z.string()),
    }),
    seals: { webhookSecret: "client" },
  }),
  /** All of it, as it is from now on. */
  ClientUpdated: event({
    v: 2,
    data: z.object({ name: z.string(), description: z.string().nullable(), policy }),
    // Until version 1 users could do everything that there is a policy for.
    upcasts: { 1: (data) => ({ ...data, policy: ALL_ALLOWED }) },
  }),
  ...keyEvents,
  /** Both secrets sign until the grace ends. */
  WebhookSecretRotated: event({
    data: z.object({ client: ClientIdSchema, secret: sealed(z.string()), graceUntil: z.number() }),
    seals: { secret: "client" },
  }),
  ProviderSet: event({
    v: 2,
    data: provider,
    /* fence: provider-sealed */ seals: { config: "client" },
    upcasts: { 1: upcastToEveryType },
  }),
  ProviderRemoved: event({ data: z.object({ name: z.string() }) }),
  ...healthEvents,
  ...endpointEvents,
} as const;
export type ClientEvent = EventsOf<typeof clientEvents>;

// State.
/** `changedSeq`: the seq of its last change, its ETag. */
export type Provider = ProviderData & { readonly changedSeq: number; readonly health: ProviderHealth };
export type ExistingClient = {
  readonly status: "live";
  readonly id: ClientId;
  readonly name: string;
  readonly description: string | null;
  readonly policy: Policy;
  readonly createdAt: Instant;
  readonly keys: readonly ApiKey[];
  readonly secret: Sealed<string>;
  readonly previousSecret: { readonly secret: Sealed<string>; readonly until: Instant } | null;
  readonly providers: readonly Provider[];
  readonly endpoints: readonly Endpoint[];
};
export type Client = { readonly status: "none" } | ExistingClient;

function evolve(state: Client, event: ClientEvent, { at, seq }: EventContext): Client {
  if (event.type === "ClientRegistered") {
    const { client, name, description, webhookSecret } = event.data;
    const keys = [newKey({ ...event.data.key, scopes: null, expiresAt: null }, at)];
    const about = { id: client, name, description, policy: ALL_ALLOWED };
    const first = { status: "live", ...about, createdAt: at, keys } as const;
    return { ...first, secret: webhookSecret, previousSecret: null, providers: [], endpoints: [] };
  }
  if (state.status === "none") return state;
  if (isEndpointEvent(event)) {
    return { ...state, endpoints: evolveEndpoints(state.endpoints, event, { at, seq }) };
  }
  switch (event.type) {
    case "ClientUpdated":
      return { ...state, ...event.data };
    case "KeyCreated":
    case "KeyRotated":
    case "KeyRevoked":
      return { ...state, keys: evolveKeys(state.keys, event, at) };
    case "WebhookSecretRotated": {
      const { secret, graceUntil } = event.data;
      return { ...state, secret, previousSecret: { secret: state.secret, until: graceUntil } };
    }
    case "ProviderSet": {
      // What was known of it was known of other settings.
      const set = { ...event.data, changedSeq: seq, health: healthySince(at) };
      return { ...state, providers: [...without(state, event.data.name), set] };
    }
    case "ProviderDown":
      return withHealth(state, event.data.name, (health) => downSince(health, event.data, at));
    case "ProviderUp":
      return withHealth(state, event.data.name, (health) => upSince(health, at));
    case "ProviderRemoved":
      return { ...state, providers: without(state, event.data.name) };
  }
}

const without = (state: ExistingClient, name: string) => state.providers.filter((one) => one.name !== name);
const withHealth = (state: ExistingClient, name: string, change: (health: ProviderHealth) => ProviderHealth) => ({
  ...state,
  providers: state.providers.map((one) => (one.name === name ? { ...one, health: change(one.health) } : one)),
});

// Commands, and what each means now.
export type ClientCommand =
  | KeyCommand
  | EndpointCommand
  | (TimedCommand &
      (
        | {
            type: "Register";
            client: ClientId;
            name: string;
            description: string | null;
            key: KeyData;
            webhookSecret: string;
          }
        | { type: "Update"; changes: { name?: string; description?: string | null; policy?: Partial<Policy> } }
        | { type: "RotateWebhookSecret"; secret: string; graceMs: number }
        | {
            type: "SetProvider";
            provider: Omit<ProviderData, "type" | "config"> & TypedConfig;
            ifMatch?: IfMatch;
            onlyNew?: boolean;
          }
        | { type: "RemoveProvider"; name: string; ifMatch?: IfMatch }
        /** Opens its circuit. `changedSeq`: of the settings that failed. */
        | { type: "MarkProviderDown"; name: string; changedSeq: number; fault: ProviderFault; error: ProviderError }
        | { type: "MarkProviderUp"; name: string; changedSeq: number }
      ));
type ProviderError = { readonly code: string; readonly message: string };

function decide(state: Client, command: ClientCommand): readonly ClientEvent[] {
  if (command.type === "Register") {
    if (state.status !== "none") return [];
    const { client, name, description, key, webhookSecret } = command;
    return [{ type: "ClientRegistered", data: { client, name, description, key, webhookSecret: seal(webhookSecret) } }];
  }
  if (state.status === "none") throw new DomainError("not_found");
  if (isEndpointCommand(command)) return decideEndpoints(state, command);
  switch (command.type) {
    case "Update": {
      const { name, description, policy } = state;
      const next = { name, description, ...command.changes, policy: { ...policy, ...command.changes.policy } };
      if (sameJson(next, { name, description, policy })) return [];
      return [{ type: "ClientUpdated", data: next }];
    }
    case "CreateKey":
    case "RotateKey":
    case "RevokeKey":
      return decideKeys(state.keys, command);
    case "RotateWebhookSecret": {
      const data = { client: state.id, secret: seal(command.secret), graceUntil: command.at + command.graceMs };
      return [{ type: "WebhookSecretRotated", data }];
    }
    case "SetProvider":
      return setProvider(state, command);
    case "RemoveProvider": {
      const known = state.providers.find((one) => one.name === command.name);
      if (known === undefined) throw new DomainError("not_found");
      requireMatch(command.ifMatch ?? null, known.changedSeq);
      return [{ type: "ProviderRemoved", data: { name: command.name } }];
    }
    case "MarkProviderDown": {
      const { name, fault, error, at } = command;
      const known = providerSet(state, command);
      const until = known === undefined ? null : opensUntil(known.health, at);
      if (until === null) return [];
      return [{ type: "ProviderDown", data: { name, fault, reason: error.code, message: error.message, until } }];
    }
    case "MarkProviderUp": {
      const known = providerSet(state, command);
      if (known === undefined || known.health.circuit === null) return [];
      return [{ type: "ProviderUp", data: { name: command.name, reason: "probe_succeeded" } }];
    }
  }
}

/** The provider, when its settings are still those that a command is about. */
const providerSet = ({ providers }: ExistingClient, { name, changedSeq }: { name: string; changedSeq: number }) =>
  providers.find((one) => one.name === name && one.changedSeq === changedSeq);

function setProvider(
  state: ExistingClient,
  { provider: given, onlyNew, ifMatch }: Extract<ClientCommand, { type: "SetProvider" }>,
): readonly ClientEvent[] {
  const next: ProviderData = { ...given, config: seal(given.config) };
  const before = state.providers.find((one) => one.name === given.name);
  requireNew(onlyNew, before !== undefined);
  requireMatch(ifMatch ?? null, before?.changedSeq ?? -1);
  if (before === undefined && state.providers.length >= MAX_PROVIDERS) throw new DomainError("provider_limit");
  if (before !== undefined && sameJson(before, { ...next, changedSeq: before.changedSeq, health: before.health }))
    return [];
  return [{ type: "ProviderSet", data: next }];
}

export const clientDecider: Decider<Client, ClientEvent, ClientCommand> = {
  name: "client",
  events: clientEvents,
  initial: { status: "none" },
  evolve,
  decide,
  weigh: (state) =>
    state.status === "none" ? 0 : state.providers.length + state.keys.length / 4 + state.endpoints.length * 2,
};
