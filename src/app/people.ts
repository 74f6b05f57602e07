// Users as other aggregates know them, by subject: who they are, and that they exist once they took part.
import { LRUCache } from "lru-cache";
import type { Subject } from "../contract/ids.ts";
import { reveal } from "../domain/event.ts";
import { userDecider, userStream } from "../domain/user.ts";
import type { Commands } from "../event-store/handle-command.ts";
import { maxEntries } from "../platform/bounded.ts";
import type { LiveFeed } from "../projections/feed.ts";

/** Both null when the person is not known or was erased. */
type Person = { readonly userId: string | null; readonly name: string | null };

const MAX_PEOPLE = 50_000;
/** Bounds how long a person is shown after an erasure. */
const PERSON_TTL_MS = 10_000;
const USER = userStream("sub_").slice(0, -"sub_".length);
const NOBODY: Person = { userId: null, name: null };

/** A cache of people from the log, on the node's feed: it forgets whose user changes. */
export class People implements Disposable {
  readonly #cache: LRUCache<Subject, Person>;
  readonly #following: Disposable;

  constructor({ feed, commands }: { readonly feed: LiveFeed; readonly commands: Pick<Commands, "load"> }) {
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

  /** The user's own id and name. Throws StoreUnavailable. */
  async of(subject: Subject): Promise<Person> {
    return (await this.#cache.fetch(subject)) ?? NOBODY;
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
    this.#cache.clear();
  }
}
