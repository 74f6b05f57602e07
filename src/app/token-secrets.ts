// The secrets that sign user tokens, as this process knows them: at most a second old.
import { setTimeout as sleep } from "node:timers/promises";
import { HOUR_MS } from "../contract/time.ts";
import { MAX_TOKEN_MS } from "../contract/users.ts";
import type { RotatedSecret, RotateOptions } from "../event-store/rotated-secrets.ts";

/** Among the server's own secrets. */
const NAME = "tokens";
/** How long one is kept after the next one was made: its last token lives no longer, a node's slow clock included. */
const KEPT_MS = MAX_TOKEN_MS + HOUR_MS;
/** After so long what is known is read again: before it is used, or beside its use when half of that has passed. */
const KNOWN_MS = 1_000;
/** What no id of ours looks like is not looked up. */
const ID = /^[A-Za-z0-9_-]{16}$/;

type Secrets = {
  /** All that still count, newest first. */
  rotatedSecrets(name: string): Promise<readonly RotatedSecret[]>;
};
type Rotating = {
  rotateSecret(name: string, options: RotateOptions): Promise<{ readonly id: string; readonly dropped: number }>;
};

/**
 * Makes a new secret, which signs from now on, and drops those that no living token needs; `atOnce`: all older ones, so
 * that every token that they signed ends.
 */
export const rotateTokenSecret = (
  keyring: Rotating,
  { at, atOnce = false }: { at: Date; atOnce?: boolean | undefined },
) => keyring.rotateSecret(NAME, { at, keepMs: atOnce ? 0 : KEPT_MS });

/** An id stands as `kid` in the header of the tokens that its secret signs; tokens without one are of the first secret. */
export class TokenSecrets {
  readonly #keyring: Secrets;
  #known: readonly RotatedSecret[] = [];
  /** When the last reading began. */
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(keyring: Secrets) {
    this.#keyring = keyring;
  }

  /** The one that signs. Throws what reading throws when none is known yet. */
  async newest(): Promise<RotatedSecret> {
    await this.#refresh();
    const [newest] = this.#known;
    if (newest === undefined) throw new Error("there is no secret of user tokens");
    return newest;
  }

  /** Whether the one with this id still counts. */
  async has(id: string | null): Promise<boolean> {
    await this.#refresh();
    return this.#known.some((secret) => secret.id === id);
  }

  /** The one with this id; one that is not known waits for the next reading, of which there is one a second for all. */
  async find(id: string | null): Promise<RotatedSecret | undefined> {
    await this.#refresh();
    const ofId = (secret: RotatedSecret) => secret.id === id;
    const known = this.#known.find(ofId);
    if (known !== undefined || id === null || !ID.test(id)) return known;
    this.#next ??= this.#readNext();
    await this.#next;
    return this.#known.find(ofId);
  }

  async #readNext(): Promise<void> {
    await sleep(this.#readAt + KNOWN_MS - performance.now(), undefined, { ref: false });
    // One that is under way may have begun before the secret was made.
    await this.#reading;
    this.#next = undefined;
    await this.#readOnce();
  }

  async #refresh(): Promise<void> {
    const age = performance.now() - this.#readAt;
    if (age >= KNOWN_MS) await this.#readOnce();
    else if (age >= KNOWN_MS / 2) void this.#readOnce();
    // Nothing to go on with: however long it takes.
    if (this.#known.length === 0) this.#known = await this.#keyring.rotatedSecrets(NAME);
  }

  /** While PostgreSQL is away, or does not answer within a second, things stay as they were known. */
  #readOnce(): Promise<void> {
    const begun = performance.now();
    const read = async () => {
      try {
        this.#known = await this.#keyring.rotatedSecrets(NAME);
        this.#readAt = begun;
      } catch {
        // Read again later; who needs one that is not known is refused.
      }
    };
    this.#reading ??= Promise.race([read(), sleep(KNOWN_MS, undefined, { ref: false })]).finally(() => {
      if (this.#readAt < begun) this.#readAt = performance.now();
      this.#reading = undefined;
    });
    return this.#reading;
  }
}
