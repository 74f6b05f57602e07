// Who may come in: clients, keys and revoked tokens, folded on this node, so that "at once" means within a second.
import { ALL_SCOPES, type Scope } from "../contract/fields.ts";
import type { ClientId, KeyId, Subject } from "../contract/ids.ts";
import { HOUR_MS, type Instant } from "../contract/time.ts";
import { decode, type StoredEvent } from "../event-store/envelope.ts";
import type { RecordedEvent } from "../event-store/event-store.ts";
import type { Keyring } from "../event-store/sealing.ts";
import type { LiveFeed } from "../projections/feed.ts";
import { MAX_TOKEN_MS } from "./tokens.ts";

/** How old the newest certain knowledge may be before the node answers 503. */
const MAX_LAG_MS = 1_000;
/** How long a key that is not known yet waits for the fold to reach the log's tail. */
const UNKNOWN_KEY_WAIT_MS = 1_000;
/** Keys of one client that are known, those that have ended among them: of more, the oldest of these are as unknown ones. */
const KNOWN_KEYS = 100;
/** How long a revocation is known: no token that it ended holds longer. The hour is for clocks that differ. */
const REVOCATION_MS = MAX_TOKEN_MS + HOUR_MS;

/** A key that was found; whether it has expired is for the caller to say, by its clock. */
type KnownKey = {
  readonly client: ClientId;
  readonly keyId: KeyId;
  readonly name: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly createdAt: Instant;
  readonly expiresAt: Instant | null;
};

/** What may have ended credentials: a client's keys changed, or a user's tokens were revoked. */
export type DirectoryChange =
  | { readonly kind: "keys"; readonly client: ClientId }
  | { readonly kind: "tokens"; readonly subject: Subject };

export interface ClientDirectory extends AsyncDisposable {
  /** The key with this SHA-256 (hex). One that is unknown waits, at most a second, until the fold reached the log's tail. */
  keyByHash(hash: string): Promise<KnownKey | undefined>;
  clientName(id: ClientId): string | undefined;
  /** Whether tokens of this generation have not been revoked. */
  tokenHolds(client: ClientId, subject: Subject, generation: number): boolean;
  /** False when it may be more than a second behind the log; nobody must be let in then. */
  ready(): boolean;
  /** Tells of changes that may have ended credentials. */
  onChange(listener: (change: DirectoryChange) => void): Disposable;
}

/** Where the fold begins: rows of the read model that hold at least all up to the feed's first position. */
type DirectoryFacts = {
  readonly clients: Iterable<{ readonly client: ClientId; readonly name: string }>;
  readonly keys: Iterable<Omit<KnownKey, "scopes"> & { readonly hash: string }>;
  /** Subjects whose tokens were revoked, with their generation now. */
  readonly revoked: Iterable<{ readonly subject: Subject; readonly generation: number }>;
  /** When they were read: what is not known to be older is taken to be of then. */
  readonly at: Instant;
};

type DirectoryOptions = { readonly feed: LiveFeed; readonly keyring: Keyring; readonly facts: DirectoryFacts };

/**
 * Opens the directory. The feed must not have been started, or not have passed what the facts hold: take the read
 * side's checkpoint first, then the facts, then a feed after that checkpoint. What comes twice is folded once.
 */
export function openClientDirectory({ feed, keyring, facts }: DirectoryOptions): ClientDirectory {
  const names = new Map<ClientId, string>();
  const keys = new Map<string, KnownKey>();
  /** The hashes of a client's keys, by id, oldest first. */
  const hashes = new Map<ClientId, Map<KeyId, string>>();
  /** The oldest revocation first. */
  const revoked = new Map<Subject, { readonly generation: number; readonly at: Instant }>();
  const listeners = new Set<(change: DirectoryChange) => void>();

  for (const { client, name } of facts.clients) names.set(client, name);
  for (const { hash, ...key } of facts.keys) addKey(hash, { ...key, scopes: ALL_SCOPES }, facts.at);
  for (const { subject, generation } of facts.revoked) revoked.set(subject, { generation, at: facts.at });

  function addKey(hash: string, key: KnownKey, at: Instant): void {
    if (keys.has(hash)) return; // from the read model, perhaps with an end that the log is still to tell
    const own = hashes.get(key.client) ?? new Map<KeyId, string>();
    hashes.set(key.client, own.set(key.keyId, hash));
    keys.set(hash, key);
    for (const [id, other] of own) {
      if (own.size <= KNOWN_KEYS) break;
      const { expiresAt = null } = keys.get(other) ?? {};
      if (expiresAt === null || expiresAt > at) continue;
      keys.delete(other);
      own.delete(id);
    }
  }

  function revoke(subject: Subject, generation: number, at: Instant): void {
    const known = revoked.get(subject)?.generation ?? 0;
    revoked.delete(subject);
    revoked.set(subject, { generation: Math.max(generation, known), at });
    for (const [oldest, { at: then }] of revoked) {
      if (then > at - REVOCATION_MS) break;
      revoked.delete(oldest);
    }
  }

  function fold(event: StoredEvent): DirectoryChange | undefined {
    const createdAt = event.meta.at;
    switch (event.type) {
      case "ClientRegistered": {
        const { client, name, key } = event.data;
        names.set(client, name);
        const about = { client, keyId: key.id, name: key.name, scopes: ALL_SCOPES, createdAt, expiresAt: null };
        addKey(key.hash, about, createdAt);
        return undefined;
      }
      case "ClientUpdated":
        if (event.meta.client !== null) names.set(event.meta.client, event.data.name);
        return undefined;
      case "KeyRotated": {
        const { old, key, graceUntil } = event.data;
        const { client } = event.meta;
        const hash = (client === null ? undefined : hashes.get(client)?.get(old)) ?? "";
        const known = keys.get(hash);
        if (client === null || known === undefined) return undefined;
        keys.set(hash, { ...known, expiresAt: graceUntil });
        const about = { client, keyId: key.id, name: key.name, scopes: known.scopes, createdAt, expiresAt: null };
        addKey(key.hash, about, createdAt);
        return { kind: "keys", client };
      }
      case "TokensRevoked": {
        const { subject, generation } = event.data;
        revoke(subject, generation, event.meta.at);
        return { kind: "tokens", subject };
      }
      default:
        return undefined;
    }
  }

  const following = feed.on(async (events) => {
    const concerned = events.filter(isConcerned);
    if (concerned.length === 0) return;
    const decoded = await decode(keyring, concerned);
    const changes = decoded.flatMap((event) => fold(event) ?? []);
    for (const change of changes) for (const listener of listeners) listener(change);
  });

  return {
    async keyByHash(hash) {
      const known = keys.get(hash);
      if (known !== undefined) return known;
      await feed.caughtUp(UNKNOWN_KEY_WAIT_MS);
      return keys.get(hash);
    },
    clientName: (id) => names.get(id),
    tokenHolds: (_client, subject, generation) => generation >= (revoked.get(subject)?.generation ?? 0),
    ready: () => feed.lagMs() <= MAX_LAG_MS,
    onChange(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async [Symbol.asyncDispose]() {
      following[Symbol.dispose]();
      listeners.clear();
    },
  };
}

const CLIENT_EVENTS = new Set(["ClientRegistered", "ClientUpdated", "KeyRotated"]);

const isConcerned = (event: RecordedEvent): boolean =>
  (event.stream.startsWith("client-") && CLIENT_EVENTS.has(event.type)) ||
  (event.stream.startsWith("user-") && event.type === "TokensRevoked");
