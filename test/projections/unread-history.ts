// Random histories of rooms, and what is unread after them, counted one message after the other.
import type { ClientId, RoomId, Subject } from "../../src/contract/ids.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { readsStream } from "../../src/domain/reads.ts";
import { roomStream } from "../../src/domain/room.ts";
import { pick, type Random } from "../faults/support/random.ts";
import * as events from "./log.ts";

type Said = {
  readonly seq: number;
  readonly sender: Subject;
  readonly system: boolean;
  growing: boolean;
  /** The seq of the end of one that grew. */
  end: number | null;
  deleted: boolean;
  mentions: readonly Subject[];
  everyone: boolean;
};
type Marker = { readonly seq: number; readonly base: number };
type RoomModel = {
  readonly id: RoomId;
  seq: number;
  ordinal: number;
  deleted: boolean;
  history: "all" | "from_join";
  readonly banned: Set<Subject>;
  /** When each member joined; 0 of those who came with the room. */
  readonly members: Map<Subject, number>;
  readonly said: Said[];
  readonly markers: Map<Subject, Marker>;
  /** The order of the last events of all rooms. */
  activity: number;
};

export type Unread = { readonly room: RoomId; readonly unread_count: number; readonly mention_count: number };
type Write = (stream: string, all: readonly DomainEvent[], origin: { readonly client: ClientId }) => Promise<unknown>;

/** Rooms of one client in which anything happens that may change what is unread. */
export class UnreadHistory {
  readonly #write: Write;
  readonly #draw: Random;
  readonly #client: ClientId;
  readonly #people: readonly Subject[];
  readonly #rooms: RoomModel[] = [];
  #steps = 0;

  constructor(write: Write, draw: Random, client: ClientId, people: readonly Subject[]) {
    this.#write = write;
    this.#draw = draw;
    this.#client = client;
    this.#people = people;
  }

  async newRoom(): Promise<void> {
    const number = this.#rooms.length;
    const members = this.#people.filter(() => this.#draw() < 0.8);
    const room: RoomModel = {
      id: `room_${this.#client.slice(4)}${number.toString().padStart(10, "0")}`,
      ...{ seq: 0, ordinal: 0, deleted: false, activity: 0, banned: new Set() },
      history: this.#draw() < 0.5 ? "from_join" : "all",
      members: new Map(members.map((subject) => [subject, 0])),
      ...{ said: [], markers: new Map() },
    };
    this.#rooms.push(room);
    const { history } = room;
    const all = members.map((one) => events.member(one));
    await this.#happens(room, events.roomCreated(all, { history }));
  }

  /** Something happens in some room; now and then nothing, where it would be refused. */
  async step(): Promise<void> {
    const live = this.#rooms.filter(({ deleted }) => !deleted);
    if (live.length < 2 || this.#draw() < 0.01) return this.newRoom();
    const room = pick(this.#draw, live);
    const who = pick(this.#draw, this.#people);
    const chance = this.#draw.below(100);
    if (chance === 0) return this.#deleteRoom(room);
    if (chance < 45) return this.#post(room, who);
    if (chance < 50) return this.#endGrowth(room);
    if (chance < 62) return this.#changeMessage(room);
    if (chance < 67) return this.#edit(room);
    if (chance < 72) return this.#move(room, who);
    if (chance < 93) return this.#mark(room, who);
    if (chance < 95) return this.#turnHistory(room);
    if (chance < 97) return this.#ban(room, who);
    return this.#happens(room, events.muted(who));
  }

  /** The rooms of a user, newest activity first, each with what is unread. */
  of(subject: Subject): readonly Unread[] {
    return this.#rooms
      .filter((room) => !room.deleted && room.members.has(subject))
      .sort((a, b) => b.activity - a.activity)
      .map((room) => {
        const { read } = readIn(room, subject);
        const seen = room.history === "all" ? 0 : (room.members.get(subject) ?? 0);
        const unread = room.said.filter(
          (one) =>
            one.seq >= seen &&
            !one.system &&
            !one.growing &&
            !one.deleted &&
            one.sender !== subject &&
            countsFrom(one) > read,
        );
        const mentioning = unread.filter((one) => one.everyone || one.mentions.includes(subject));
        return { room: room.id, unread_count: unread.length, mention_count: mentioning.length };
      });
  }

  async #happens(room: RoomModel, event: DomainEvent): Promise<void> {
    room.seq += 1;
    this.#steps += 1;
    room.activity = this.#steps;
    await this.#write(roomStream(room.id), [event], { client: this.#client });
  }

  async #post(room: RoomModel, sender: Subject): Promise<void> {
    if (!room.members.has(sender)) return;
    const system = this.#draw() < 0.1;
    const growing = this.#draw() < 0.2;
    const { mentions, everyone } = this.#mentions();
    if (!system && !growing) room.ordinal += 1;
    const about = { room: room.id, type: system ? "system" : "text", growing, mentions, everyone };
    const seq = room.seq + 1;
    room.said.push({ seq, sender, system, growing, end: null, deleted: false, mentions, everyone });
    await this.#happens(room, events.posted(sender, seq, room.ordinal, about));
  }

  async #endGrowth(room: RoomModel): Promise<void> {
    const said = room.said.find(({ growing }) => growing);
    if (said === undefined) return;
    if (!said.system) room.ordinal += 1;
    Object.assign(said, { growing: false, end: room.seq + 1 });
    const type = pick(this.#draw, ["MessageCompleted", "MessageCancelled"] as const);
    const { ordinal } = room;
    await this.#happens(room, events.grown(type, said.sender, said.seq, "grown", { ...said, ordinal }));
  }

  async #changeMessage(room: RoomModel): Promise<void> {
    const said = this.#some(room);
    if (said === undefined) return;
    const change = said.deleted ? events.restored : events.removed;
    said.deleted = !said.deleted;
    await this.#happens(room, change(said.seq, room.id, null, said.end));
  }

  async #edit(room: RoomModel): Promise<void> {
    const said = this.#some(room);
    if (said === undefined || said.deleted) return;
    const before = said.mentions;
    const { mentions } = this.#mentions();
    Object.assign(said, { mentions, everyone: false });
    const unmentioned = before.filter((one) => !mentions.includes(one));
    await this.#happens(room, events.edited(said.sender, said.seq, "edited", { mentions, unmentioned }));
  }

  /** Members see all of it from now on, or nothing from before their joining. */
  async #turnHistory(room: RoomModel): Promise<void> {
    room.history = room.history === "all" ? "from_join" : "all";
    await this.#happens(room, events.roomUpdated({ history: room.history }));
  }

  async #ban(room: RoomModel, who: Subject): Promise<void> {
    if (room.banned.delete(who)) return this.#happens(room, events.unbanned(who));
    room.banned.add(who);
    if (room.members.delete(who)) await this.#happens(room, events.left(who, "banned"));
    await this.#happens(room, events.banned(who));
  }

  async #move(room: RoomModel, who: Subject): Promise<void> {
    if (room.banned.has(who)) return;
    const leaves = room.members.delete(who);
    await this.#happens(room, leaves ? events.left(who) : events.joined(who));
    if (!leaves) room.members.set(who, room.seq);
  }

  async #mark(room: RoomModel, who: Subject): Promise<void> {
    const joined = room.members.get(who);
    if (joined === undefined) return;
    const { read } = readIn(room, who);
    const back = this.#draw() < 0.3;
    const seq = back ? joined + this.#draw.below(Math.max(1, read - joined)) : room.seq - this.#draw.below(4);
    if (back ? seq >= read : seq <= read) return;
    const base = back ? room.seq : null;
    room.markers.set(who, { seq, base: base ?? room.markers.get(who)?.base ?? 0 });
    await this.#write(readsStream(room.id), [events.marked(who, seq, base)], { client: this.#client });
    if (this.#draw() < 0.2)
      await this.#write(readsStream(room.id), [events.delivered(who, room.seq)], { client: this.#client });
  }

  async #deleteRoom(room: RoomModel): Promise<void> {
    room.deleted = true;
    await this.#happens(room, { type: "RoomDeleted", data: {} });
  }

  /** A message that does not grow. */
  #some(room: RoomModel): Said | undefined {
    const all = room.said.filter(({ growing }) => !growing);
    // Mostly late ones, which others have not read.
    return all.length === 0 ? undefined : all[all.length - 1 - Math.floor(this.#draw() ** 2 * all.length)];
  }

  #mentions(): Pick<Said, "mentions" | "everyone"> {
    const mentions = this.#draw() < 0.2 ? [pick(this.#draw, this.#people)] : [];
    return { mentions, everyone: this.#draw() < 0.05 };
  }
}

const countsFrom = ({ seq, end }: Said): number => end ?? seq;

/** How far a user has read: by joining, by its own messages unless the marker was set back since, by the marker. */
function readIn(room: RoomModel, subject: Subject): { readonly read: number } {
  const marker = room.markers.get(subject) ?? { seq: 0, base: 0 };
  const own = room.said.filter(({ sender }) => sender === subject).map(countsFrom);
  const posted = Math.max(0, ...own);
  const implicit = posted > marker.base ? posted : 0;
  return { read: Math.max(room.members.get(subject) ?? 0, implicit, marker.seq) };
}
