// One room that somebody on this node listens to: its events become frames once, in order, for all who follow it.

import type { StoredRoomEvent } from "../../app/public-events.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { LiveRoom as LiveState, Room } from "../../domain/room-state.ts";
import type { RecordedEvent } from "../../event-store/event-store.ts";
import type { Commands } from "../../event-store/handle-command.ts";
import { batchPerTick } from "../../platform/batch-loader.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { backoffMs, messageOf, pause } from "../../platform/supervise.ts";
import { decodeRoom, FrameMaker, type FrameParts, RoomEvents } from "./frame-maker.ts";
import { type Frame, FrameRing, type Rings } from "./frame-ring.ts";
import { Markers } from "./markers.ts";
import { PendingEvents, upToBytes, weigh } from "./pending-events.ts";

/**
 * Events that become frames at a time, and about how many bytes of them. What goes to a socket in one turn of the event
 * loop must be far less than may wait there: also who reads at once can take it only between two turns.
 */
const BATCH = 100;
const BATCH_BYTES = 256 * 1024;
/** Frames that a reader who catches up is given at a time. */
const CATCH_UP_PAGE = 100;

export type EndReason = "left" | "removed" | "room_deleted";

/** Frames of seqs that follow one another, shared by all who get them. */
export type FrameRun = { readonly first: number; readonly payloads: readonly Buffer[] };

/** Who follows a room. Called in order and never while an earlier call runs; must not throw. */
export type Follower = {
  /** Null for an observer, who cannot lose a membership. */
  readonly subject: Subject | null;
  /** The next frames: every seq once. One who still catches up takes no notice. */
  frames(run: FrameRun): void;
  /** Someone's read marker moved. */
  marker(bytes: Buffer): void;
  /** No more will come: after the frame of the event that ended it. */
  ended(reason: EndReason): void;
};

export type RoomParts = FrameParts & {
  readonly commands: Commands;
  readonly rings: Rings;
  readonly logger: { warn(fields: object, message: string): void };
};

/** A room that is followed. Supervised: what fails is tried again, and nothing is passed over. */
export class LiveRoom implements AsyncDisposable {
  readonly id: RoomId;
  readonly #parts: RoomParts;
  readonly #stream: string;
  readonly #followers = new Set<Follower>();
  readonly #ring: FrameRing;
  readonly #events: RoomEvents;
  /** Those that are to become frames. */
  readonly #pending = new PendingEvents();
  readonly #closing = new AbortController();
  readonly #waiting = new Set<() => void>();
  readonly #markers: Markers;
  #maker: FrameMaker;
  #now: LiveState | undefined;
  #deleted = false;
  #head = 0;
  /** The seq of the last event taken up, and of the last known to exist. */
  #taken = 0;
  #known = 0;
  #opened = false;
  #wake: () => void = () => {};
  #running: Promise<unknown> = Promise.resolve();

  constructor(parts: RoomParts, id: RoomId) {
    this.id = id;
    this.#parts = parts;
    this.#stream = roomStream(id);
    this.#ring = new FrameRing(parts.rings);
    this.#events = new RoomEvents(parts, id);
    const tellMarker = (frame: Buffer) => {
      for (const follower of this.#followers) follower.marker(frame);
    };
    this.#markers = new Markers(parts, id, tellMarker, this.#closing.signal);
    this.#maker = this.newMaker();
  }

  /** Loads the room; its frames begin behind what the stream holds at this call. Rejects when the store cannot be read. */
  async open(): Promise<void> {
    const { state, revision } = await this.#parts.commands.load(roomDecider, this.#stream);
    this.#settle(state);
    this.#maker = new FrameMaker(this.#parts, this.id, this.#events, { room: state, revision });
    this.#head = this.#taken = revision + 1;
    this.#opened = true;
    this.#running = this.#run();
  }

  /** The seq up to which everyone who is live has been told. */
  get head(): number {
    return this.#head;
  }

  /** The room at `head`; undefined when it is deleted or never was. */
  get state(): LiveState | undefined {
    return this.#deleted ? undefined : this.#now;
  }

  follow(follower: Follower): void {
    this.#followers.add(follower);
  }

  unfollow(follower: Follower): void {
    this.#followers.delete(follower);
  }

  /** An event of the room, from the feed: in order, perhaps not for the first time. */
  offer(event: RecordedEvent): void {
    const seq = event.revision + 1;
    const contiguous = this.#opened && seq === this.#taken + this.#pending.size + 1;
    if (contiguous) this.#pending.offer(event);
    this.#knows(seq);
  }

  /** A read marker, from the feed. */
  offerMarker(event: RecordedEvent): void {
    this.#markers.offer(event);
  }

  /** Resolves when `head` is at the seq or beyond: true, or false when the time is up or the room is closed. */
  async reached(seq: number, timeoutMs: number): Promise<boolean> {
    this.#knows(seq);
    const closed = this.#closing.signal;
    const deadline = performance.now() + timeoutMs;
    while (this.#head < seq && !closed.aborted && performance.now() < deadline) {
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.#waiting.delete(done);
          resolve();
        };
        const timer = setTimeout(done, Math.max(1, deadline - performance.now()));
        this.#waiting.add(done);
      });
    }
    return this.#head >= seq;
  }

  /** For one who catches up: frames of what came before, with what has become of their messages by `head`. */
  newMaker(): FrameMaker {
    return new FrameMaker(this.#parts, this.id, this.#events);
  }

  /**
   * Frames from a seq on, at most CATCH_UP_PAGE and about so many bytes, none beyond `head`; from memory, else from the
   * stream.
   */
  async frames(from: number, maker: FrameMaker, maxBytes: number): Promise<readonly Frame[]> {
    const kept = this.#ring.read(from, CATCH_UP_PAGE);
    if (kept.length > 0) return upToBytes(kept, maxBytes, ({ bytes }) => bytes.byteLength);
    const limit = Math.min(CATCH_UP_PAGE, this.#head - from + 1);
    if (limit <= 0) return [];
    const recorded = await this.#parts.store.readStream(this.#stream, { from: from - 1, limit });
    // What is cut off is read again: pages are only so heavy where nearly every message is as long as it may be.
    const events = await decodeRoom(this.#parts.keyring, upToBytes(recorded, maxBytes, weigh));
    return maker.make(events, () => this.#now ?? roomDecider.initial);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#followers.clear();
    this.#ring[Symbol.dispose]();
    this.#wake();
    this.#release();
    await this.#running;
  }

  #knows(seq: number): void {
    if (seq <= this.#known) return;
    this.#known = seq;
    this.#wake();
  }

  #settle(state: Room): void {
    // The last live state stays: it says which messages are deleted.
    if (state.status === "live") this.#now = state;
    this.#deleted = state.status === "deleted";
  }

  #release(): void {
    for (const done of [...this.#waiting]) done();
  }

  async #run(): Promise<void> {
    let batch: readonly RecordedEvent[] = [];
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      try {
        if (batch.length === 0) batch = await this.#next();
        if (batch.length > 0) await this.#handle(batch);
        else await this.#more();
        batch = [];
        failures = 0;
        if (this.#known > this.#taken) await batchPerTick();
      } catch (error) {
        failures += 1;
        this.#parts.logger.warn({ room: this.id, failures, error: messageOf(error) }, "frames could not be made");
        await pause(backoffMs(failures), this.#closing.signal);
      }
    }
  }

  async #next(): Promise<readonly RecordedEvent[]> {
    if (this.#pending.size > 0) {
      const batch = this.#pending.take(BATCH, BATCH_BYTES);
      this.#taken += batch.length;
      return batch;
    }
    if (this.#known <= this.#taken) return [];
    const read = await this.#parts.store.readStream(this.#stream, { from: this.#taken, limit: BATCH });
    const page = upToBytes(read, BATCH_BYTES, weigh);
    this.#taken += page.length;
    this.#pending.forget(this.#taken);
    if (page.length === 0) this.#known = this.#taken;
    return page;
  }

  async #more(): Promise<void> {
    if (this.#known > this.#taken || this.#closing.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = () => {};
  }

  async #handle(batch: readonly RecordedEvent[]): Promise<void> {
    const events = await decodeRoom(this.#parts.keyring, batch);
    let state: Room = this.#deleted ? { status: "deleted" } : (this.#now ?? roomDecider.initial);
    const states = events.map((event) => {
      state = roomDecider.evolve(state, event, { seq: event.revision + 1, at: event.meta.at });
      return state;
    });
    const frames = await this.#maker.make(events, (index) => states[index] ?? roomDecider.initial);
    failpoint("frames-made/published");
    if (this.#closing.signal.aborted) return;
    // From here on nothing waits: who follows sees head, state and frames move as one.
    let run: Frame[] = [];
    for (const [index, event] of events.entries()) {
      const frame = frames[index];
      if (frame === undefined) continue;
      this.#settle(states[index] ?? roomDecider.initial);
      this.#keep(event, frame);
      run.push(frame);
      if (event.type !== "MemberLeft" && event.type !== "RoomDeleted") continue;
      this.#publish(run);
      run = [];
      if (event.type === "MemberLeft") /* fence: room-left */ this.#end(event.data.reason, event.data.subject);
      else this.#end("room_deleted", null);
      // Nobody may be left, and the room closed for that.
      if (this.#closing.signal.aborted) return;
    }
    this.#publish(run);
    this.#release();
  }

  #keep(event: StoredRoomEvent, frame: Frame): void {
    // fence: kept-frames-forget
    if (event.type === "MessageDeleted" || event.type === "MessageRestored") this.#ring.forget(event.data.messageSeq);
    this.#ring.add(frame);
    this.#head = frame.seq;
  }

  #publish([first, ...others]: readonly Frame[]): void {
    if (first === undefined) return;
    const run = { first: first.seq, payloads: [first, ...others].map(({ bytes }) => bytes) };
    for (const follower of this.#followers) follower.frames(run);
  }

  /** Of one member, or of everyone. */
  #end(reason: EndReason, subject: Subject | null): void {
    for (const follower of this.#followers) {
      if (subject !== null && follower.subject !== subject) continue;
      this.#followers.delete(follower);
      follower.ended(reason);
    }
  }
}
