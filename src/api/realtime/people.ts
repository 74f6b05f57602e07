// Users by subject, for frames: their own id and name, from the log, so that frames need not wait for the read model.
import { LRUCache } from "lru-cache";
import type { Subject } from "../../contract/ids.ts";
import { reveal } from "../../domain/event.ts";
import { userDecider, userStream } from "../../domain/user.ts";
import type { Commands } from "../../event-store/handle-command.ts";
import { maxEntries } from "../../platform/bounded.ts";

const MAX_PEOPLE = 10_000;
/** How old what is known of someone may be. */
const PERSON_TTL_MS = 10_000;

/** Both null when the person is not known or was erased. */
type Person = { readonly userId: string | null; readonly name: string | null };

export type People = { of(subject: Subject): Promise<Person> };

/** Remembers who was asked for lately. Asking throws StoreUnavailable. */
export function openPeople(commands: Pick<Commands, "load">): People {
  const cache = new LRUCache<Subject, Person>({
    ...maxEntries(MAX_PEOPLE),
    ttl: PERSON_TTL_MS,
    fetchMethod: async (subject) => {
      const { state } = await commands.load(userDecider, userStream(subject));
      if (state.status === "none") return undefined; // who is not known yet may be in a moment
      return { userId: reveal(state.user), name: reveal(state.profile.name) };
    },
  });
  return { of: async (subject) => (await cache.fetch(subject)) ?? { userId: null, name: null } };
}
