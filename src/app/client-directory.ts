// Keys on this node: who may come in, with revoked tokens, folded so that "at once" means within a second; and when each key
// was last used.

import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import type { KeyResource } from "../contract/clients.ts";
import { ALL_SCOPES, type Scope } from "../contract/fields.ts";
import type { ClientId, KeyId, Subject } from "../contract/ids.ts";
import { HOUR_MS, type Instant, rfc3339, rfc3339OrNull, SECOND_MS } from "../contract/time.ts";
import { MAX_TOKEN_MS } from "../contract/users.ts";
import { type ApiKey, hourOf, keyUseDecider, keyUseStream, scopesOf } from "../domain/client-keys.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import { decode, type StoredEvent } from "../event-store/envelope.ts";
import type { RecordedEvent } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { mapBounded, maxEntries } from "../platform/bounded.ts";
import { messageOf, pause } from "../platform/supervise.ts";
import type { LiveFeed } from "../projections/feed.ts";

/** How old the newest certain knowledge may be before the node answers 503. */
const MAX_LAG_MS = 1_000;
/** How long a key that is not known yet waits for the fold to reach the log's tail. */
const UNKNOWN_KEY_WAIT_MS = 1_000;
/** Max keys known of a client; of more, those that have ended are forgotten, oldest first. */
const KNOWN_KEYS = 100;
/** How long a revocation is known: no token that it ended holds longer. The hour is for clocks that differ. */
const REVOCATION_MS = MAX_TOKEN_MS + HOUR_MS;

/** A key that was found; whether it has expired is for the caller to say, by its clock. */
type KnownKey = {
  readonly client: ClientId;
  readonly keyId: KeyId;
  readonly scopes: ReadonlySet<Scope>;
  readonly expiresAt: Instant | null;
};

/** What may have ended credentials: a client's keys changed, or a user's tokens were revoked. */
export type DirectoryChange =
  | { readonly kind: "keys"; readonly client: ClientId }
  | { readonly kind: "tokens"; readonly subject: Subject };

/** Where the fold begins: rows of the read model that hold at least all up to the feed's first position. */
type DirectorySeed = {
  readonly keys: Iterable<KnownKey & { readonly hash: string }>;
  /** Subjects whose tokens were revoked, with their generation now. */
  readonly revoked: Iterable<{ readonly subject: Subject; readonly generation: number }>;
  /** When they were read: what is not known to be older is taken to be of then. */
  readonly at: Instant;
};

type DirectoryOptions = { readonly feed: LiveFeed; readonly keyring: Keyring; readonly seed: DirectorySeed };

/** Keys and revoked tokens, folded from the node's feed. */
export class ClientDirectory implements Disposable {
  readonly #feed: LiveFeed;
  /** By hash. */
  readonly #keys = new Map<string, KnownKey>();
  /** The hashes of a client's keys, by id, oldest first. */
  readonly #hashes = new Map<ClientId, Map<KeyId, string>>();
  /** The oldest revocation first. */
  readonly #revoked = new Map<Subject, { readonly generation: number; readonly at: Instant }>();
  readonly #listeners = new Set<(change: DirectoryChange) => void>();
  readonly #following: Disposable;

  /**
   * The feed must not have been started, or not have passed what the seed holds: take the read side's checkpoint first,
   * then the seed, then a feed after that checkpoint. What comes twice is folded once.
   */
  constructor({ feed, keyring, seed }: DirectoryOptions) {
    this.#feed = feed;
    for (const { hash, ...key } of seed.keys) this.#addKey(hash, key, seed.at);
    for (const { subject, generation } of seed.revoked) this.#revoked.set(subject, { generation, at: seed.at });
    this.#following = feed.on(async (events) => {
      const concerned = events.filter(isConcerned);
      if (concerned.length === 0) return;
      const changes = (await decode(keyring, concerned)).flatMap((event) => this.#fold(event) ?? []);
      for (const change of changes) for (const listener of this.#listeners) listener(change);
    });
  }

  /** The key with this SHA-256 (hex). One that is unknown waits, at most a second, until the fold reached the log's tail. */
  async keyByHash(hash: string): Promise<KnownKey | undefined> {
    const known = this.#keys.get(hash);
    if (known !== undefined) return known;
    await this.#feed.caughtUp(UNKNOWN_KEY_WAIT_MS);
    return this.#keys.get(hash);
  }

  /** Whether tokens of this generation have not been revoked. */
  tokenHolds(subject: Subject, generation: number): boolean {
    return generation >= (this.#revoked.get(subject)?.generation ?? 0);
  }

  /** Whether the log is away: what is known is the newest that can be, and what is not known may be there. */
  isLogAway(): boolean {
    return this.#feed.isLogAway();
  }

  /** False when it may be more than a second behind a log that answers; nobody must be let in then. */
  ready(): boolean {
    return this.#feed.lagMs() <= MAX_LAG_MS || this.isLogAway();
  }

  /** Tells of changes that may have ended credentials. */
  onChange(listener: (change: DirectoryChange) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
    this.#listeners.clear();
  }

  #fold(event: StoredEvent): DirectoryChange | undefined {
    const { at, client } = event.meta;
    switch (event.type) {
      case "ClientRegistered": {
        const { client, key } = event.data;
        this.#addKey(key.hash, { client, keyId: key.id, scopes: ALL_SCOPES, expiresAt: null }, at);
        return undefined;
      }
      case "KeyCreated":
      case "KeyRotated": {
        const { key } = event.data;
        if (client === null) return undefined;
        this.#addKey(key.hash, { client, keyId: key.id, scopes: scopesOf(key), expiresAt: key.expiresAt }, at);
        if (event.type === "KeyCreated") return undefined;
        const hash = this.#hashes.get(client)?.get(event.data.old) ?? "";
        const known = this.#keys.get(hash);
        if (known !== undefined) this.#keys.set(hash, { ...known, expiresAt: event.data.graceUntil });
        return { kind: "keys", client };
      }
      case "KeyRevoked": {
        const own = client === null ? undefined : this.#hashes.get(client);
        if (client === null || own === undefined) return undefined;
        // fence: key-revoked
        this.#keys.delete(own.get(event.data.key) ?? "");
        own.delete(event.data.key);
        return { kind: "keys", client };
      }
      case "TokensRevoked": {
        const { subject, generation } = event.data;
        this.#revoke(subject, generation, at);
        return { kind: "tokens", subject };
      }
      default:
        return undefined;
    }
  }

  #addKey(hash: string, key: KnownKey, at: Instant): void {
    if (this.#keys.has(hash)) return; // from the read model, perhaps with an end that the log has still to say
    const own = this.#hashes.get(key.client) ?? new Map<KeyId, string>();
    this.#hashes.set(key.client, own.set(key.keyId, hash));
    this.#keys.set(hash, key);
    for (const [id, other] of own) {
      if (own.size <= KNOWN_KEYS) break;
      const { expiresAt = null } = this.#keys.get(other) ?? {};
      if (expiresAt === null || expiresAt > at) continue;
      this.#keys.delete(other);
      own.delete(id);
    }
  }

  #revoke(subject: Subject, generation: number, at: Instant): void {
    const known = this.#revoked.get(subject)?.generation ?? 0;
    this.#revoked.delete(subject);
    this.#revoked.set(subject, { generation: Math.max(generation, known), at });
    for (const [oldest, { at: then }] of this.#revoked) {
      if (then > at - REVOCATION_MS) break;
      this.#revoked.delete(oldest);
    }
  }
}

const CLIENT_EVENTS = new Set(["ClientRegistered", "KeyCreated", "KeyRotated", "KeyRevoked"]);

const isConcerned = (event: RecordedEvent): boolean =>
  (event.stream.startsWith("client-") && CLIENT_EVENTS.has(event.type)) ||
  (event.stream.startsWith("user-") && event.type === "TokensRevoked");

// When API keys were last used: noted in memory as requests come, recorded in the log once a key and hour.

/** Keys whose last use is kept in memory on this node. Those used longest ago are forgotten, and recorded again. */
const MAX_KEYS = 50_000;
/** From a key's first use in an hour to its recording: a node that is killed meanwhile forgets it. */
const RECORD_AFTER_MS = 5 * SECOND_MS;
const COMMANDS_AT_ONCE = 16;
/** How long a stop waits for the last uses to be recorded. */
const STOP_MS = SECOND_MS;

type KeyUseOptions = {
  readonly commands: Pick<Commands, "execute" | "load">;
  readonly logger: Pick<Logger, "warn">;
  readonly now: () => Instant;
  /** For tests. Default: RECORD_AFTER_MS. */
  readonly recordAfterMs?: number;
};

/** The last use of each key. Disposing records what is not yet. */
export class KeyUse implements AsyncDisposable {
  readonly #options: KeyUseOptions;
  /** The hour of a key's last use on this node. */
  readonly #hours = new LRUCache<KeyId, Instant>(maxEntries(MAX_KEYS));
  /** Not recorded yet. Bounded by MAX_KEYS between two recordings. */
  readonly #pending = new Map<KeyId, ClientId>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: KeyUseOptions) {
    this.#options = options;
  }

  /** Notes that a key is used. Costs a look-up but in the first request of an hour. */
  note(client: ClientId, key: KeyId, at: Instant): void {
    const hour = hourOf(at);
    if (this.#hours.get(key) === hour) return;
    this.#hours.set(key, hour);
    if (this.#pending.size >= MAX_KEYS) return;
    this.#pending.set(key, client);
    this.#timer ??= setTimeout(() => void this.record(), this.#options.recordAfterMs ?? RECORD_AFTER_MS).unref();
  }

  /** The hour in which a key was last used; null when it never was. Throws what commands throw. */
  async lastUsed(key: KeyId): Promise<Instant | null> {
    const { state } = await this.#options.commands.load(keyUseDecider, keyUseStream(key));
    const here = this.#hours.get(key);
    return here === undefined ? state.hour : Math.max(here, state.hour ?? 0);
  }

  /** Records what was noted. Never rejects: what could not be recorded is noted again by the key's next use. */
  async record(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const due = [...this.#pending];
    this.#pending.clear();
    await mapBounded(due, COMMANDS_AT_ONCE, ([key, client]) => this.#recordUse(key, client));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const recorded = new AbortController();
    await Promise.race([this.record().finally(() => recorded.abort()), pause(STOP_MS, recorded.signal)]);
  }

  async #recordUse(key: KeyId, client: ClientId): Promise<void> {
    const { commands, now, logger } = this.#options;
    const hour = this.#hours.get(key);
    if (hour === undefined) return;
    const commandId = deriveUuid("key-use", key, hour);
    const cause = { commandId, correlation: commandId, causation: commandId };
    const context = { client, actor: { type: "system", id: "keys" }, ...cause } as const;
    try {
      await commands.execute(keyUseDecider, keyUseStream(key), { type: "RecordUse", at: now(), key, hour }, context);
    } catch (error) {
      this.#hours.delete(key);
      logger.warn({ error: messageOf(error), key }, "key use was not recorded; noted again by the key's next request");
    }
  }
}

/** A key as answers show it, never the key itself. */
export async function keyResource(keyUse: KeyUse, key: ApiKey): Promise<KeyResource> {
  return {
    id: key.id,
    name: key.name,
    last4: key.last4,
    scopes: [...scopesOf(key)],
    created_at: rfc3339(key.createdAt),
    expires_at: rfc3339OrNull(key.endsAt),
    last_used_at: rfc3339OrNull(await keyUse.lastUsed(key.id)),
  };
}
