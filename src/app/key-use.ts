// When API keys were last used: noted in memory as requests come, recorded in the log once a key and hour.
import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import type { KeyResource } from "../contract/clients.ts";
import type { ClientId, KeyId } from "../contract/ids.ts";
import { type Instant, rfc3339, rfc3339OrNull, SECOND_MS } from "../contract/time.ts";
import { type ApiKey, hourOf, keyUseDecider, keyUseStream, scopesOf } from "../domain/client-keys.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import type { Commands } from "../event-store/handle-command.ts";
import { mapBounded } from "../platform/bounded.ts";
import { messageOf, pause } from "../platform/supervise.ts";

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
  readonly #hours = new LRUCache<KeyId, Instant>({ max: MAX_KEYS });
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
