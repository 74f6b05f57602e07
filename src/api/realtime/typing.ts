// Who types in which room: told to the others in the room on every node, never stored, and over by itself.
import { z } from "zod";
import type { ServerFrame } from "../../contract/frames.ts";
import { type RoomId, RoomIdSchema, type Subject, SubjectSchema } from "../../contract/ids.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { type Signals, signalsOf } from "../../platform/bus.ts";

/** Typing that is not said again for so long is over. */
const TYPING_MS = 6 * SECOND_MS;
/** What is said again sooner is not passed on. */
const REPEAT_MS = 3 * SECOND_MS;
/** People of all rooms whose typing a node knows of, and rooms in which one connection types. */
const MAX_TYPING = 50_000;
const MAX_ROOMS = 20;

/** Somebody who types in a room, on one connection. */
const TypingSignal = z.object({
  connection: z.string(),
  room: RoomIdSchema,
  subject: SubjectSchema,
  userId: z.string(),
  active: z.boolean(),
});
type TypingSignal = z.infer<typeof TypingSignal>;

/** Until when a connection types, and when it last was news to other nodes. */
type OnConnection = { readonly until: number; readonly signalledAt: number };
type Typist = {
  readonly about: Omit<TypingSignal, "connection" | "active">;
  readonly connections: Map<string, OnConnection>;
  publishedAt: number;
};

type TypingOptions = {
  readonly bus: Signals;
  /** Monotonic. */
  readonly clock: () => number;
  /** Sends to the subscribers of a room on this node, but not to that person. */
  readonly publish: (room: RoomId, bytes: Buffer, except: Subject) => void;
};

/** `tick` must be called about every half second. */
export class Typing implements Disposable {
  readonly #options: TypingOptions;
  readonly #signals;
  readonly #typists = new Map<string, Typist>();
  /** Of this node's connections: the rooms they type in. */
  readonly #rooms = new Map<string, Map<RoomId, TypingSignal>>();
  readonly #listening: Disposable;

  constructor(options: TypingOptions) {
    this.#options = options;
    this.#signals = signalsOf(options.bus, "typing", TypingSignal);
    this.#listening = this.#signals.on((signal) => void this.#apply(signal));
  }

  /** A connection of this node says that its user types, or does so no more. Whether it may was checked. */
  set(signal: TypingSignal): void {
    const rooms = this.#rooms.get(signal.connection) ?? new Map<RoomId, TypingSignal>();
    if (!signal.active && !rooms.has(signal.room)) return;
    if (signal.active) {
      rooms.delete(signal.room);
      rooms.set(signal.room, signal);
      const [oldest] = rooms.values();
      if (rooms.size > MAX_ROOMS && oldest !== undefined) this.set({ ...oldest, active: false });
    } else rooms.delete(signal.room);
    if (rooms.size > 0) this.#rooms.set(signal.connection, rooms);
    else this.#rooms.delete(signal.connection);
    if (this.#apply(signal)) this.#signals.send(signal);
  }

  /** The connection has ended, and its typing with it. */
  end(connection: string): void {
    for (const signal of [...(this.#rooms.get(connection)?.values() ?? [])]) this.set({ ...signal, active: false });
  }

  /** Ends what was not said again. */
  tick(): void {
    const now = this.#options.clock();
    for (const typist of this.#typists.values()) {
      for (const [connection, { until }] of typist.connections) {
        // fence: typing-ends
        if (until <= now) this.#stop(typist, connection);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
  }

  /** False when other nodes need not be told. */
  #apply({ connection, active, ...about }: TypingSignal): boolean {
    const key = keyOf(about);
    const known = this.#typists.get(key);
    if (!active) return known !== undefined && this.#stop(known, connection);
    if (known === undefined && this.#typists.size >= MAX_TYPING) return false;
    const now = this.#options.clock();
    const typist: Typist = known ?? { about, connections: new Map(), publishedAt: Number.NEGATIVE_INFINITY };
    const before = typist.connections.get(connection);
    // Each connection by itself: where only one of two is known, the end of that one would be the end of all.
    const isNews = before === undefined || now - before.signalledAt >= REPEAT_MS;
    typist.connections.set(connection, { until: now + TYPING_MS, signalledAt: isNews ? now : before.signalledAt });
    this.#typists.set(key, typist);
    if (now - typist.publishedAt >= REPEAT_MS) {
      typist.publishedAt = now;
      this.#publish(about, true);
    }
    return isNews;
  }

  #stop(typist: Typist, connection: string): boolean {
    const { about, connections } = typist;
    if (!connections.delete(connection)) return false;
    const rooms = this.#rooms.get(connection);
    rooms?.delete(about.room);
    if (rooms?.size === 0) this.#rooms.delete(connection);
    if (connections.size > 0) return true;
    this.#typists.delete(keyOf(about));
    this.#publish(about, false);
    return true;
  }

  #publish({ room, subject, userId }: Typist["about"], active: boolean): void {
    const frame: ServerFrame = { type: "typing", room_id: room, user_id: userId, active };
    this.#options.publish(room, Buffer.from(JSON.stringify(frame)), subject);
  }
}

const keyOf = ({ room, subject }: Typist["about"]): string => `${room} ${subject}`;
