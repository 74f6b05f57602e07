// The rooms that one socket has subscribed to.

import { findRoom, openAsMember, openRoom } from "../../app/rooms/room-access.ts";
import type { Services } from "../../app/services.ts";
import type { FrameOf, Ref } from "../../contract/client-frames.ts";
import type { SocketErrorCode } from "../../contract/errors.ts";
import type { RoomId } from "../../contract/ids.ts";
import { DomainError } from "../../domain/errors.ts";
import { requireRole } from "../../domain/room-state.ts";
import { StoreUnavailable } from "../../event-store/event-store.ts";
import type { Identity } from "./identity.ts";
import type { Lifetime } from "./lifetime.ts";
import { MAX_ROOMS } from "./limits.ts";
import type { Hold, LiveRooms } from "./live-rooms.ts";
import type { Outgoing } from "./outgoing.ts";
import { RoomSubscription } from "./room-subscription.ts";

/** How long a subscription waits until this node has come as far as the room was at the call. */
const REACH_MS = 5_000;

type RoomsParts = {
  readonly services: Pick<Services, "store" | "keyring" | "commands" | "logger">;
  readonly rooms: LiveRooms;
  readonly outgoing: Outgoing;
  /** Aborted when the connection ends. */
  readonly over: Lifetime;
};

export class Rooms implements Disposable {
  readonly #parts: RoomsParts;
  readonly #subscriptions = new Map<RoomId, RoomSubscription>();

  constructor(parts: RoomsParts) {
    this.#parts = parts;
  }

  /** Throws DomainError (not_found, not_a_member), StoreUnavailable. */
  async subscribe({ caller, user }: Pick<Identity, "caller" | "user">, frame: FrameOf<"subscribe">): Promise<void> {
    const { services, rooms, over } = this.#parts;
    const open = await openAsMember(services, caller, frame.room_id);
    if (this.#subscriptions.has(open.id))
      return this.#error("already_subscribed", "the room is subscribed already", frame.ref);
    if (this.#subscriptions.size >= MAX_ROOMS) {
      return this.#error("too_many_subscriptions", `a connection has at most ${MAX_ROOMS} rooms`, frame.ref);
    }
    const hold = await rooms.open(open.id);
    let kept = false;
    try {
      if (!(await hold.room.reached(open.room.seq, REACH_MS)))
        throw new StoreUnavailable("the room could not be read in time");
      if (over.aborted) return;
      // From here on nothing waits: what the look at the room says holds when its next frame comes.
      const { state, head } = hold.room;
      if (state === undefined) throw new DomainError("not_found");
      requireRole(state, caller.actor, "reader");
      const { after_seq: afterSeq, ref } = frame;
      if (afterSeq !== undefined && afterSeq > head)
        return this.#error("seq_out_of_range", `the room's head is ${head}`, ref);
      this.#start(hold, user?.subject ?? null, afterSeq, { type: "subscribed", room_id: open.id, seq: head, ref });
      kept = true;
    } finally {
      if (!kept) hold[Symbol.dispose]();
    }
  }

  /**
   * Also of a room that was not subscribed: then it already holds, if the caller may see the room; an answer to anybody
   * else would tell that there is one. Throws DomainError (not_found), StoreUnavailable.
   */
  async unsubscribe(
    { caller }: Pick<Identity, "caller">,
    { room_id: named, ref }: FrameOf<"unsubscribe">,
  ): Promise<void> {
    const { services } = this.#parts;
    const room = await findRoom(services, caller.client, named);
    // fence: leave-unseen-room
    if (!this.#subscriptions.has(room)) await openRoom(services, caller, named);
    this.#subscriptions.get(room)?.[Symbol.dispose]();
    this.#subscriptions.delete(room);
    this.#parts.outgoing.send({ type: "unsubscribed", room_id: room, reason: "asked", ref });
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions.values()) subscription[Symbol.dispose]();
    this.#subscriptions.clear();
  }

  #start(hold: Hold, subject: RoomSubscription["subject"], afterSeq: number | undefined, subscribed: object): void {
    const { services, outgoing } = this.#parts;
    const onEnd = (room: RoomId) => void this.#subscriptions.delete(room);
    const subscription = new RoomSubscription({ hold, outgoing, subject, onEnd, logger: services.logger });
    this.#subscriptions.set(hold.room.id, subscription);
    outgoing.send(subscribed);
    subscription.start(afterSeq);
  }

  #error(code: SocketErrorCode, message: string, ref: Ref | undefined): void {
    this.#parts.outgoing.send({ type: "error", code, message, ref });
  }
}
