// The rooms that one socket has subscribed to: of each what was missed from the log, then live; every seq once, in order.
import { openAsMember, openRoom, withRoom } from "../../app/rooms.ts";
import type { Caller, Services } from "../../app/services.ts";
import type { SocketErrorCode } from "../../contract/errors.ts";
import type { EndReason, FrameOf, Ref, WantedRoom } from "../../contract/frames.ts";
import type { RoomId, Subject } from "../../contract/ids.ts";
import { type Actor, DomainError } from "../../domain/decider.ts";
import { visibleFrom } from "../../domain/message-rules.ts";
import { requireRole } from "../../domain/room-state.ts";
import { type Position, StoreUnavailable } from "../../event-store/event-store.ts";
import { backoffMs, messageOf, pause } from "../../platform/supervise.ts";
import { type FrameMaker, frameSeenFrom } from "./frames.ts";
import type { GrowingFrames } from "./growing.ts";
import { MAX_AHEAD_BYTES, type Outbox } from "./outbox.ts";
import type { FrameRun, Subscriber } from "./room-channel.ts";
import type { ChannelHold, RoomChannels } from "./room-channels.ts";

const MAX_ROOMS = 500;
/** How long a subscription waits until this node's feed has reached what the room was at the call. */
const FEED_WAIT_MS = 5_000;

export type SubscriptionsOptions = {
  readonly services: Services;
  readonly rooms: RoomChannels;
  readonly growing: Pick<GrowingFrames, "follow">;
  readonly outbox: Outbox;
  /** Aborted when the connection ends. */
  readonly signal: AbortSignal;
  /** What follows the user's rooms on the same connection: each event is sent once. */
  readonly follow: {
    /** Whether what is at the position is sent by it. */
    tells(position: Position): boolean;
    /** It may go on with what waited for a subscription. */
    wake(): void;
  };
};

export class RoomSubscriptions implements Disposable {
  readonly #options: SubscriptionsOptions;
  readonly #subscriptions = new Map<RoomId, RoomSubscription>();

  constructor(options: SubscriptionsOptions) {
    this.#options = options;
  }

  /** Each room is answered by itself, in their order. `fail` answers for one that throws. */
  async subscribe(
    caller: Caller,
    { rooms, ref }: FrameOf<"subscribe">,
    fail: (error: unknown, room: string) => void,
  ): Promise<void> {
    for (const wanted of rooms) {
      if (this.#options.signal.aborted) return;
      // fence: batch-apart
      await this.#subscribe(caller, wanted, ref).catch((error: unknown) => fail(error, wanted.room_id));
    }
  }

  /** Throws DomainError (not_found, not_a_member), StoreUnavailable. */
  async #subscribe(caller: Caller, { room_id, after_seq: afterSeq }: WantedRoom, ref: Ref | undefined): Promise<void> {
    const { services, rooms, signal } = this.#options;
    const open = await openAsMember(services, caller, room_id);
    const before = this.#subscriptions.get(open.id);
    if (before !== undefined && afterSeq === undefined) {
      return this.#error("already_subscribed", "the room is subscribed already", room_id, ref);
    }
    if (before === undefined && this.#subscriptions.size >= MAX_ROOMS) {
      return this.#error("too_many_subscriptions", `a connection has at most ${MAX_ROOMS} rooms`, room_id, ref);
    }
    using unused = new DisposableStack();
    const hold = unused.use(await rooms.open(open.id));
    if (!(await hold.channel.awaitHead(open.room.seq, FEED_WAIT_MS))) {
      throw new StoreUnavailable("the room could not be read in time");
    }
    if (signal.aborted) return;
    // From here on nothing waits: what is checked here still holds when the room's next frame comes.
    const { state, head } = hold.channel;
    if (state === undefined) throw new DomainError("not_found");
    requireRole(state, caller.actor, "reader");
    if (afterSeq !== undefined && afterSeq > head) {
      return this.#error("seq_out_of_range", `the room's head is ${head}`, room_id, ref);
    }
    unused.move();
    // With `after_seq` it starts anew from there.
    this.#subscriptions.get(open.id)?.[Symbol.dispose]();
    const onEnd = () => void this.#subscriptions.delete(open.id);
    const subscription = new RoomSubscription(this.#options, hold, caller.actor, onEnd);
    this.#subscriptions.set(open.id, subscription);
    this.#options.outbox.send({ type: "subscribed", room_id: open.id, seq: head, ref });
    subscription.start(afterSeq);
  }

  /**
   * Also answers for a room that was not subscribed, if the caller may see it: any other answer would reveal that it
   * exists. Throws DomainError (not_found), StoreUnavailable.
   */
  async unsubscribe(caller: Caller, { room_id, ref }: FrameOf<"unsubscribe">): Promise<void> {
    const { services, outbox } = this.#options;
    await withRoom(services, caller, room_id, async (room) => {
      // fence: leave-unseen-room
      if (!this.#subscriptions.has(room)) await openRoom(services, caller, room);
      this.#subscriptions.get(room)?.[Symbol.dispose]();
      this.#subscriptions.delete(room);
      outbox.send({ type: "unsubscribed", room_id: room, reason: "asked", ref });
    });
  }

  get(room: RoomId): RoomSubscription | undefined {
    return this.#subscriptions.get(room);
  }

  /** Nothing else sends events on the connection any more: each room goes on where it is. */
  resume(): void {
    for (const subscription of this.#subscriptions.values()) subscription.resume();
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions.values()) subscription[Symbol.dispose]();
    this.#subscriptions.clear();
  }

  #error(code: SocketErrorCode, message: string, room: string, ref: Ref | undefined): void {
    this.#options.outbox.send({ type: "error", room_id: room, code, message, ref });
  }
}

/** One room on one socket. Must be started in the same step in which the room's head was read. */
class RoomSubscription implements Subscriber, Disposable {
  readonly subject: Subject | null;
  readonly #actor: Actor;
  readonly #options: SubscriptionsOptions;
  readonly #hold: ChannelHold;
  /** The room ended it: membership lost, or the room deleted. */
  readonly #onEnd: () => void;
  readonly #ended = new AbortController();
  /** The seq that it began with, and the next one to be sent. */
  #first = 0;
  #next = 0;
  #live = false;
  /** What grows in the room, once it is live. */
  #growth: Disposable | undefined;

  constructor(options: SubscriptionsOptions, hold: ChannelHold, actor: Actor, onEnd: () => void) {
    this.#options = options;
    this.#hold = hold;
    this.#actor = actor;
    this.subject = actor.type === "user" ? actor.id : null;
    this.#onEnd = onEnd;
  }

  /** Starts at the room's head, or after `afterSeq`. */
  start(afterSeq: number | undefined): void {
    if (this.#ended.signal.aborted) return; // closed for what was sent last
    const { channel } = this.#hold;
    this.#next = this.#first = (afterSeq ?? channel.head) + 1;
    channel.subscribe(this);
    if (afterSeq === undefined) this.#goLive();
    else void this.#catchUp(true);
  }

  frames({ first, payloads, messageSeqs, positions }: FrameRun): void {
    const { outbox, follow } = this.#options;
    // Whoever catches up reads them from the channel later.
    if (/* fence: catch-up-order */ !this.#live) return;
    // fence: follow-and-subscribe
    const followed = positions.findIndex((position) => follow.tells(position));
    const end = first + (followed === -1 ? payloads.length : followed);
    if (end > this.#next) {
      const from = this.#visibleFrom();
      const skipped = Math.max(0, this.#next - first);
      const news = payloads.slice(skipped, end - first);
      this.#next = end;
      const seen = (bytes: Buffer, index: number) => frameSeenFrom(bytes, messageSeqs[skipped + index] ?? null, from);
      outbox.sendAll(from === 0 ? news : news.map(seen));
    }
    if (followed !== -1) follow.wake();
  }

  /** What whoever follows on the same connection does with an event; one that it sends counts as sent. */
  followed(seq: number, position: Position): "send" | "skip" | "wait" {
    if (seq < this.#first) return "send";
    if (!this.#options.follow.tells(position) || seq < this.#next) return "skip";
    // What is before it may still be on its way through the channel.
    if (!this.#live || (seq > this.#next && this.#hold.channel.head < seq - 1)) return "wait";
    this.#next = seq + 1;
    return "send";
  }

  /** Goes on alone: what somebody else was to send may not have been sent. */
  resume(): void {
    if (!this.#live || this.#next > this.#hold.channel.head) return;
    this.#live = false;
    void this.#catchUp(false);
  }

  marker(bytes: Buffer): void {
    this.#options.outbox.sendAll([bytes]);
  }

  ended(reason: EndReason, position: Position): void {
    if (this.#ended.signal.aborted) return;
    this[Symbol.dispose]();
    const { outbox, follow } = this.#options;
    if (!follow.tells(position)) outbox.send({ type: "unsubscribed", room_id: this.#hold.channel.id, reason });
    this.#onEnd();
    follow.wake();
  }

  /** No frame is sent after this. */
  [Symbol.dispose](): void {
    this.#ended.abort();
    this.#growth?.[Symbol.dispose]();
    this.#hold.channel.unsubscribe(this);
    this.#hold[Symbol.dispose]();
  }

  #goLive(): void {
    if (this.#ended.signal.aborted) return; // closed for what was sent last
    const { growing, outbox } = this.#options;
    this.#live = true;
    this.#growth ??= growing.follow(this.#hold.channel, {
      send: (bytes) => outbox.sendAll([bytes]),
      sendPaced: (make) => outbox.sendPaced(make),
      sees: (seq) => seq >= this.#visibleFrom(),
    });
  }

  /** The first seq that the subscriber sees now; nothing else of a room that is gone. */
  #visibleFrom(): number {
    const { state } = this.#hold.channel;
    return state === undefined ? 0 : visibleFrom(state, this.#actor);
  }

  /** Sends what was missed; once the room's head is reached, it is live in the same step. */
  async #catchUp(announced: boolean): Promise<void> {
    const { services, outbox, follow } = this.#options;
    const { channel } = this.#hold;
    const { signal } = this.#ended;
    const maker = channel.newMaker();
    let failures = 0;
    while (!signal.aborted) {
      // fence: catch-up-unseen
      this.#next = Math.max(this.#next, this.#visibleFrom());
      if (this.#next > channel.head) {
        if (announced) outbox.send({ type: "caught_up", room_id: channel.id, seq: this.#next - 1 });
        this.#goLive();
        follow.wake();
        return;
      }
      try {
        if (!(await outbox.readAhead(() => this.#sendPage(maker)))) return;
        failures = 0;
      } catch (error) {
        failures += 1;
        const about = { room: channel.id, failures, error: messageOf(error) };
        services.logger.warn(about, "subscription could not read missed events; retrying");
        await pause(backoffMs(failures), signal);
      }
    }
  }

  /** Sends the next page as the reader takes it; false when it is no longer wanted. */
  async #sendPage(maker: FrameMaker): Promise<boolean> {
    const { outbox } = this.#options;
    const { channel } = this.#hold;
    const { signal } = this.#ended;
    if (signal.aborted) return false;
    const frames = await channel.past(this.#next, maker, MAX_AHEAD_BYTES);
    if (frames.length === 0) throw new Error(`${channel.id} gave no frames from seq ${this.#next} on`);
    for (const frame of frames) {
      // It may have become invisible since the page was read.
      if (frame.seq < this.#visibleFrom()) return true;
      const bytes = () => frameSeenFrom(frame.bytes, frame.messageSeq, this.#visibleFrom());
      if (!(await outbox.sendPaced(() => (signal.aborted ? undefined : bytes())))) return false;
      this.#next = frame.seq + 1;
    }
    return true;
  }
}
