// Users as other aggregates know them, by subject: who they are, and that they exist once they took part.
import { LRUCache } from "lru-cache";
import type { Subject } from "../contract/ids.ts";
import type { PublicActor } from "../contract/public-events.ts";
import type { Instant } from "../contract/time.ts";
import type { Actor } from "../domain/decider.ts";
import { reveal } from "../domain/event.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { type CommandContext, unkeyed } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import { mapBounded, maxEntries } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { LiveFeed } from "../projections/feed.ts";

/** Both null when the person is not known or was erased. */
type Person = { readonly userId: string | null; readonly name: string | null };

const MAX_PEOPLE = 50_000;
/** Users that this node knows to exist, and how many are made at once. */
const MAX_KNOWN = 200_000;
const MADE_AT_ONCE = 50;
/** Bounds how long a person is shown after an erasure. */
const PERSON_TTL_MS = 10_000;
const USER = userStream("sub_").slice(0, -"sub_".length);
const NOBODY: Person = { userId: null, name: null };

/** A cache of people from the log, on the node's feed: it forgets whose user changes. */
export class People implements Disposable {
  readonly #commands: Commands;
  readonly #cache: LRUCache<Subject, Person>;
  /** Where the log was when each was known to exist. */
  readonly #existing = new LRUCache<Subject, Position>(maxEntries(MAX_KNOWN));
  readonly #following: Disposable;

  constructor({ feed, commands }: { readonly feed: LiveFeed; readonly commands: Commands }) {
    this.#commands = commands;
    this.#cache = new LRUCache({
      ...maxEntries(MAX_PEOPLE),
      ttl: PERSON_TTL_MS,
      // Who is forgotten while being read is still given to who asked, and not kept.
      ignoreFetchAbort: true,
      fetchMethod: async (subject) => {
        const { state } = await commands.load(userDecider, userStream(subject));
        if (state.status === "none") return undefined; // may be known in a moment
        return { userId: reveal(state.user), name: reveal(state.profile.name) };
      },
    });
    this.#following = feed.on((events) => {
      for (const { stream, type } of events) {
        if (type === "UserRegistered" || type === "UserUpdated")
          this.#cache.delete(stream.slice(USER.length) as Subject);
      }
    });
  }

  /** People in memory, for metrics. */
  get size(): number {
    return this.#cache.size;
  }

  /** The user's own id and name. Throws StoreUnavailable. */
  async of(subject: Subject): Promise<Person> {
    return (await this.#cache.fetch(subject)) ?? NOBODY;
  }

  /** Who acted, as the outside sees it: a user by its own id. Throws StoreUnavailable. */
  async actor(actor: Actor): Promise<PublicActor> {
    return actor.type === "user" ? { type: "user", id: (await this.of(actor.id)).userId } : actor;
  }

  /**
   * Makes the users that do not exist yet. Call it after the append that they take part by and before the answer. Gives
   * the position that the answer has to name so that a read after it finds them: `after`, or a later one.
   */
  async ensure(
    { at, context }: { readonly at: Instant; readonly context: CommandContext },
    people: readonly { readonly subject: Subject; readonly userId: string }[],
    after: Position,
  ): Promise<Position> {
    failpoint("taken-part/users-ensured");
    const positions = await mapBounded(people, MADE_AT_ONCE, async ({ subject, userId }): Promise<Position> => {
      const there = this.#existing.get(subject);
      if (there !== undefined) return there;
      const command = { type: "Ensure", at, subject, user: userId } as const;
      const { position } = await this.#commands.execute(userDecider, userStream(subject), command, unkeyed(context));
      this.#existing.set(subject, position);
      return position;
    });
    return positions.reduce((latest, one) => (one > latest ? one : latest), after);
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
    this.#cache.clear();
  }
}
