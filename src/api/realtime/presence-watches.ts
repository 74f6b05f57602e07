// Sockets that watch who of a room is online: everybody at first, then those who come and go.
import { listRoomPresence } from "../../app/members.ts";
import type { Person, Presence } from "../../app/presence.ts";
import { openAsMember } from "../../app/rooms.ts";
import type { Call, Services } from "../../app/services.ts";
import type { FrameOf, Ref, ServerFrame } from "../../contract/frames.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import type { PresenceResource } from "../../contract/users.ts";
import { SocketRefusal } from "./commands.ts";
import type { Outbox } from "./outbox.ts";
import type { ChannelHold, RoomChannels } from "./room-channels.ts";

/** Rooms that one connection watches. */
const MAX_ROOMS = 100;
/** People in one frame. */
const MAX_USERS = 100;

/** `subject`: null for an observer. */
type Watch = { readonly subject: Subject | null; readonly outbox: Outbox; readonly rooms: Map<RoomId, Disposable> };
const tooManyWatches = () =>
  new SocketRefusal("too_many_subscriptions", `a connection watches at most ${MAX_ROOMS} rooms`);

/** Members who are online, by the ids that their devices came with. */
const onlineOf = (presence: Presence, members: Iterable<Subject>): readonly PresenceResource[] =>
  [...members].flatMap((subject) => {
    const userId = presence.userId(subject);
    return userId === undefined ? [] : [presence.of(subject, userId)];
  });

/** Frames of at most MAX_USERS people; the first carries the `ref` of what it answers. */
const inFrames = (room: RoomId, users: readonly PresenceResource[], ref?: Ref): readonly Buffer[] =>
  Array.from({ length: Math.max(1, Math.ceil(users.length / MAX_USERS)) }, (_, index) => {
    const some = users.slice(index * MAX_USERS, (index + 1) * MAX_USERS);
    const frame: ServerFrame = { type: "presence", room_id: room, users: some, ref: index === 0 ? ref : undefined };
    return Buffer.from(JSON.stringify(frame));
  });

type Watched = { readonly hold: ChannelHold; readonly watches: Set<Watch> };

/** Of all connections of a node. `tick` must be called about every half second. */
export class PresenceWatches implements Disposable {
  readonly #presence: Presence;
  readonly #channels: RoomChannels;
  readonly #watched = new Map<RoomId, Watched>();
  readonly #changed = new Map<Subject, Person>();
  readonly #listening: Disposable;

  constructor({ presence }: Pick<Services, "presence">, channels: RoomChannels) {
    this.#presence = presence;
    this.#channels = channels;
    this.#listening = presence.onChange((people) => {
      if (this.#watched.size === 0) return;
      for (const person of people) this.#changed.set(person.subject, person);
    });
  }

  /** Publishes who came and went since the last call. */
  tick(): void {
    if (this.#changed.size === 0) return;
    const changed = [...this.#changed.values()];
    this.#changed.clear();
    for (const [room, { hold, watches }] of this.#watched) {
      const { state } = hold.channel;
      const members = changed.filter(({ subject }) => state?.members.has(subject) === true);
      const users = members.map(({ subject, userId }) => this.#presence.of(subject, userId));
      if (users.length === 0) continue;
      const frames = inFrames(room, users);
      for (const watch of watches) {
        // fence: presence-members
        if (watch.subject === null || state?.members.has(watch.subject) === true) watch.outbox.sendAll(frames);
        else watch.rooms.get(room)?.[Symbol.dispose]();
      }
    }
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
  }

  /** The watches of one connection; dispose them with it. */
  ofConnection(outbox: Outbox, signal: AbortSignal): ConnectionWatches {
    return new ConnectionWatches(outbox, signal, (room, watch) => this.#add(room, watch));
  }

  async #add(room: RoomId, watch: Watch): Promise<Disposable> {
    const hold = await this.#channels.open(room);
    const watched = this.#watched.get(room) ?? { hold, watches: new Set<Watch>() };
    if (watched.hold !== hold) hold[Symbol.dispose]();
    watched.watches.add(watch);
    this.#watched.set(room, watched);
    return {
      [Symbol.dispose]: () => {
        watch.rooms.delete(room);
        if (!watched.watches.delete(watch) || watched.watches.size > 0) return;
        this.#watched.delete(room);
        watched.hold[Symbol.dispose]();
      },
    };
  }
}

/** The rooms that one connection watches. */
export class ConnectionWatches implements Disposable {
  readonly #outbox: Outbox;
  readonly #signal: AbortSignal;
  readonly #add: (room: RoomId, watch: Watch) => Promise<Disposable>;
  readonly #rooms = new Map<RoomId, Disposable>();

  constructor(outbox: Outbox, signal: AbortSignal, add: (room: RoomId, watch: Watch) => Promise<Disposable>) {
    this.#outbox = outbox;
    this.#signal = signal;
    this.#add = add;
  }

  /** Throws not_found, not_a_member, unavailable. */
  async watch(call: Call, { room_id, active, ref }: FrameOf<"presence">): Promise<void> {
    const { services, caller } = call;
    const { id, room } = await openAsMember(services, caller, room_id);
    if (!active) {
      this.#rooms.get(id)?.[Symbol.dispose]();
      this.#outbox.send({ type: "ok", ref });
      return;
    }
    if (!this.#rooms.has(id)) {
      if (this.#rooms.size >= MAX_ROOMS) throw tooManyWatches();
      const subject = caller.kind === "user" ? caller.subject : null;
      const added = await this.#add(id, { subject, outbox: this.#outbox, rooms: this.#rooms });
      // Two frames at once cannot be: a connection's are handled one after the other.
      if (this.#signal.aborted) {
        added[Symbol.dispose]();
        return;
      }
      this.#rooms.set(id, added);
    }
    const page = await listRoomPresence(call, id, { limit: MAX_USERS });
    const shown = page.next === null ? page.rows : onlineOf(services.presence, room.members.keys());
    for (const [index, bytes] of inFrames(id, shown, ref).entries()) {
      if (index === 0) this.#outbox.sendAll([bytes]);
      else void this.#outbox.sendPaced(() => bytes);
    }
  }

  [Symbol.dispose](): void {
    for (const one of [...this.#rooms.values()]) one[Symbol.dispose]();
  }
}
