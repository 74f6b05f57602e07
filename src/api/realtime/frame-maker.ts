// Makes the frames of a room's events in order: reads what else they are made of, and keeps what the next ones need.
import { LRUCache } from "lru-cache";
import {
  type FrameActor,
  frameOf,
  framePremises,
  type MemberFacts,
  messageSeqOf,
  type StoredRoomEvent,
} from "../../app/public-events.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import { reveal } from "../../domain/event.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { MemberData, RoomEvent } from "../../domain/room-events.ts";
import type { Room } from "../../domain/room-state.ts";
import { decode, decodeRaw, type StoredEvent } from "../../event-store/envelope.ts";
import type { EventStore, RecordedEvent } from "../../event-store/event-store.ts";
import type { Commands } from "../../event-store/handle-command.ts";
import type { Keyring } from "../../event-store/sealing.ts";
import type { Frame } from "./frame-ring.ts";
import type { People } from "./people.ts";

/** Events that other frames are made of, of all rooms: what they may weigh, and how long each is kept at most. */
const KEPT_PREMISES_BYTES = 32 * 1024 * 1024;
const PREMISE_TTL_MS = 60_000;
/** What the last data of a room's members may weigh that is kept, in characters. */
const KEPT_MEMBERS = 256 * 1024;
/** How far back the joining of a member is looked for, in events; beyond, its frame says null. */
const MEMBER_SCAN = 5_000;
const SCAN_PAGE = 500;

export type FrameParts = {
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly commands: Pick<Commands, "loadAt">;
  readonly people: People;
  readonly premises: Premises;
};

/** Decodes a room's recorded events. */
export const decodeRoom = async (keyring: Keyring, events: readonly RecordedEvent[]) =>
  // What stands in a room's stream was written by its decider.
  (await decode(keyring, events)) as unknown as readonly StoredRoomEvent[];

type Premise = { readonly event: StoredRoomEvent; readonly bytes: number };

/** Events that other frames are made of, by stream and seq. The time limit is there for erasure. */
export class Premises extends LRUCache<string, Premise> {
  constructor() {
    super({ maxSize: KEPT_PREMISES_BYTES, sizeCalculation: ({ bytes }) => bytes, ttl: PREMISE_TTL_MS });
  }
}

/** Reads single events of a room by seq, and keeps some. */
export class RoomEvents {
  readonly #parts: Pick<FrameParts, "store" | "keyring" | "premises">;
  readonly #stream: string;

  constructor(parts: Pick<FrameParts, "store" | "keyring" | "premises">, room: RoomId) {
    this.#parts = parts;
    this.#stream = roomStream(room);
  }

  /** The event at a seq. Throws when the stream does not reach that far. */
  async at(seq: number): Promise<StoredRoomEvent> {
    const { premises } = this.#parts;
    const kept = premises.get(`${this.#stream} ${seq}`);
    if (kept !== undefined) return kept.event;
    const recorded = await this.#parts.store.readStream(this.#stream, { from: seq - 1, limit: 1 });
    const [event] = await decodeRoom(this.#parts.keyring, recorded);
    if (event === undefined) throw new Error(`${this.#stream} has no event at seq ${seq}`);
    const bytes = 1 + recorded.reduce((sum, one) => sum + one.data.byteLength, 0);
    premises.set(`${this.#stream} ${seq}`, { event, bytes });
    return event;
  }
}

/** Makes frames along a stretch of a room's stream; a gap between two calls costs time, never truth. */
export class FrameMaker {
  readonly #parts: FrameParts;
  readonly #room: RoomId;
  readonly #events: RoomEvents;
  readonly #members = new LRUCache<Subject, MemberFacts>({
    maxSize: KEPT_MEMBERS,
    sizeCalculation: (member) => 100 + JSON.stringify(member).length,
  });
  /** The revision that comes next if there is no gap. */
  #next = 0;
  /** The room just before it, once a frame asked for it. */
  #then: Room | undefined;

  /** `known`: the room at its stream's `revision`, when it is known. */
  constructor(parts: FrameParts, room: RoomId, events: RoomEvents, known?: { room: Room; revision: number }) {
    this.#parts = parts;
    this.#room = room;
    this.#events = events;
    this.#then = known?.room;
    this.#next = known === undefined ? 0 : known.revision + 1;
  }

  /** The frames of events that follow one another; `nowAt` gives what is known about the room for the one at an index. */
  async make(events: readonly StoredRoomEvent[], nowAt: (index: number) => Room): Promise<readonly Frame[]> {
    if (events[0]?.revision !== this.#next) {
      this.#members.clear();
      this.#then = undefined;
    }
    const own = new Map(events.map((event) => [event.revision + 1, event]));
    const members = await this.#membersBefore(events);
    const frames: Frame[] = [];
    let then = this.#then; // kept only once all are made: what failed is made again from where it began
    for (const [index, event] of events.entries()) {
      const now = nowAt(index);
      const premises = new Map<number, StoredRoomEvent>();
      for (const seq of framePremises(event, now)) premises.set(seq, own.get(seq) ?? (await this.#events.at(seq)));
      const before = then ?? (event.type.startsWith("Room") ? await this.#roomBefore(event.revision) : undefined);
      then = before && roomDecider.evolve(before, event, { seq: event.revision + 1, at: event.meta.at });
      const shown = event.type === "RoomDeleted" ? before : then;
      const frame = frameOf(event, {
        room: this.#room,
        now,
        roomThen: shown?.status === "live" ? shown : undefined,
        member: members.get(event.revision),
        premises,
        ownName: await this.#ownName(event),
        actor: await this.#actorOf(event),
      });
      frames.push({ seq: frame.seq, messageSeq: messageSeqOf(event), bytes: Buffer.from(JSON.stringify(frame)) });
    }
    this.#then = then;
    this.#next = (events.at(-1)?.revision ?? this.#next - 1) + 1;
    return frames;
  }

  async #roomBefore(revision: number): Promise<Room> {
    if (revision === 0) return roomDecider.initial;
    return this.#parts.commands.loadAt(roomDecider, roomStream(this.#room), revision - 1);
  }

  async #ownName(event: StoredRoomEvent): Promise<string | null> {
    if (event.type !== "MemberJoined" && event.type !== "MemberUpdated" && event.type !== "MemberLeft") return null;
    return (await this.#parts.people.of(event.data.subject)).name;
  }

  async #actorOf(event: StoredRoomEvent): Promise<FrameActor> {
    const { type, id } = event.meta.actor;
    if (type !== "user") return { type, id };
    const subject = id as Subject; // actors that are users are recorded by subject
    const { data } = event;
    const own = "user" in data && ("sender" in data ? data.sender : data.subject) === subject;
    return { type, id: own ? reveal(data.user) : (await this.#parts.people.of(subject)).userId };
  }

  /** By revision: what the member that changes or leaves there was before. One look back serves all. */
  async #membersBefore(events: readonly StoredRoomEvent[]): Promise<ReadonlyMap<number, MemberFacts>> {
    const before = new Map<number, MemberFacts>();
    const open = new Set<Subject>();
    const toldHere = new Set<Subject>();
    for (const event of events) {
      if (event.type === "MemberUpdated" || event.type === "MemberLeft") {
        const { subject } = event.data;
        if (!toldHere.has(subject) && !this.#members.has(subject)) open.add(subject);
      }
      for (const { subject } of membersOf(event)) toldHere.add(subject);
    }
    if (open.size > 0) await this.#lookBack(open, events[0]?.revision ?? 0);
    for (const event of events) {
      if (event.type === "MemberUpdated" || event.type === "MemberLeft") {
        const facts = this.#members.get(event.data.subject);
        if (facts !== undefined) before.set(event.revision, facts);
      }
      this.#noteMembers(event);
    }
    return before;
  }

  #noteMembers(event: StoredRoomEvent): void {
    if (event.type === "MemberLeft") this.#members.delete(event.data.subject);
    for (const data of membersOf(event)) {
      const joinedAt =
        event.type === "MemberUpdated" ? (this.#members.get(data.subject)?.joinedAt ?? null) : event.meta.at;
      this.#members.set(data.subject, factsOf(data, joinedAt));
    }
  }

  /** Reads back from before a revision until the joining of each was found; opens only the events of these members. */
  async #lookBack(open: ReadonlySet<Subject>, before: number): Promise<void> {
    const wanted = new Set(open);
    const found: RecordedEvent[] = [];
    let from = before - 1;
    const last = Math.max(0, before - MEMBER_SCAN);
    while (wanted.size > 0 && from >= last) {
      const limit = Math.min(SCAN_PAGE, from - last + 1);
      const page = await this.#parts.store.readStream(roomStream(this.#room), { from, direction: "backward", limit });
      for (const event of page) {
        const subjects = namedIn(event).filter((subject) => wanted.has(subject));
        if (subjects.length > 0) found.push(event);
        if (event.type !== "MemberUpdated") for (const subject of subjects) wanted.delete(subject);
      }
      from -= limit;
    }
    for (const event of (await decodeRoom(this.#parts.keyring, found)).toReversed()) {
      for (const data of membersOf(event)) {
        if (!open.has(data.subject)) continue;
        const known =
          event.type === "MemberUpdated" ? (this.#members.get(data.subject)?.joinedAt ?? null) : event.meta.at;
        this.#members.set(data.subject, factsOf(data, known));
      }
    }
  }
}

const factsOf = ({ name, role, meta }: MemberData, joinedAt: number | null): MemberFacts => ({
  name: reveal(name),
  role,
  meta: reveal(meta) ?? ({} satisfies JsonObject),
  joinedAt,
});

/** The members whose data an event holds. */
function membersOf(event: StoredEvent<RoomEvent>): readonly MemberData[] {
  if (event.type === "RoomCreated") return event.data.members;
  return event.type === "MemberJoined" || event.type === "MemberUpdated" ? [event.data] : [];
}

/** The same without opening anything. */
function namedIn(event: RecordedEvent): readonly Subject[] {
  if (event.type === "MemberJoined" || event.type === "MemberUpdated") return [decodeRaw(event).subject as Subject];
  if (event.type !== "RoomCreated") return [];
  return (decodeRaw(event).members as { subject: Subject }[]).map(({ subject }) => subject);
}
