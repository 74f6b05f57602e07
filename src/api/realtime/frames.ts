// Makes the frames of a room's events, once for all sockets: reads what else they show, and keeps what the next ones need.
import { LRUCache } from "lru-cache";
import {
  type MemberFacts,
  messageSeqOf,
  priorSeqs,
  publicEvent,
  type StoredRoomEvent,
} from "../../app/public-events.ts";
import type { Services } from "../../app/services.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import { reveal } from "../../domain/event.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { MemberData, Room } from "../../domain/room-state.ts";
import { userDecider, userStream } from "../../domain/user.ts";
import { decode, decodeRaw } from "../../event-store/envelope.ts";
import type { RecordedEvent } from "../../event-store/event-store.ts";
import type { Frame } from "./frame-ring.ts";

/** Max characters of the members' data that a maker keeps. */
const KEPT_MEMBERS = 256 * 1024;
/** Max events read back for a member's joining; beyond, its frame shows null. */
const MEMBER_SCAN = 5_000;
const SCAN_PAGE = 500;

/** Decodes a room's recorded events. */
export const decodeRoom = async ({ keyring }: Services, events: readonly RecordedEvent[]) =>
  // Only the room's decider writes to its stream.
  (await decode(keyring, events)) as unknown as readonly StoredRoomEvent[];

/** The room just after an event. */
export const evolved = (room: Room, event: StoredRoomEvent): Room =>
  roomDecider.evolve(room, event, { seq: event.revision + 1, at: event.meta.at });

type User = { readonly id: string | null; readonly name: string | null };

/** Makes frames along a stretch of a room's stream. A gap between two calls costs time, never truth. */
export class FrameMaker {
  readonly #services: Services;
  readonly #room: RoomId;
  readonly #stream: string;
  /** The members' data just before `#next`, as far as it is known. */
  readonly #members = new LRUCache<Subject, MemberFacts>({
    maxSize: KEPT_MEMBERS,
    sizeCalculation: (member) => 100 + JSON.stringify(member).length,
  });
  /** The revision that follows the last call. */
  #next = 0;

  constructor(services: Services, room: RoomId) {
    this.#services = services;
    this.#room = room;
    this.#stream = roomStream(room);
  }

  /** Frames of new events. `states`: the room just before the first of them, then just after each. */
  live(events: readonly StoredRoomEvent[], states: readonly Room[]): Promise<readonly Frame[]> {
    return this.#make(events, (index) => states[index + 1] ?? roomDecider.initial, states);
  }

  /** Frames of past events, with what has become of their messages in the room as it is `now`. */
  async past(events: readonly StoredRoomEvent[], now: Room): Promise<readonly Frame[]> {
    return this.#make(events, () => now, await this.#statesFor(events));
  }

  async #make(
    events: readonly StoredRoomEvent[],
    nowAt: (index: number) => Room,
    states: readonly (Room | undefined)[],
  ): Promise<readonly Frame[]> {
    if (events[0]?.revision !== this.#next) this.#members.clear();
    const before = await this.#membersBefore(events);
    const priorEvents = await this.#priorEvents(events, nowAt);
    const users = await this.#usersOf(events, priorEvents);
    // From here on nothing waits: what fails above is made again from where it began.
    const frames = events.map((event, index): Frame => {
      const then = states[event.type === "RoomDeleted" ? index : index + 1];
      const subject = "subject" in event.data ? event.data.subject : undefined;
      const { actor } = event.meta;
      const shown = publicEvent(event, {
        ...{ room: this.#room, now: nowAt(index), priorEvents },
        roomThen: then?.status === "live" ? then : undefined,
        member: subject && (this.#members.get(subject) ?? before.get(subject)),
        ownName: (subject && users.get(subject)?.name) ?? null,
        actor: actor.type === "user" ? { type: "user", id: users.get(actor.id)?.id ?? null } : actor,
      });
      this.#remember(event, before);
      const { room_id, seq, type, ...more } = shown;
      const bytes = Buffer.from(JSON.stringify({ type: "event", room_id, seq, event: type, ...more }));
      return { seq, messageSeq: messageSeqOf(event), bytes };
    });
    this.#next = (events.at(-1)?.revision ?? this.#next - 1) + 1;
    return frames;
  }

  /** The room around each event, from the first that shows it on. */
  async #statesFor(events: readonly StoredRoomEvent[]): Promise<readonly (Room | undefined)[]> {
    const first = events.findIndex((event) => event.type.startsWith("Room"));
    const [from] = events.slice(first, first + 1);
    if (first === -1 || from === undefined) return [];
    const { commands } = this.#services;
    let room =
      from.revision === 0 ? roomDecider.initial : await commands.loadAt(roomDecider, this.#stream, from.revision - 1);
    const states: (Room | undefined)[] = [...events.slice(0, first).map(() => undefined), room];
    for (const event of events.slice(first)) {
      room = evolved(room, event);
      states.push(room);
    }
    return states;
  }

  /** The events themselves, and the others that they are shown with, by seq. */
  async #priorEvents(events: readonly StoredRoomEvent[], nowAt: (index: number) => Room) {
    const found = new Map(events.map((event) => [event.revision + 1, event]));
    const missing = new Set(events.flatMap((event, index) => priorSeqs(event, nowAt(index))));
    const read = async (seq: number) => {
      const recorded = await this.#services.store.readStream(this.#stream, { from: seq - 1, limit: 1 });
      const [event] = await decodeRoom(this.#services, recorded);
      if (event === undefined) throw new Error(`${this.#stream} has no event at seq ${seq}`);
      found.set(seq, event);
    };
    await Promise.all([...missing].filter((seq) => !found.has(seq)).map(read));
    return found;
  }

  /** The users that act, or whose own name may be shown: from the events where they say it, else from the users' streams. */
  async #usersOf(events: readonly StoredRoomEvent[], priorEvents: ReadonlyMap<number, StoredRoomEvent>) {
    const users = new Map<Subject, User>();
    const unknown = new Set<Subject>();
    for (const event of events) {
      if (isMemberEvent(event)) unknown.add(event.data.subject);
      const { actor } = event.meta;
      if (actor.type !== "user") continue;
      const posting = priorEvents.get(messageSeqOf(event) ?? 0);
      const own = [event, posting].find((one) => one !== undefined && namesUser(one, actor.id));
      if (own !== undefined && "user" in own.data) users.set(actor.id, { id: reveal(own.data.user), name: null });
      else unknown.add(actor.id);
    }
    const load = async (subject: Subject) => {
      const { state } = await this.#services.commands.load(userDecider, userStream(subject));
      if (state.status === "none") return;
      users.set(subject, { id: reveal(state.user), name: reveal(state.profile.name) });
    };
    await Promise.all([...unknown].map(load));
    return users;
  }

  /** The members that change or leave and are not known, as they were before. One scan back serves all. */
  async #membersBefore(events: readonly StoredRoomEvent[]): Promise<Map<Subject, MemberFacts>> {
    const unknown = new Set<Subject>();
    const joined = new Set<Subject>();
    for (const event of events) {
      if (event.type === "MemberUpdated" || event.type === "MemberLeft") {
        const { subject } = event.data;
        if (!joined.has(subject) && !this.#members.has(subject)) unknown.add(subject);
      }
      for (const { subject } of membersOf(event)) joined.add(subject);
    }
    const before = new Map<Subject, MemberFacts>();
    if (unknown.size === 0) return before;
    const found = await this.#scanBack(unknown, events[0]?.revision ?? 0);
    for (const event of await decodeRoom(this.#services, found)) {
      for (const data of membersOf(event)) {
        if (unknown.has(data.subject)) before.set(data.subject, factsOf(event, data, before.get(data.subject)));
      }
    }
    return before;
  }

  /** The events of these members before a revision, back to the joining of each, oldest first; opens none of them. */
  async #scanBack(subjects: ReadonlySet<Subject>, before: number): Promise<readonly RecordedEvent[]> {
    const wanted = new Set(subjects);
    const found: RecordedEvent[] = [];
    let from = before - 1;
    const last = Math.max(0, before - MEMBER_SCAN);
    while (wanted.size > 0 && from >= last) {
      const limit = Math.min(SCAN_PAGE, from - last + 1);
      const page = await this.#services.store.readStream(this.#stream, { from, direction: "backward", limit });
      for (const event of page) {
        const named = namedIn(event).filter((subject) => wanted.has(subject));
        if (named.length > 0) found.push(event);
        if (event.type !== "MemberUpdated") for (const subject of named) wanted.delete(subject);
      }
      from -= limit;
    }
    return found.toReversed();
  }

  #remember(event: StoredRoomEvent, before: Map<Subject, MemberFacts>): void {
    for (const data of membersOf(event)) {
      const { subject } = data;
      this.#members.set(subject, factsOf(event, data, this.#members.get(subject) ?? before.get(subject)));
    }
    if (event.type !== "MemberLeft") return;
    this.#members.delete(event.data.subject);
    before.delete(event.data.subject);
  }
}

const isMemberEvent = (event: StoredRoomEvent) =>
  event.type === "MemberJoined" || event.type === "MemberUpdated" || event.type === "MemberLeft";

/** Whether an event holds the id of this user. */
const namesUser = ({ data }: StoredRoomEvent, subject: Subject): boolean =>
  "user" in data && ("sender" in data ? data.sender : data.subject) === subject;

/** A member just after an event that holds its data. */
const factsOf = (event: StoredRoomEvent, data: MemberData, before: MemberFacts | undefined): MemberFacts => ({
  name: reveal(data.name),
  role: data.role,
  meta: reveal(data.meta) ?? {},
  joinedAt: event.type === "MemberUpdated" ? (before?.joinedAt ?? null) : event.meta.at,
});

/** The members whose data an event holds. */
function membersOf(event: StoredRoomEvent): readonly MemberData[] {
  if (event.type === "RoomCreated") return event.data.members;
  return event.type === "MemberJoined" || event.type === "MemberUpdated" ? [event.data] : [];
}

/** Their subjects, without opening anything. */
function namedIn(event: RecordedEvent): readonly Subject[] {
  if (event.type === "MemberJoined" || event.type === "MemberUpdated") return [decodeRaw(event).subject as Subject];
  if (event.type !== "RoomCreated") return [];
  return (decodeRaw(event).members as { subject: Subject }[]).map(({ subject }) => subject);
}
