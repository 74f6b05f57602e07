// What one socket follows, beside the rooms that it subscribes to and its notifications: each event comes once.
import { requireScope } from "../../app/authenticate.ts";
import type { Call } from "../../app/services.ts";
import type { FrameOf } from "../../contract/frames.ts";
import type { Position } from "../../event-store/event-store.ts";
import { SocketRefusal, userRequired } from "./commands.ts";
import { Follower, type FollowerOptions } from "./follower.ts";
import type { OpenDeliveries } from "./open-deliveries.ts";
import type { RoomSubscriptions } from "./room-subscriptions.ts";

type SocketFollowOptions = Omit<FollowerOptions, "caller" | "beside"> & {
  readonly subscriptions: () => RoomSubscriptions;
  readonly notifications: () => OpenDeliveries | undefined;
};

/** Events of the user's alone whose positions are remembered, so that each is sent once. */
const MAX_PERSONAL = 100;

export class SocketFollow implements Disposable {
  readonly #options: SocketFollowOptions;
  #follower: Follower | undefined;
  readonly #personal = new Set<Position>();

  constructor(options: SocketFollowOptions) {
    this.#options = options;
  }

  /** Throws insufficient_scope, SocketRefusal, and what `Follower.open` throws. */
  async follow(call: Call, frame: FrameOf<"follow">): Promise<void> {
    const { subscriptions, notifications, ...parts } = this.#options;
    const { caller } = call;
    // fence: follow-scope
    requireScope(caller, "rooms:read");
    if (caller.kind !== "user") throw userRequired();
    if (this.#follower !== undefined) throw new SocketRefusal("already_following", "the connection follows already");
    const follower = new Follower({
      ...{ ...parts, caller },
      beside: {
        roomEvent: (room, seq, position) => subscriptions().get(room)?.followed(seq, position) ?? "send",
        sendsMarker: (room) => subscriptions().get(room) !== undefined,
        takeNotification: (position) => notifications()?.take({ position }) ?? true,
        takePersonal: (position) => this.takePersonal(position),
      },
    });
    this.#follower = follower;
    try {
      await follower.open(call, frame);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  unfollow({ ref }: FrameOf<"unfollow">): void {
    const followed = this.#follower !== undefined;
    this[Symbol.dispose]();
    this.#options.outbox.send({ type: "unfollowed", ref });
    if (!followed) return;
    this.#options.subscriptions().resume();
    this.#options.notifications()?.resume();
  }

  /** Whether what is at the position is sent by what follows. */
  tells(position: Position): boolean {
    return this.#follower?.tells(position) ?? false;
  }

  /** Whether an event that is the user's alone was not sent yet: from then on it was. */
  takePersonal(position: Position): boolean {
    if (this.#personal.has(position)) return false;
    const [oldest] = this.#personal.add(position);
    if (this.#personal.size > MAX_PERSONAL && oldest !== undefined) this.#personal.delete(oldest);
    return true;
  }

  wake(): void {
    this.#follower?.wake();
  }

  [Symbol.dispose](): void {
    this.#follower?.[Symbol.dispose]();
    this.#follower = undefined;
  }
}
