// domain/client-keys.ts: a client's API keys: what each allows, how long it holds, that the client is never locked out, and
// when each was last used.

import { z } from "zod";
import type { FieldFault } from "../contract/errors.ts";
import { ALL_SCOPES, type Scope, ScopeSchema } from "../contract/fields.ts";
import { type KeyId, KeyIdSchema } from "../contract/ids.ts";
import { HOUR_MS, type Instant, MINUTE_MS } from "../contract/time.ts";
import { type Decider, DomainError, refuse, type TimedCommand } from "./decider.ts";
import { type EventsOf, event } from "./event.ts";

/** Keys that hold at the same time, rotated ones in their grace among them. */
const MAX_KEYS = 20;
const MIN_LIFE_MS = MINUTE_MS;
const MAX_LIFE_YEARS = 10;

export const keyData = z.object({
  id: KeyIdSchema,
  name: z.string(),
  /** SHA-256 of the key, hex; the key itself is never kept. */
  hash: z.string(),
  last4: z.string(),
});
export type KeyData = z.infer<typeof keyData>;

/** `scopes`: null is every scope there is; `expiresAt`: null is never. */
const grantedKey = keyData.extend({ scopes: z.array(ScopeSchema).nullable(), expiresAt: z.number().nullable() });

// Events. A storage format. The key of a ClientRegistered has every scope and never expires.
export const keyEvents = {
  KeyCreated: event({ data: z.object({ key: grantedKey }) }),
  /** The old key works until the grace ends; the new one allows what the old one did. */
  KeyRotated: event({
    v: 2,
    data: z.object({ old: KeyIdSchema, key: grantedKey, graceUntil: z.number() }),
    // Keys had no scopes and no expiry in version 1.
    upcasts: { 1: (data) => ({ ...data, key: { ...Object(data.key), scopes: null, expiresAt: null } }) },
  }),
  /** The key ends at once. */
  KeyRevoked: event({ data: z.object({ key: KeyIdSchema }) }),
} as const;
type KeyEvent = EventsOf<typeof keyEvents>;

// State.
export type ApiKey = z.infer<typeof grantedKey> & {
  readonly createdAt: Instant;
  /** When it ends: at its expiry, or at the end of its grace once it was rotated. */
  readonly endsAt: Instant | null;
};

export const newKey = (data: z.infer<typeof grantedKey>, at: Instant): ApiKey => ({
  ...data,
  createdAt: at,
  endsAt: data.expiresAt,
});

/** Whether a key holds at a moment. */
export const holds =
  (at: Instant) =>
  ({ endsAt }: ApiKey): boolean =>
    endsAt === null || endsAt > at;

/** The scopes of a key, by what is stored of them. */
export const scopesOf = ({ scopes }: { readonly scopes: readonly Scope[] | null }): ReadonlySet<Scope> =>
  scopes === null ? ALL_SCOPES : new Set(scopes);

export function evolveKeys(keys: readonly ApiKey[], event: KeyEvent, at: Instant): readonly ApiKey[] {
  switch (event.type) {
    case "KeyCreated":
      // Nothing is decided by a key that no longer holds.
      return [...keys.filter(holds(at)), newKey(event.data.key, at)];
    case "KeyRotated": {
      const { old, key, graceUntil } = event.data;
      const ended = keys.map((one) => (one.id === old ? { ...one, endsAt: graceUntil } : one));
      return [...ended.filter(holds(at)), newKey(key, at)];
    }
    case "KeyRevoked":
      return keys.filter((one) => one.id !== event.data.key);
  }
}

// Commands. `granter`: the scopes of the key that calls.
export type KeyCommand = TimedCommand &
  (
    | {
        type: "CreateKey";
        key: KeyData;
        scopes: readonly Scope[];
        expiresAt: Instant | null;
        granter: ReadonlySet<Scope>;
      }
    | { type: "RotateKey"; old: KeyId; key: Omit<KeyData, "name">; graceMs: number; granter: ReadonlySet<Scope> }
    | { type: "RevokeKey"; key: KeyId }
  );

/** Throws InvalidInput, not_found, insufficient_scope, key_limit, last_key. */
export function decideKeys(keys: readonly ApiKey[], command: KeyCommand): readonly KeyEvent[] {
  const held = keys.filter(holds(command.at));
  const named = (id: KeyId): ApiKey => {
    const key = held.find((one) => one.id === id);
    if (key === undefined) throw new DomainError("not_found");
    return key;
  };
  switch (command.type) {
    case "CreateKey": {
      const { key, scopes, expiresAt, granter, at } = command;
      refuse(keyExpiryFaults(expiresAt, at));
      requireGranted(granter, new Set(scopes));
      // fence: created-keys
      if (held.length >= MAX_KEYS) throw new DomainError("key_limit");
      return [{ type: "KeyCreated", data: { key: { ...key, scopes: [...scopes], expiresAt } } }];
    }
    case "RotateKey": {
      const old = named(command.old);
      // Who rotates a key holds the new one: that grants what the old one allows.
      // fence: rotated-scopes
      requireGranted(command.granter, scopesOf(old));
      // fence: client-keys
      if (held.length >= MAX_KEYS && command.graceMs > 0) throw new DomainError("key_limit");
      const graceUntil = Math.min(command.at + command.graceMs, old.endsAt ?? Number.POSITIVE_INFINITY);
      const { name, scopes, expiresAt } = old;
      return [
        { type: "KeyRotated", data: { old: old.id, key: { ...command.key, name, scopes, expiresAt }, graceUntil } },
      ];
    }
    case "RevokeKey": {
      const key = named(command.key);
      const others = held.filter((one) => one !== key);
      // fence: last-key
      if (managesForever(key) && !others.some(managesForever)) throw new DomainError("last_key");
      return [{ type: "KeyRevoked", data: { key: key.id } }];
    }
  }
}

/** Whether a key can always make others. */
const managesForever = (key: ApiKey): boolean => key.endsAt === null && scopesOf(key).has("keys:manage");

/** Throws insufficient_scope, which names what is missing. */
function requireGranted(granter: ReadonlySet<Scope>, scopes: ReadonlySet<Scope>): void {
  const missing = [...scopes].filter((scope) => !granter.has(scope));
  // fence: granted-scopes
  if (missing.length > 0) {
    throw new DomainError("insufficient_scope", `the API key cannot grant what it lacks: ${missing.join(", ")}`);
  }
}

/** What is wrong with the expiry of a new key. */
export function keyExpiryFaults(expiresAt: Instant | null, at: Instant): readonly FieldFault[] {
  const fault = (code: "too_small" | "too_large", message: string) => [{ path: "expires_at", code, message }];
  if (expiresAt === null) return [];
  if (expiresAt < at + MIN_LIFE_MS) return fault("too_small", "must be at least a minute ahead");
  const latest = new Date(at);
  latest.setUTCFullYear(latest.getUTCFullYear() + MAX_LIFE_YEARS);
  return expiresAt > latest.getTime() ? fault("too_large", "must be at most ten years ahead") : [];
}

// When a key was last used, to the hour; frequent, so in a stream of its own.

export const keyUseStream = (key: KeyId) => `keyuse-${key}`;

/** The hour that a moment is in, by its beginning. */
export const hourOf = (at: Instant): Instant => at - (at % HOUR_MS);

// Events. A storage format.
export const keyUseEvents = {
  /** Used in this hour; at most one a key and hour. */
  KeyUsed: event({ data: z.object({ key: KeyIdSchema, hour: z.number() }) }),
} as const;
export type KeyUseEvent = EventsOf<typeof keyUseEvents>;

// State: the hour of the last use.
type KeyUse = { readonly hour: Instant | null };

type KeyUseCommand = TimedCommand & { type: "RecordUse"; key: KeyId; hour: Instant };

export const keyUseDecider: Decider<KeyUse, KeyUseEvent, KeyUseCommand> = {
  name: "keyuse",
  events: keyUseEvents,
  initial: { hour: null },
  evolve: (_state, event) => ({ hour: event.data.hour }),
  decide: ({ hour }, { key, hour: used }) =>
    hour !== null && hour >= used ? [] : [{ type: "KeyUsed", data: { key, hour: used } }],
  snapshot: {
    version: 1,
    toJson: (state) => state,
    fromJson: (json) => z.object({ hour: z.number().nullable() }).parse(json),
  },
};
