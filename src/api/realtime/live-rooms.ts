// The rooms that somebody on this node listens to: opened for the first, closed behind the last.
import type { RoomId } from "../../contract/ids.ts";
import { roomStream } from "../../domain/room.ts";
import type { LiveFeed } from "../../projections/feed.ts";
import { Premises } from "./frame-maker.ts";
import { Rings } from "./frame-ring.ts";
import { LiveRoom, type RoomParts } from "./live-room.ts";

const ROOM = "room-";
const READS = "reads-";

/** A hold on an open room: it stays open until the hold is given back. */
export type Hold = Disposable & { readonly room: LiveRoom };
type Entry = { readonly room: LiveRoom; readonly opened: Promise<void>; holds: number };

export class LiveRooms implements AsyncDisposable {
  readonly #parts: RoomParts;
  readonly #open = new Map<string, Entry>();
  readonly #following: Disposable;
  readonly #closing = new Set<Promise<void>>();

  constructor(parts: Omit<RoomParts, "rings" | "premises"> & { readonly feed: LiveFeed }) {
    this.#parts = { ...parts, rings: new Rings(), premises: new Premises() };
    // Only takes note: what may fail or take time is each room's own affair.
    this.#following = parts.feed.on((events) => {
      if (this.#open.size === 0) return;
      for (const event of events) {
        if (event.stream.startsWith(ROOM)) this.#open.get(event.stream)?.room.offer(event);
        else if (event.stream.startsWith(READS)) {
          this.#open.get(ROOM + event.stream.slice(READS.length))?.room.offerMarker(event);
        }
      }
    });
  }

  /** How many rooms are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Opens a room, or shares the open one. Throws StoreUnavailable. */
  async open(id: RoomId): Promise<Hold> {
    const stream = roomStream(id);
    const entry = this.#open.get(stream) ?? this.#start(stream, id);
    entry.holds += 1;
    try {
      await entry.opened;
    } catch (error) {
      this.#giveBack(stream, entry);
      throw error;
    }
    let held = true;
    return {
      room: entry.room,
      [Symbol.dispose]: () => {
        if (held) this.#giveBack(stream, entry);
        held = false;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]();
    for (const { room } of this.#open.values()) this.#close(room);
    this.#open.clear();
    await Promise.all(this.#closing);
  }

  #start(stream: string, id: RoomId): Entry {
    const room = new LiveRoom(this.#parts, id);
    // In the list before it is loaded: what the feed tells meanwhile is not missed.
    const entry: Entry = { room, opened: room.open(), holds: 0 };
    this.#open.set(stream, entry);
    return entry;
  }

  #giveBack(stream: string, entry: Entry): void {
    entry.holds -= 1;
    if (entry.holds > 0) return;
    if (this.#open.get(stream) === entry) this.#open.delete(stream);
    this.#close(entry.room);
  }

  #close(room: LiveRoom): void {
    const closing = room[Symbol.asyncDispose]().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}
