// Makes the frames of a room's events and markers, once for all sockets; and hides from members what is older than their joining.

import { LRUCache } from "lru-cache";
import { type Marked, markerOf } from "../../app/follow.ts";
import { messageSeqOf, type StoredRoomEvent } from "../../app/public-room-events.ts";
import { RoomEventMaker } from "../../app/room-event-maker.ts";
import type { Services } from "../../app/services.ts";
import type { ServerFrame } from "../../contract/frames.ts";
import type { RoomId } from "../../contract/ids.ts";
import type { PersonalEvent, PublicEvent } from "../../contract/public-events.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { eventSeenFrom } from "../../domain/message-rules.ts";
import type { Room } from "../../domain/room-state.ts";
import { decodeRaw } from "../../event-store/envelope.ts";
import type { Position, RecordedEvent } from "../../event-store/event-store.ts";

// The newest frames of a room, ready to be sent, in front of reading its stream.

/** Frames kept for a room that somebody listens to. */
const RING_FRAMES = 1_000;
/** What they may weigh together, and what those of all rooms of this node may. */
const RING_BYTES = 4 * 1024 * 1024;
const RINGS_BYTES = 256 * 1024 * 1024;

/** A frame as bytes: made once for each event, shared by all who get it. */
export type Frame = {
  readonly seq: number;
  /** The seq of the posting of the message that it is about; null when it is about none. */
  readonly messageSeq: number | null;
  readonly bytes: Buffer;
  /** Of its event. */
  readonly position: Position;
};

/** The rings of all rooms: when they weigh too much, the one that nothing was added to for the longest time is emptied. */
export type Rings = LRUCache<FrameRing, number>;
export const createRings = (maxBytes = RINGS_BYTES): Rings =>
  new LRUCache({
    maxSize: maxBytes,
    sizeCalculation: (bytes) => Math.max(1, bytes),
    dispose: (_bytes, ring) => ring.clear(),
    noDisposeOnSet: true,
  });

/** The last frames, by seq without gaps. One that no longer says what became of its message is taken out. */
export class FrameRing implements Disposable {
  readonly #rings: Rings;
  readonly #frames: (Frame | undefined)[] = [];
  #first = 0;
  #bytes = 0;

  constructor(rings: Rings) {
    this.#rings = rings;
  }

  /** Adds the frame of the next seq; after a gap what was kept before is forgotten. */
  add(frame: Frame): void {
    if (frame.seq !== this.#first + this.#frames.length) {
      this.clear();
      this.#first = frame.seq;
    }
    this.#frames.push(frame);
    this.#bytes += frame.bytes.byteLength;
    while (this.#frames.length > RING_FRAMES || this.#bytes > RING_BYTES) {
      this.#bytes -= this.#frames.shift()?.bytes.byteLength ?? 0;
      this.#first += 1;
    }
    this.#rings.set(this, this.#bytes);
  }

  /** The frames that show a message are no longer right. */
  forget(messageSeq: number): void {
    for (const [index, frame] of this.#frames.entries()) {
      if (frame?.messageSeq !== messageSeq) continue;
      this.#bytes -= frame.bytes.byteLength;
      this.#frames[index] = undefined;
    }
  }

  /** Frames from a seq on, without a gap; empty when that one is not here. */
  read(from: number, limit: number): readonly Frame[] {
    const frames: Frame[] = [];
    if (from < this.#first) return frames;
    for (let index = from - this.#first; frames.length < limit; index += 1) {
      const frame = this.#frames[index];
      if (frame === undefined) break;
      frames.push(frame);
    }
    return frames;
  }

  /** Keeps its place: the next seq is still the one that follows. */
  clear(): void {
    this.#first += this.#frames.length;
    this.#frames.length = 0;
    this.#bytes = 0;
  }

  [Symbol.dispose](): void {
    this.#rings.delete(this);
  }
}

/** Least time between two of what was delivered to the same user. */
const DELIVERED_MS = SECOND_MS;

/** Makes the frames of one room. `past` remembers where it ended: of consecutive pages the second costs no loading. */
export class FrameMaker {
  readonly #maker: RoomEventMaker;

  constructor(services: Services, room: RoomId) {
    this.#maker = new RoomEventMaker(services, room);
  }

  /** Frames of new events. `states`: the room just before the first of them, then just after each. */
  async live(events: readonly StoredRoomEvent[], states: readonly Room[]): Promise<readonly Frame[]> {
    return framesOf(events, await this.#maker.live(events, states));
  }

  /** Frames of past events, with what has become of their messages in the room as it is `now`. */
  async past(events: readonly StoredRoomEvent[], now: Room): Promise<readonly Frame[]> {
    return framesOf(events, await this.#maker.past(events, now));
  }
}

const framesOf = (events: readonly StoredRoomEvent[], shown: readonly PublicEvent[]): readonly Frame[] =>
  shown.flatMap((one, index) => {
    const event = events[index];
    if (event === undefined || one.seq === null) return [];
    return [{ seq: one.seq, messageSeq: messageSeqOf(event), bytes: eventFrame(one), position: event.position }];
  });

/** `cursor`: of a follower that was told of it. */
export function eventFrame(event: PublicEvent | PersonalEvent, cursor?: string): Buffer {
  const { id, room_id, seq, type, ...more } = event;
  // Its data is JSON made of resources.
  return Buffer.from(JSON.stringify({ type: "event", id, room_id, seq, event: type, ...more, cursor }));
}

/** What frames show to whom their messages are hidden; made once for all of them. */
const hidden = new WeakMap<Buffer, Buffer>();

/** The frame of an event as it is told to who sees the room from a seq on. `messageSeq`: of the message that it is about. */
export function frameSeenFrom(bytes: Buffer, messageSeq: number | null, from: number): Buffer {
  // fence: hidden-in-frames
  if (messageSeq === null || messageSeq >= from) return bytes;
  const known = hidden.get(bytes);
  if (known !== undefined) return known;
  // Of its message nothing is left, whatever the seq of the frame.
  const frame: Extract<ServerFrame, { type: "event" }> = JSON.parse(bytes.toString());
  const made = Buffer.from(JSON.stringify(eventSeenFrom(frame, frame.seq ?? Number.POSITIVE_INFINITY)));
  hidden.set(bytes, made);
  return made;
}

export function markerFrame(event: Marked): Buffer {
  const frame: ServerFrame = { type: event.type === "ReadMarked" ? "read" : "delivered", ...markerOf(event) };
  return Buffer.from(JSON.stringify(frame));
}

/**
 * Markers that a room's sockets are still to be sent: of each reader the newest, and what was delivered not too often.
 * Times are of a monotonic clock.
 */
export class PendingMarkers {
  /** By kind and reader. */
  readonly #waiting = new Map<string, RecordedEvent>();
  /** Of each reader when a delivery was last published, the longest ago first; only those of the last DELIVERED_MS. */
  readonly #publishedAt = new Map<string, number>();

  /** A newer one of the same kind and reader replaces what waits. */
  push(event: RecordedEvent): void {
    this.#waiting.set(keyOf(event), event);
  }

  /** Those that may be published now. Each stays until it is `published`. */
  due(now: number): readonly RecordedEvent[] {
    for (const [key, at] of this.#publishedAt) {
      if (now - at < DELIVERED_MS) break;
      this.#publishedAt.delete(key);
    }
    // fence: delivered-pace
    return [...this.#waiting].flatMap(([key, event]) => (this.#publishedAt.has(key) ? [] : [event]));
  }

  published(events: readonly RecordedEvent[], now: number): void {
    for (const event of events) {
      const key = keyOf(event);
      if (this.#waiting.get(key) === event) this.#waiting.delete(key);
      if (event.type === "DeliveredMarked") this.#publishedAt.set(key, now);
    }
  }

  /** How long until one that waits may be published; infinite when none does. */
  waitMs(now: number): number {
    let least = Number.POSITIVE_INFINITY;
    for (const key of this.#waiting.keys())
      least = Math.min(least, (this.#publishedAt.get(key) ?? Number.NEGATIVE_INFINITY) + DELIVERED_MS - now);
    return Math.max(0, least);
  }
}

const keyOf = (event: RecordedEvent): string => `${event.type} ${String(decodeRaw(event).subject)}`;
