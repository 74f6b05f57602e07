// Makes the public events of a room, and reads what else they show.
import type { RoomId, Subject } from "../contract/ids.ts";
import type { PublicActor, PublicEvent } from "../contract/public-events.ts";
import { reveal } from "../domain/event.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import type { Room } from "../domain/room-state.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { decode, isForged } from "../event-store/envelope.ts";
import type { RecordedEvent } from "../event-store/event-store.ts";
import {
  messageSeqOf,
  priorSeqs,
  publicRoomEvent,
  responders,
  type StoredRoomEvent,
  showsRoom,
} from "./public-room-events.ts";
import type { Services } from "./services.ts";

/** What public events are made with. */
export type PublicEventServices = Pick<Services, "store" | "keyring" | "commands" | "positions">;

/** Decodes a room's recorded events; forged ones are left out, and their seqs with them. */
export const decodeRoom = async ({ keyring }: Pick<Services, "keyring">, events: readonly RecordedEvent[]) =>
  // Only the room's decider writes to its stream.
  (await decode(keyring, events)).filter((event) => !isForged(event)) as unknown as readonly StoredRoomEvent[];

/** The room just after an event. */
export const evolved = (room: Room, event: StoredRoomEvent): Room =>
  roomDecider.evolve(room, event, { seq: event.revision + 1, at: event.meta.at });

type User = { readonly id: string | null; readonly name: string | null };

/** Makes the public events of one room. `past` remembers where it ended: of consecutive pages the second costs no loading. */
export class RoomEventMaker {
  readonly #services: PublicEventServices;
  readonly #room: RoomId;
  readonly #stream: string;
  /** The room after the last page of past events, if they were shown with it. */
  #end: { readonly revision: number; readonly room: Room } | undefined;
  /** Of a deleted room, what it was last. */
  #last: Room | undefined;

  constructor(services: PublicEventServices, room: RoomId) {
    this.#services = services;
    this.#room = room;
    this.#stream = roomStream(room);
  }

  /** New events. `states`: the room just before the first of them, then just after each. */
  live(events: readonly StoredRoomEvent[], states: readonly Room[]): Promise<readonly PublicEvent[]> {
    return this.#make(events, states, (index) => states[index + 1] ?? roomDecider.initial);
  }

  /** Past events, with what has become of their messages in the room as it is `now`, or was just before it was deleted. */
  async past(events: readonly StoredRoomEvent[], now: Room): Promise<readonly PublicEvent[]> {
    if (now.status === "deleted") this.#last ??= await this.#beforeDeletion();
    const last = this.#last ?? now;
    return this.#make(events, await this.#statesAround(events, last), () => last);
  }

  async #make(
    events: readonly StoredRoomEvent[],
    states: readonly (Room | undefined)[],
    nowAt: (index: number) => Room,
  ): Promise<readonly PublicEvent[]> {
    const around = (index: number) => ({ now: nowAt(index), before: states[index], after: states[index + 1] });
    const priorEvents = await this.#priorEvents(
      events,
      events.flatMap((event, index) => priorSeqs(event, around(index))),
    );
    const named = events.flatMap((event, index) => responders(event, states[index + 1]));
    const users = await this.#usersOf(events, priorEvents, named);
    const userIdOf = (subject: Subject) => users.get(subject)?.id ?? null;
    const actorOf = ({ meta: { actor } }: StoredRoomEvent): PublicActor =>
      actor.type === "user" ? { type: "user", id: userIdOf(actor.id) } : actor;
    return events.map((event, index) => {
      const subject = "subject" in event.data ? event.data.subject : undefined;
      const { client } = event.meta;
      if (client === null) throw new Error(`an event of ${this.#stream} is nobody's`);
      return publicRoomEvent(event, {
        ...{ room: this.#room, priorEvents, ...around(index), userIdOf },
        position: this.#services.positions.ofEvent(client, event.position),
        ownName: (subject && users.get(subject)?.name) ?? null,
        actorOf,
      });
    });
  }

  /** The room around each event, from the first that is shown with it on. */
  async #statesAround(events: readonly StoredRoomEvent[], now: Room): Promise<readonly (Room | undefined)[]> {
    const [head] = events;
    const known = this.#end !== undefined && this.#end.revision + 1 === head?.revision ? this.#end.room : undefined;
    const first = known === undefined ? events.findIndex((event) => showsRoom(event, now)) : 0;
    const [from] = events.slice(first, first + 1);
    if (first === -1 || from === undefined) return [];
    let room = known ?? (await this.#roomBefore(from.revision));
    const states: (Room | undefined)[] = [...events.slice(0, first).map(() => undefined), room];
    for (const event of events.slice(first)) {
      room = evolved(room, event);
      states.push(room);
      this.#end = { revision: event.revision, room };
    }
    return states;
  }

  /** Nothing follows a room's deletion. */
  async #beforeDeletion(): Promise<Room> {
    const { revision } = await this.#services.commands.load(roomDecider, this.#stream);
    return this.#roomBefore(revision);
  }

  async #roomBefore(revision: number): Promise<Room> {
    if (revision === 0) return roomDecider.initial;
    return this.#services.commands.loadAt(roomDecider, this.#stream, revision - 1);
  }

  /** The events themselves, and the others that they are shown with, by seq. */
  async #priorEvents(events: readonly StoredRoomEvent[], seqs: readonly number[]) {
    const found = new Map(events.map((event) => [event.revision + 1, event]));
    const read = async (seq: number) => {
      const recorded = await this.#services.store.readStream(this.#stream, { from: seq - 1, limit: 1 });
      const [event] = await decodeRoom(this.#services, recorded);
      if (event === undefined) throw new Error(`${this.#stream} has no event at seq ${seq}`);
      found.set(seq, event);
    };
    await Promise.all([...new Set(seqs)].filter((seq) => !found.has(seq)).map(read));
    return found;
  }

  /** The users that act, or whose own name may be shown: from the events where they say it, else from the users' streams. */
  async #usersOf(
    events: readonly StoredRoomEvent[],
    priorEvents: ReadonlyMap<number, StoredRoomEvent>,
    named: readonly Subject[],
  ) {
    const users = new Map<Subject, User>();
    const unknown = new Set<Subject>(named);
    const edits = [...priorEvents.values()].filter(({ type }) => type === "MessageEdited");
    for (const event of new Set([...events, ...edits])) {
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
}

const isMemberEvent = (event: StoredRoomEvent) =>
  event.type === "MemberJoined" ||
  event.type === "MemberUpdated" ||
  event.type === "MemberLeft" ||
  event.type === "MemberMuted";

/** Whether an event holds the id of this user. */
const namesUser = ({ data }: StoredRoomEvent, subject: Subject): boolean =>
  "user" in data && ("sender" in data ? data.sender : data.subject) === subject;
