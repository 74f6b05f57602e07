// One room on one socket: what was missed from the log, then live; every seq once, in order.
import type { RoomId, Subject } from "../../contract/ids.ts";
import { backoffMs, messageOf, pause } from "../../platform/supervise.ts";
import type { FrameMaker } from "./frame-maker.ts";
import { Lifetime } from "./lifetime.ts";
import { MAX_AHEAD_BYTES } from "./limits.ts";
import type { EndReason, Follower, FrameRun } from "./live-room.ts";
import type { Hold } from "./live-rooms.ts";
import type { Outgoing } from "./outgoing.ts";

type SubscriptionParts = {
  readonly hold: Hold;
  readonly outgoing: Outgoing;
  readonly subject: Subject | null;
  /** The room ended it: membership lost, or the room deleted. */
  readonly onEnd: (room: RoomId) => void;
  readonly logger: { warn(fields: object, message: string): void };
};

/** Made and started in one go with the look at the room's head: nothing must come between. */
export class RoomSubscription implements Follower, Disposable {
  readonly subject: Subject | null;
  readonly #parts: SubscriptionParts;
  readonly #over = new Lifetime();
  /** The next seq to be sent. */
  #next = 0;
  #live = false;

  constructor(parts: SubscriptionParts) {
    this.#parts = parts;
    this.subject = parts.subject;
  }

  /** Follows the room from its head, or from behind `afterSeq`. */
  start(afterSeq: number | undefined): void {
    if (this.#over.aborted) return;
    const { room } = this.#parts.hold;
    this.#next = (afterSeq ?? room.head) + 1;
    this.#live = afterSeq === undefined;
    room.follow(this);
    if (!this.#live) void this.#catchUp();
  }

  frames({ first, payloads }: FrameRun): void {
    // One who catches up reads them from the room when their turn comes.
    const behind = first + payloads.length;
    if (/* fence: catch-up-order */ !this.#live || behind <= this.#next) return;
    const news = this.#next <= first ? payloads : payloads.slice(this.#next - first);
    this.#next = behind;
    this.#parts.outgoing.sendAll(news);
  }

  marker(bytes: Buffer): void {
    this.#parts.outgoing.sendAll([bytes]);
  }

  ended(reason: EndReason): void {
    if (this.#over.aborted) return;
    this[Symbol.dispose]();
    const { id } = this.#parts.hold.room;
    this.#parts.outgoing.send({ type: "unsubscribed", room_id: id, reason });
    this.#parts.onEnd(id);
  }

  /** No frame is sent after this. */
  [Symbol.dispose](): void {
    this.#over.abort();
    this.#parts.hold.room.unfollow(this);
    this.#parts.hold[Symbol.dispose]();
  }

  /** The next page, as the reader takes it; false when nobody does any more. */
  async #sendPage(maker: FrameMaker): Promise<boolean> {
    const { hold, outgoing } = this.#parts;
    const over = this.#over;
    if (over.aborted) return false;
    const frames = await hold.room.frames(this.#next, maker, MAX_AHEAD_BYTES);
    if (frames.length === 0) throw new Error(`${hold.room.id} gave no frames from seq ${this.#next} on`);
    for (const frame of frames) {
      if (!(await outgoing.sendPaced(() => (over.aborted ? undefined : frame.bytes)))) return false;
      this.#next = frame.seq + 1;
    }
    return true;
  }

  /** Until the room's head is met; then, in the same moment, it is live. */
  async #catchUp(): Promise<void> {
    const { hold, outgoing, logger } = this.#parts;
    const { room } = hold;
    const over = this.#over;
    const maker = room.newMaker();
    let failures = 0;
    while (!over.aborted) {
      if (this.#next > room.head) {
        this.#live = true;
        outgoing.send({ type: "caught_up", room_id: room.id, seq: this.#next - 1 });
        return;
      }
      try {
        if (!(await outgoing.inTurn(() => this.#sendPage(maker)))) return;
        failures = 0;
      } catch (error) {
        failures += 1;
        logger.warn({ room: room.id, failures, error: messageOf(error) }, "missed events could not be read");
        await pause(backoffMs(failures), over.signal);
      }
    }
  }
}
