// The newest frames of a room, ready to be sent, in front of reading its stream.

/** Frames kept for a room that somebody listens to. */
export const RING_FRAMES = 1_000;
/** What they may weigh together. */
export const RING_BYTES = 4 * 1024 * 1024;

/** A frame as bytes: made once for each event, shared by all who get it. */
export type Frame = {
  readonly seq: number;
  /** The seq of the posting of the message that it shows; null when it shows none. */
  readonly messageSeq: number | null;
  readonly bytes: Buffer;
};

/** The last frames, by seq without gaps. One that no longer says what became of its message is taken out. */
export class FrameRing {
  readonly #frames: (Frame | undefined)[] = [];
  #first = 0;
  #bytes = 0;

  /** Adds the frame of the next seq; after a gap what was kept before is forgotten. */
  add(frame: Frame): void {
    if (frame.seq !== this.#first + this.#frames.length) this.#clear(frame.seq);
    this.#frames.push(frame);
    this.#bytes += frame.bytes.byteLength;
    while (this.#frames.length > RING_FRAMES || this.#bytes > RING_BYTES) {
      this.#bytes -= this.#frames.shift()?.bytes.byteLength ?? 0;
      this.#first += 1;
    }
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

  #clear(first: number): void {
    this.#frames.length = 0;
    this.#first = first;
    this.#bytes = 0;
  }
}
