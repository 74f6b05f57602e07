// The rooms that somebody on this node listens to: a channel opens with the first subscriber and closes after the last.
import type { Services } from "../../app/services.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import { READS_STREAMS } from "../../domain/reads.ts";
import { ROOM_STREAMS, roomStream } from "../../domain/room.ts";
import type { LiveFeed } from "../../projections/feed.ts";
import { roomOf } from "../../projections/projection.ts";
import { createRings } from "./frames.ts";
import { RoomChannel } from "./room-channel.ts";

/** Keeps a channel open until it is disposed. */
export type ChannelHold = Disposable & { readonly channel: RoomChannel };
type Entry = { readonly channel: RoomChannel; readonly opened: Promise<void>; holds: number };

export class RoomChannels implements AsyncDisposable {
  readonly #services: Services;
  readonly #rings = createRings();
  readonly #open = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();
  readonly #following: Disposable;

  constructor(services: Services, feed: LiveFeed) {
    this.#services = services;
    // The feed must not wait: what may fail or take time is each channel's own affair.
    this.#following = feed.on((events) => {
      if (this.#open.size === 0) return;
      for (const event of events) {
        if (event.stream.startsWith(ROOM_STREAMS)) this.#open.get(event.stream)?.channel.push(event);
        else if (event.stream.startsWith(READS_STREAMS)) {
          this.#open.get(roomStream(roomOf(event.stream)))?.channel.pushMarker(event);
        }
      }
    });
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Subscriptions to them. */
  get subscriptions(): number {
    let subscriptions = 0;
    for (const { holds } of this.#open.values()) subscriptions += holds;
    return subscriptions;
  }

  /** Sends what is never stored to a room's subscribers on this node, but not to that person. */
  publish(id: RoomId, bytes: Buffer, except: Subject): void {
    this.#open.get(roomStream(id))?.channel.publish(bytes, except);
  }

  /** Opens a room's channel, or shares the open one. Throws StoreUnavailable. */
  async open(id: RoomId): Promise<ChannelHold> {
    const stream = roomStream(id);
    const entry = this.#open.get(stream) ?? this.#start(stream, id);
    entry.holds += 1;
    try {
      await entry.opened;
    } catch (error) {
      this.#release(stream, entry);
      throw error;
    }
    let held = true;
    return {
      channel: entry.channel,
      [Symbol.dispose]: () => {
        if (held) this.#release(stream, entry);
        held = false;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]();
    for (const { channel } of this.#open.values()) this.#close(channel);
    this.#open.clear();
    await Promise.all(this.#closing);
  }

  #start(stream: string, id: RoomId): Entry {
    const channel = new RoomChannel(this.#services, this.#rings, id);
    // Registered before it is loaded, so that it misses nothing that the feed gives meanwhile.
    const entry: Entry = { channel, opened: channel.open(), holds: 0 };
    this.#open.set(stream, entry);
    return entry;
  }

  #release(stream: string, entry: Entry): void {
    entry.holds -= 1;
    if (entry.holds > 0) return;
    if (this.#open.get(stream) === entry) this.#open.delete(stream);
    this.#close(entry.channel);
  }

  #close(channel: RoomChannel): void {
    const closing = channel[Symbol.asyncDispose]().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}
