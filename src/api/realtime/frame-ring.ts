// The newest frames of a room, ready to be sent, in front of reading its stream.
import { LRUCache } from "lru-cache";
import type { Position } from "../../event-store/event-store.ts";

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
