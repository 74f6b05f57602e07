// Display names of members, for messages posted without one: cached from the read model, dropped when the log says so.
import { LRUCache } from "lru-cache";
import type { RoomId, Subject } from "../contract/ids.ts";
import { decodeRaw } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import type { LiveFeed } from "../projections/feed.ts";
import type { ReadAs, ReadSide } from "../projections/read-side.ts";

/** Names kept in memory. */
const MAX_NAMES = 50_000;
/** How long a name is kept at most: the bound of staleness when a change was forgotten too. */
const NAME_TTL_MS = 60_000;
/** How long a look-up waits for the read model to have a change that the log told of. */
const CHANGE_WAIT_MS = 1_000;

const CHANGES: ReadonlySet<string> = new Set([
  "MemberJoined",
  "MemberUpdated",
  "MemberLeft",
  "UserRegistered",
  "UserUpdated",
]);

export interface MemberNames extends Disposable {
  /** The member's name in the room, else the user's own, else null. */
  nameOf(read: ReadAs, room: RoomId, subject: Subject): Promise<string | null>;
}

type MemberNamesOptions = {
  readonly feed: LiveFeed;
  readonly readSide: Pick<ReadSide, "waitFor">;
  /** Asks the read model. */
  readonly lookUp: (read: ReadAs, room: RoomId, subject: Subject) => Promise<string | null>;
};

/** A subject's names, all dropped together; and what the read model must have reached before they are asked for again. */
type Names = { readonly byRoom: Map<RoomId, string | null>; changedAt: Position | null };
const MAX_ROOMS_OF_ONE = 100;

/** Opens the cache on the node's feed. */
export function openMemberNames({ feed, readSide, lookUp }: MemberNamesOptions): MemberNames {
  const cache = new LRUCache<Subject, Names>({ max: MAX_NAMES, ttl: NAME_TTL_MS });

  const following = feed.on((events) => {
    for (const event of events) {
      if (!CHANGES.has(event.type)) continue;
      const { subject } = decodeRaw(event);
      // What a look-up under way finds goes into the record that is replaced here, and is forgotten with it.
      if (typeof subject === "string") {
        cache.set(subject as Subject, { byRoom: new Map(), changedAt: event.position });
      }
    }
  });

  return {
    async nameOf(read, room, subject) {
      const names: Names = cache.get(subject) ?? { byRoom: new Map(), changedAt: null };
      const known = names.byRoom.get(room);
      if (known !== undefined) return known;
      if (!cache.has(subject)) cache.set(subject, names);
      const { changedAt } = names;
      const current = changedAt === null || (await readSide.waitFor(changedAt, CHANGE_WAIT_MS));
      const name = await lookUp(read, room, subject);
      if (!current) return name;
      names.changedAt = null;
      if (names.byRoom.size >= MAX_ROOMS_OF_ONE) names.byRoom.clear();
      names.byRoom.set(room, name);
      return name;
    },
    [Symbol.dispose]() {
      following[Symbol.dispose]();
      cache.clear();
    },
  };
}
