// What the node's feed says to those who follow: whose room an event is in is known from the room's own stream.
import { LRUCache } from "lru-cache";
import { type Followed, markerOf, membershipAfter } from "../../app/follow.ts";
import type { StoredRoomEvent } from "../../app/public-room-events.ts";
import { decodeRoom, evolved, RoomEventMaker } from "../../app/room-event-maker.ts";
import { concernsAlone, personalEvent } from "../../app/scheduled-messages.ts";
import type { Services } from "../../app/services.ts";
import type { ClientId, Subject } from "../../contract/ids.ts";
import type { PublicEvent } from "../../contract/public-events.ts";
import { DELIVERY_STREAMS } from "../../domain/delivery-state.ts";
import { eventSeenFrom, visibleFrom } from "../../domain/message-rules.ts";
import { PersistentMap } from "../../domain/persistent-map.ts";
import { READS_STREAMS } from "../../domain/reads.ts";
import { ROOM_STREAMS, roomDecider, roomStream } from "../../domain/room.ts";
import type { Member, Room } from "../../domain/room-state.ts";
import { SCHEDULED_STREAMS } from "../../domain/scheduled-message.ts";
import { decode, decodeMetadata, decodeRaw } from "../../event-store/envelope.ts";
import { bytesOf, type Position, type RecordedEvent, StoreUnavailable } from "../../event-store/event-store.ts";
import { batchPerTick, mapBounded, upToBytes } from "../../platform/bounded.ts";
import { IDLE_MS, Loop, messageOf } from "../../platform/supervise.ts";
import type { LiveFeed } from "../../projections/feed.ts";
import { roomOf } from "../../projections/projection.ts";
import { notifiesUser } from "./open-deliveries.ts";

/** Max events, and about how many bytes of them, that are told at a time. */
const CHUNK = 100;
const CHUNK_BYTES = 256 * 1024;
/** Rooms of a chunk that are loaded at once: where nobody followed before, all are. */
const ROOMS_AT_ONCE = 16;
/** Max events and bytes that wait to be told. Of more, those who follow read what they missed from the log. */
const MAX_PENDING = 10_000;
const MAX_PENDING_BYTES = 16 * 1024 * 1024;
/** Members of the rooms whose members are kept in memory, each room counted as some more. */
const MAX_MEMBERS = 500_000;
const ROOM_WEIGHT = 20;

/** One who follows. Called in the log's order, never while an earlier call runs; must not throw. */
export type FeedFollower = {
  readonly client: ClientId;
  readonly subject: Subject;
  /** Events that concern the user, each once. */
  tell(events: readonly Followed[]): void;
  /** Some could not be told: all from the last on has to be read from the log. */
  restart(): void;
};

/** Events of the feed, and the position up to which they are all. */
type Chunk = { readonly events: readonly RecordedEvent[]; readonly upTo: Position };
/** A room as far as it was followed. `state`: undefined where nobody needed it. */
type KnownRoom = { readonly revision: number; readonly members: Members; readonly state: Room | undefined };
type Members = PersistentMap<Subject, Member>;
type Audience = ReadonlyMap<Subject, ReadonlySet<FeedFollower>>;

export class FollowFeed implements AsyncDisposable {
  readonly #services: Services;
  readonly #following: Disposable;
  readonly #loop: Loop;
  /** Those who follow, by client and user. */
  readonly #clients = new Map<ClientId, Map<Subject, Set<FeedFollower>>>();
  /** They wait until no chunk is under way. */
  readonly #joining = new Map<FeedFollower, (from: Position | "start") => void>();
  readonly #rooms = new LRUCache<string, KnownRoom>({
    maxSize: MAX_MEMBERS,
    sizeCalculation: ({ members }) => members.size + ROOM_WEIGHT,
  });
  #pending: Chunk[] = [];
  #waiting = { events: 0, bytes: 0 };
  /** Too many waited: what came before this was not kept. */
  #lost: Position | undefined;
  /** Everything up to it was told. */
  #handled: Position | "start";

  constructor(services: Services, feed: LiveFeed) {
    this.#services = services;
    this.#handled = feed.handled();
    // The feed must not wait: what may fail or take time is the loop's affair.
    this.#following = feed.on((events, upTo) => this.#push(events, upTo));
    this.#loop = new Loop({ name: "follow", step: () => this.#step(), logger: services.logger });
  }

  /** How many follow. */
  get size(): number {
    let size = 0;
    for (const users of this.#clients.values()) for (const followers of users.values()) size += followers.size;
    return size;
  }

  /** Gives the position from which on all is told; joins anew who is there already. */
  join(follower: FeedFollower): Promise<Position | "start"> {
    const joined = new Promise<Position | "start">((resolve) => void this.#joining.set(follower, resolve));
    this.#loop.wake();
    return joined;
  }

  /** It is told nothing more. */
  leave(follower: FeedFollower): void {
    this.#joining.delete(follower);
    const users = this.#clients.get(follower.client);
    const followers = users?.get(follower.subject);
    followers?.delete(follower);
    if (followers?.size === 0) users?.delete(follower.subject);
    if (users?.size === 0) this.#clients.delete(follower.client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]();
    await this.#loop[Symbol.asyncDispose]();
    this.#clients.clear();
    this.#rooms.clear();
  }

  #push(events: readonly RecordedEvent[], upTo: Position): void {
    if (this.#clients.size === 0 && this.#joining.size === 0 && this.#pending.length === 0) {
      // Of what happens now nothing is known later. An empty cache still clears all that it ever had room for.
      if (this.#rooms.size > 0) this.#rooms.clear();
      this.#handled = upTo;
      return;
    }
    const wanted = events.filter(({ stream }) => PREFIXES.some((prefix) => stream.startsWith(prefix)));
    for (let rest = wanted; ; ) {
      const part = upToBytes(rest.slice(0, CHUNK), CHUNK_BYTES, bytesOf);
      rest = rest.slice(part.length);
      this.#pending.push({ events: part, upTo: rest.length === 0 ? upTo : (part.at(-1)?.position ?? upTo) });
      this.#count(part, 1);
      if (rest.length === 0) break;
    }
    if (this.#waiting.events > MAX_PENDING || this.#waiting.bytes > MAX_PENDING_BYTES) {
      this.#pending = [];
      this.#waiting = { events: 0, bytes: 0 };
      this.#lost = upTo;
    }
    this.#loop.wake();
  }

  #count(events: readonly RecordedEvent[], sign: 1 | -1): void {
    this.#waiting.events += sign * events.length;
    for (const event of events) this.#waiting.bytes += sign * bytesOf(event);
  }

  async #step(): Promise<number> {
    if (this.#lost !== undefined) this.#recover(this.#lost);
    this.#admit();
    const [chunk] = this.#pending;
    if (chunk === undefined) return IDLE_MS;
    await batchPerTick(); // together with what else comes meanwhile, and after the answer to who caused it
    const prepared = this.#clients.size === 0 ? undefined : await this.#prepare(chunk.events);
    // From here on nothing waits: who follows sees position and events move as one.
    if (this.#pending[0] !== chunk) return 0; // too much came meanwhile
    this.#pending.shift();
    this.#count(chunk.events, -1);
    this.#handled = chunk.upTo;
    if (prepared === undefined) return 0;
    for (const [stream, room] of prepared.rooms) this.#rooms.set(stream, room);
    for (const [follower, events] of prepared.byFollower) follower.tell(events);
    for (const follower of prepared.failed) follower.restart();
    return 0;
  }

  #recover(upTo: Position): void {
    this.#lost = undefined;
    this.#handled = upTo;
    this.#rooms.clear();
    for (const users of this.#clients.values())
      for (const followers of users.values()) for (const one of followers) one.restart();
  }

  #admit(): void {
    for (const [follower, resolve] of this.#joining) {
      const users = this.#clients.get(follower.client) ?? new Map<Subject, Set<FeedFollower>>();
      this.#clients.set(follower.client, users);
      const followers = users.get(follower.subject) ?? new Set();
      users.set(follower.subject, followers.add(follower));
      resolve(this.#handled);
    }
    this.#joining.clear();
  }

  /** What each is to be told of a chunk, and what its rooms are after it. Throws StoreUnavailable. */
  async #prepare(events: readonly RecordedEvent[]) {
    const telling = new Telling(this.#services, (stream) => this.#rooms.get(stream));
    const streams = Map.groupBy(
      events.filter(({ stream }) => stream.startsWith(ROOM_STREAMS)),
      ({ stream }) => stream,
    );
    await mapBounded([...streams], ROOMS_AT_ONCE, async ([stream, own]) => {
      const client = clientOf(own[0]);
      const audience = client === null ? undefined : this.#clients.get(client);
      // Nobody of the client follows: the room is loaded anew when somebody does.
      if (audience === undefined) this.#rooms.delete(stream);
      else await telling.room(stream, own, audience);
    });
    for (const event of events) {
      if (event.stream.startsWith(ROOM_STREAMS)) continue;
      const subject = concernedAlone(event);
      const client = subject === undefined ? null : clientOf(event);
      const followers = client === null || subject === undefined ? undefined : this.#clients.get(client)?.get(subject);
      if (followers !== undefined && subject !== undefined) await telling.alone(event, subject, followers);
    }
    return telling.done();
  }
}

const PREFIXES = [ROOM_STREAMS, READS_STREAMS, SCHEDULED_STREAMS, DELIVERY_STREAMS];
const clientOf = (event: RecordedEvent | undefined): ClientId | null =>
  event === undefined ? null : decodeMetadata(event).client;
const markedBy = (event: RecordedEvent): Subject | undefined =>
  event.type === "ReadMarked" ? (decodeRaw(event).subject as Subject) : undefined;

function concernedAlone(event: RecordedEvent): Subject | undefined {
  if (event.stream.startsWith(READS_STREAMS)) return markedBy(event);
  return event.stream.startsWith(SCHEDULED_STREAMS) ? concernsAlone(event) : notifiesUser(event)?.recipient;
}

const membersOf = (room: Room): Members => (room.status === "live" ? room.members : NOBODY);
const NOBODY: Members = PersistentMap.empty();

/** Collects what is to be told of one chunk. */
class Telling {
  readonly #services: Services;
  readonly #known: (stream: string) => KnownRoom | undefined;
  readonly #rooms = new Map<string, KnownRoom>();
  readonly #prepared = new Map<FeedFollower, Followed[]>();
  readonly #failed = new Set<FeedFollower>();
  /** By room, its members from each position of the chunk on at which they changed. */
  readonly #changes = new Map<string, { readonly from: Position; readonly members: Members }[]>();

  constructor(services: Services, known: (stream: string) => KnownRoom | undefined) {
    this.#services = services;
    this.#known = known;
  }

  /** Events of one room, for those among its members who follow. What fails for a room is read from the log later. */
  async room(stream: string, recorded: readonly RecordedEvent[], audience: Audience): Promise<void> {
    try {
      await this.#room(stream, recorded, audience);
    } catch (error) {
      if (error instanceof StoreUnavailable) throw error;
      this.#services.logger.warn({ stream, error: messageOf(error) }, "events could not be told to those who follow");
      for (const followers of audience.values()) for (const one of followers) this.#failed.add(one);
    }
  }

  async #room(stream: string, recorded: readonly RecordedEvent[], audience: Audience): Promise<void> {
    const [first] = recorded;
    if (first === undefined) return;
    const before = await this.#before(stream, first.revision);
    const last = recorded.at(-1)?.revision ?? first.revision;
    const isHeard = among(before.members, audience).length > 0;
    if (!isHeard && !recorded.some(({ type }) => COMES_IN.has(type))) {
      const gone = recorded.some(({ type }) => MOVES.has(type));
      // Who is in it is the same, unless somebody went: then it is loaded anew.
      if (!gone) this.#rooms.set(stream, { revision: last, members: before.members, state: undefined });
      return;
    }
    const events = await decodeRoom(this.#services, recorded);
    const states: Room[] = [before.state ?? (await this.#load(stream, first.revision - 1))];
    for (const event of events) states.push(evolved(states.at(-1) ?? roomDecider.initial, event));
    const after = states.at(-1) ?? roomDecider.initial;
    this.#rooms.set(stream, { revision: last, members: membersOf(after), state: after });
    const heard = events.map((_, index) => this.#hearing(states[index], states[index + 1], audience));
    this.#changes.set(
      stream,
      events.map((event, index) => ({ from: event.position, members: membersOf(states[index + 1] ?? after) })),
    );
    if (heard.every((one) => one.size === 0)) return;
    const shown = await new RoomEventMaker(this.#services, roomOf(stream)).live(events, states);
    for (const [index, event] of events.entries()) {
      const [followers, public_, state] = [heard[index], shown[index], states[index + 1]];
      if (followers !== undefined && public_ !== undefined) this.#tellOf(event, public_, followers, state);
    }
  }

  #tellOf(event: StoredRoomEvent, shown: PublicEvent, heard: Hearing, after: Room | undefined): void {
    const room = roomOf(event.stream);
    const plain = { kind: "room", position: event.position, room, seq: event.revision + 1, event: shown } as const;
    const shared: Followed = { ...plain, comes: null, ends: null };
    let hidden: Followed | undefined;
    for (const [follower, wasIn] of heard) {
      const change = membershipAfter(event, follower.subject);
      const comes = !wasIn && after?.status === "live" ? after : null;
      const ends = wasIn && typeof change === "string" ? change : null;
      if (comes !== null || ends !== null) {
        this.#tell(follower, { ...plain, comes, ends });
        continue;
      }
      const from = after?.status === "live" ? visibleFrom(after, { type: "user", id: follower.subject }) : 0;
      const seen = /* fence: follow-unseen */ from === 0 ? shown : eventSeenFrom(shown, from);
      // Of its message nothing is left, whoever is told.
      if (seen !== undefined && seen !== shown) hidden ??= { ...shared, event: seen };
      this.#tell(follower, seen === shown ? shared : (hidden ?? shared));
    }
  }

  /** What concerns one user alone. */
  async alone(event: RecordedEvent, subject: Subject, followers: ReadonlySet<FeedFollower>): Promise<void> {
    const { position } = event;
    if (event.stream.startsWith(READS_STREAMS)) {
      const [stored] = await decode(this.#services.keyring, [event]);
      if (stored?.type !== "ReadMarked" || !(await this.#isMember(event, subject))) return;
      const marker = markerOf(stored);
      for (const one of followers) this.#tell(one, { kind: "read", position, marker });
    } else if (event.stream.startsWith(SCHEDULED_STREAMS)) {
      const own = await this.#personal(event, followers);
      if (own !== undefined) for (const one of followers) this.#tell(one, own);
    } else for (const one of followers) this.#tell(one, { kind: "notification", position, event });
  }

  /** What fails for a user is read from the log later. */
  async #personal(recorded: RecordedEvent, followers: ReadonlySet<FeedFollower>): Promise<Followed | undefined> {
    const { stream, position } = recorded;
    try {
      const event = await personalEvent(this.#services, recorded);
      return event === undefined ? undefined : { kind: "personal", position, event };
    } catch (error) {
      if (error instanceof StoreUnavailable) throw error;
      this.#services.logger.warn({ stream, error: messageOf(error) }, "an event could not be told to one who follows");
      for (const one of followers) this.#failed.add(one);
      return undefined;
    }
  }

  done() {
    const byFollower = [...this.#prepared].map(
      ([follower, events]) => [follower, events.toSorted((a, b) => (a.position < b.position ? -1 : 1))] as const,
    );
    return { rooms: this.#rooms, byFollower, failed: this.#failed };
  }

  #tell(follower: FeedFollower, followed: Followed): void {
    const all = this.#prepared.get(follower) ?? [];
    this.#prepared.set(follower, all);
    all.push(followed);
  }

  /** Those who follow and are in the room before or after an event, and whether they were before. */
  #hearing(before: Room | undefined, after: Room | undefined, audience: Audience): Hearing {
    const [was, is] = [membersOf(before ?? roomDecider.initial), membersOf(after ?? roomDecider.initial)];
    const hearing = new Map<FeedFollower, boolean>();
    for (const one of among(was, audience)) hearing.set(one, true);
    if (was !== is) for (const one of among(is, audience)) if (!hearing.has(one)) hearing.set(one, false);
    return hearing;
  }

  /** The room just before a revision. */
  async #before(stream: string, revision: number): Promise<Pick<KnownRoom, "members" | "state">> {
    const known = this.#known(stream);
    if (known !== undefined && known.revision === revision - 1) return known;
    const state = await this.#load(stream, revision - 1);
    return { members: membersOf(state), state };
  }

  async #load(stream: string, revision: number): Promise<Room> {
    if (revision < 0) return roomDecider.initial;
    return this.#services.commands.loadAt(roomDecider, stream, revision);
  }

  /** Whether a user is in the room of a marker at the marker. */
  async #isMember({ stream, position }: RecordedEvent, subject: Subject): Promise<boolean> {
    const room = roomStream(roomOf(stream));
    const changes = this.#changes.get(room) ?? [];
    const changed = changes.findLast(({ from }) => from < position)?.members;
    const known = changed ?? this.#known(room)?.members;
    if (known !== undefined) return known.has(subject);
    const { state } = await this.#services.commands.load(roomDecider, room);
    return membersOf(state).has(subject);
  }
}

/** By follower, whether it was in the room before the event. */
type Hearing = ReadonlyMap<FeedFollower, boolean>;

/** The events with which somebody comes into a room, or goes. */
const COMES_IN: ReadonlySet<string> = new Set(["RoomCreated", "MemberJoined"]);
const MOVES: ReadonlySet<string> = new Set([...COMES_IN, "MemberLeft", "RoomDeleted"]);

/** Those of the members who follow: the fewer of the two are looked up among the others. */
function among(members: Members, audience: Audience): readonly FeedFollower[] {
  if (members.size === 0) return [];
  if (audience.size <= members.size)
    return [...audience].flatMap(([subject, followers]) => (members.has(subject) ? [...followers] : []));
  const found: FeedFollower[] = [];
  for (const [subject] of members.entries()) found.push(...(audience.get(subject) ?? []));
  return found;
}
