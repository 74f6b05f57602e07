// One room that somebody on this node listens to: its events become frames once, in order, for all its subscribers.
import type { StoredRoomEvent } from "../../app/public-room-events.ts";
import { decodeRoom, evolved } from "../../app/room-event-maker.ts";
import type { Services } from "../../app/services.ts";
import type { EndReason } from "../../contract/frames.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { ExistingRoom, Room } from "../../domain/room-state.ts";
import { decode } from "../../event-store/envelope.ts";
import { bytesOf, type Position, type RecordedEvent } from "../../event-store/event-store.ts";
import { batchPerTick, upToBytes } from "../../platform/bounded.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { IDLE_MS, Loop } from "../../platform/supervise.ts";
import { type Frame, FrameMaker, FrameRing, markerFrame, PendingMarkers, type Rings } from "./frames.ts";

/**
 * Max events that become frames at a time, and about how many bytes of them. What goes to a socket in one pass of the
 * event loop must be far less than may wait there: even a fast reader can take it only between two passes.
 */
const BATCH = 100;
const BATCH_BYTES = 256 * 1024;
/** Max frames that a subscriber who catches up is given at a time. */
const CATCH_UP_PAGE = 100;
/** Max events and bytes that wait in memory. What exceeds them is read from the stream later. */
const MAX_PENDING = 2_000;
const MAX_PENDING_BYTES = 4 * 1024 * 1024;

/** Frames of consecutive seqs, shared by all who get them. `messageSeqs`: of each, as a frame has it. */
export type FrameRun = {
  readonly first: number;
  readonly payloads: readonly Buffer[];
  readonly messageSeqs: readonly (number | null)[];
  /** Where each event is in the log. */
  readonly positions: readonly Position[];
};

/** Who listens to a room. Called in order and never while an earlier call runs; must not throw. */
export type Subscriber = {
  /** Null for an observer, who cannot lose a membership. */
  readonly subject: Subject | null;
  /** The next frames: every seq once. */
  frames(run: FrameRun): void;
  /** Someone's marker moved, or what is never stored. */
  marker(bytes: Buffer): void;
  /** Nothing more follows: comes after the frame of the event that ended the subscription, which is at the position. */
  ended(reason: EndReason, position: Position): void;
};

/** A room with subscribers. Supervised: what fails is tried again, and no event is skipped. */
export class RoomChannel implements AsyncDisposable {
  readonly id: RoomId;
  readonly #services: Services;
  readonly #stream: string;
  readonly #subscribers = new Set<Subscriber>();
  readonly #ring: FrameRing;
  readonly #pending = new PendingEvents();
  readonly #maker: FrameMaker;
  readonly #markers = new PendingMarkers();
  readonly #closing = new AbortController();
  readonly #waiters = new Set<() => void>();
  /** The room at `head`, or just before its deletion: it says which messages are deleted. */
  #existing: ExistingRoom | undefined;
  #deleted = false;
  #head = 0;
  /** The seq of the last event that was taken to be handled, and of the last known to exist. */
  #taken = 0;
  #known = 0;
  /** Taken, and not yet handled. */
  #batch: readonly RecordedEvent[] = [];
  /** Runs once the room is loaded. */
  #loop: Loop | undefined;

  constructor(services: Services, rings: Rings, id: RoomId) {
    this.id = id;
    this.#services = services;
    this.#stream = roomStream(id);
    this.#ring = new FrameRing(rings);
    this.#maker = this.newMaker();
  }

  /** Loads the room; its frames begin after what the stream holds at this call. Rejects when the log cannot be read. */
  async open(): Promise<void> {
    const { state, revision } = await this.#services.commands.load(roomDecider, this.#stream);
    this.#set(state);
    this.#head = this.#taken = revision + 1;
    if (this.#closing.signal.aborted) return;
    const { logger } = this.#services;
    this.#loop = new Loop({ name: this.#stream, step: (closing) => this.#step(closing), logger });
  }

  /** The seq up to which every live subscriber has been sent all. */
  get head(): number {
    return this.#head;
  }

  /** The room at `head`; undefined when it is deleted or never was. */
  get state(): ExistingRoom | undefined {
    return this.#deleted ? undefined : this.#existing;
  }

  subscribe(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber);
  }

  unsubscribe(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
  }

  /** An event of the room from the feed: in order, perhaps not for the first time. */
  push(event: RecordedEvent): void {
    const seq = event.revision + 1;
    if (this.#loop !== undefined && seq === this.#taken + this.#pending.size + 1) this.#pending.push(event);
    this.#learn(seq);
  }

  /** A marker from the feed. */
  pushMarker(event: RecordedEvent): void {
    this.#markers.push(event);
    this.#loop?.wake();
  }

  /** Sends what is never stored to all subscribers but that person's. */
  publish(bytes: Buffer, except: Subject): void {
    for (const subscriber of this.#subscribers) {
      // fence: typing-to-others
      if (subscriber.subject !== except) subscriber.marker(bytes);
    }
  }

  /** Resolves when `head` is at the seq or beyond: true, or false when the time is up or the channel is closed. */
  async awaitHead(seq: number, timeoutMs: number): Promise<boolean> {
    this.#learn(seq);
    const { signal } = this.#closing;
    const deadline = performance.now() + timeoutMs;
    while (this.#head < seq && !signal.aborted && performance.now() < deadline) {
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          this.#waiters.delete(done);
          resolve();
        };
        const timer = setTimeout(done, Math.max(1, deadline - performance.now()));
        this.#waiters.add(done);
      });
    }
    return this.#head >= seq;
  }

  /** For `past`: one for each subscriber who catches up. */
  newMaker(): FrameMaker {
    return new FrameMaker(this.#services, this.id);
  }

  /**
   * Frames from a seq on, with what has become of their messages by `head`; at most CATCH_UP_PAGE and about so many bytes,
   * none beyond `head`. From memory, else from the stream.
   */
  async past(from: number, maker: FrameMaker, maxBytes: number): Promise<readonly Frame[]> {
    const kept = this.#ring.read(from, CATCH_UP_PAGE);
    if (kept.length > 0) return upToBytes(kept, maxBytes, ({ bytes }) => bytes.byteLength);
    const limit = Math.min(CATCH_UP_PAGE, this.#head - from + 1);
    if (limit <= 0) return [];
    const recorded = await this.#services.store.readStream(this.#stream, { from: from - 1, limit });
    // What is cut off is read again: a page exceeds the bytes only where nearly every message is as long as may be.
    const events = await decodeRoom(this.#services, upToBytes(recorded, maxBytes, bytesOf));
    return maker.past(events, this.#existing ?? roomDecider.initial);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#subscribers.clear();
    this.#ring[Symbol.dispose]();
    this.#release();
    await this.#loop?.[Symbol.asyncDispose]();
  }

  #learn(seq: number): void {
    if (seq <= this.#known) return;
    this.#known = seq;
    this.#loop?.wake();
  }

  #set(state: Room): void {
    if (state.status === "live") this.#existing = state;
    this.#deleted = state.status === "deleted";
  }

  #release(): void {
    for (const done of [...this.#waiters]) done();
  }

  async #step(closing: AbortSignal): Promise<number> {
    if (this.#batch.length === 0) this.#batch = await this.#next();
    if (this.#batch.length > 0) await this.#handle(this.#batch);
    this.#batch = [];
    const waitMs = this.#markers.waitMs(performance.now());
    if (waitMs > 0 && this.#known <= this.#taken) return Math.min(IDLE_MS, waitMs);
    await batchPerTick(); // together with what else comes meanwhile, and after the answer to a reader of this node
    await this.#publishMarkers(closing);
    return 0;
  }

  async #publishMarkers(closing: AbortSignal): Promise<void> {
    const now = performance.now();
    const events = this.#markers.due(now);
    for (const event of await decode(this.#services.keyring, events)) {
      if ((event.type !== "ReadMarked" && event.type !== "DeliveredMarked") || closing.aborted) continue;
      const bytes = markerFrame(event);
      for (const subscriber of this.#subscribers) subscriber.marker(bytes);
    }
    this.#markers.published(events, now);
  }

  async #next(): Promise<readonly RecordedEvent[]> {
    if (this.#pending.size > 0) {
      const batch = this.#pending.take(BATCH, BATCH_BYTES);
      this.#taken += batch.length;
      return batch;
    }
    if (this.#known <= this.#taken) return [];
    const read = await this.#services.store.readStream(this.#stream, { from: this.#taken, limit: BATCH });
    const page = upToBytes(read, BATCH_BYTES, bytesOf);
    this.#taken += page.length;
    this.#pending.drop(this.#taken);
    if (page.length === 0) this.#known = this.#taken;
    return page;
  }

  async #handle(batch: readonly RecordedEvent[]): Promise<void> {
    const events = await decodeRoom(this.#services, batch);
    const states: Room[] = [this.#deleted ? { status: "deleted" } : (this.#existing ?? roomDecider.initial)];
    for (const event of events) states.push(evolved(states.at(-1) ?? roomDecider.initial, event));
    const frames = await this.#maker.live(events, states);
    failpoint("frames-made/published");
    if (this.#closing.signal.aborted) return;
    // From here on nothing waits: subscribers see head, state and frames move as one.
    const run: Frame[] = [];
    for (const [index, event] of events.entries()) {
      const frame = frames[index];
      if (frame === undefined) continue;
      const ends = event.type === "MemberLeft" || event.type === "RoomDeleted";
      // Whom it ends for sees what came before as a member.
      if (ends) this.#publish(run.splice(0));
      this.#set(states[index + 1] ?? roomDecider.initial);
      this.#keep(event, frame);
      run.push(frame);
      if (!ends) continue;
      this.#publish(run.splice(0));
      if (event.type === "MemberLeft")
        /* fence: room-left */ this.#endFor(event, event.data.reason, event.data.subject);
      else this.#endFor(event, "room_deleted", null);
      // When nobody is left the channel is closed.
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

  #publish(run: readonly Frame[]): void {
    const [first] = run;
    if (first === undefined) return;
    const shared = {
      first: first.seq,
      payloads: run.map(({ bytes }) => bytes),
      messageSeqs: run.map(({ messageSeq }) => messageSeq),
      positions: run.map(({ position }) => position),
    };
    for (const subscriber of this.#subscribers) subscriber.frames(shared);
  }

  /** For one member, or, null, for everyone. */
  #endFor({ position }: StoredRoomEvent, reason: EndReason, subject: Subject | null): void {
    for (const subscriber of this.#subscribers) {
      if (subject !== null && subscriber.subject !== subject) continue;
      this.#subscribers.delete(subscriber);
      subscriber.ended(reason, position);
    }
  }
}

/** Events that wait in memory to be handled, without gaps. */
class PendingEvents {
  readonly #events: RecordedEvent[] = [];
  #bytes = 0;

  get size(): number {
    return this.#events.length;
  }

  /** Keeps an event that follows the last one, unless too many wait. */
  push(event: RecordedEvent): void {
    const bytes = bytesOf(event);
    if (this.#events.length >= MAX_PENDING || this.#bytes + bytes > MAX_PENDING_BYTES) return;
    this.#events.push(event);
    this.#bytes += bytes;
  }

  /** Takes at most so many from the front, and about so many bytes; one in any case. */
  take(count: number, maxBytes: number): readonly RecordedEvent[] {
    return this.#remove(upToBytes(this.#events.slice(0, count), maxBytes, bytesOf).length);
  }

  /** Drops those up to a seq: they were read elsewhere. */
  drop(upToSeq: number): void {
    const end = this.#events.findIndex((event) => event.revision + 1 > upToSeq);
    this.#remove(end === -1 ? this.#events.length : end);
  }

  #remove(count: number): readonly RecordedEvent[] {
    const events = this.#events.splice(0, count);
    for (const event of events) this.#bytes -= bytesOf(event);
    return events;
  }
}
