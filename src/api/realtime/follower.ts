// One who follows: first the rooms as they are, or what was missed, then all that concerns the user, under one cursor.

import { requireScope } from "../../app/authenticate.ts";
import { type Followed, followCursor, Missed, roomCameInto, type UserCaller, windowOf } from "../../app/follow.ts";
import type { FollowCursor } from "../../app/positions.ts";
import type { Call, Services } from "../../app/services.ts";
import { type FrameOf, NOTIFICATION_SCOPE, type Ref, type ServerFrame } from "../../contract/frames.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import type { UserRoomResource } from "../../contract/users.ts";
import { type Position, StoreUnavailable } from "../../event-store/event-store.ts";
import { IDLE_MS, Loop } from "../../platform/supervise.ts";
import { cursorOfList } from "../http/cursor.ts";
import { API_PREFIX } from "../http/route.ts";
import { SocketRefusal, userRequired } from "./commands.ts";
import type { FeedFollower, FollowFeed } from "./follow-feed.ts";
import { eventFrame } from "./frames.ts";
import { type DeliveryFeed, notificationFrame, notifiesUser, type OpenDeliveries } from "./open-deliveries.ts";
import type { Outbox } from "./outbox.ts";
import type { RoomSubscriptions } from "./room-subscriptions.ts";

/** Max events that wait for one who follows. Of more, what was missed is read from the log. */
const MAX_WAITING = 500;

/** What the same connection is sent besides. */
type Beside = {
  /** What becomes of an event of a room: `skip` when it is sent by other means, `wait` until others before it are. */
  roomEvent(room: RoomId, seq: number, position: Position): "send" | "skip" | "wait";
  /** Whether the user's read marker is sent by other means. */
  sendsMarker(room: RoomId): boolean;
  /** Whether the notification is still to be sent. */
  takeNotification(position: Position): boolean;
  /** Whether an event that is the user's alone is still to be sent. */
  takePersonal(position: Position): boolean;
};

type FollowerOptions = {
  readonly services: Services;
  readonly feed: FollowFeed;
  readonly deliveries: DeliveryFeed;
  readonly outbox: Outbox;
  readonly caller: UserCaller;
  /** For the log. */
  readonly connection: string;
  /** Default: nothing. */
  readonly beside?: Beside;
};

/** What is being read from the log, up to where, and what of it was read and not sent. */
type Reading = { readonly events: Missed; readonly upTo: Position; page: Followed[] };

/** Follows from `open` until it is disposed. Supervised: what fails is tried again, and no event is skipped. */
export class Follower implements FeedFollower, Disposable {
  readonly client: ClientId;
  readonly subject: Subject;
  readonly #options: FollowerOptions;
  /** `opening`: events wait. `missed`: they are read from the log. */
  #phase: "opening" | "missed" | "live" | "ended" = "opening";
  #waiting: Followed[] = [];
  /** The last that it was sent; everything before was. */
  #at: FollowCursor | undefined;
  #missed: Reading | undefined;
  /** All after it is sent by this follower. */
  #since: Position | undefined;
  #resumed = false;
  /** What came while it was not live did not all wait: once that is sent, the rest is read from the log too. */
  #behind = false;
  #loop: Loop | undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
    ({ client: this.client, subject: this.subject } = options.caller);
  }

  /**
   * Sends the window, or, with `after`, what was missed since, unless that is too much. Throws invalid_cursor,
   * read_model_behind, StoreUnavailable.
   */
  async open(call: Call, { after, limit, ref }: Pick<FrameOf<"follow">, "after" | "limit" | "ref">): Promise<void> {
    const { services, caller } = this.#options;
    if (after !== undefined) {
      const from = await followCursor(services, caller, after);
      const upTo = await this.#join(from.position);
      const events = new Missed(services, caller, from, upTo);
      if (!(await events.isTooMuch())) return this.#resume(from, { events, upTo, page: [] }, ref);
    }
    await this.#sendWindow(call, limit, after !== undefined, ref);
  }

  /** Whether what is at the position is, or was, sent by this follower. */
  tells(position: Position): boolean {
    return this.#since !== undefined && position > this.#since && this.#phase !== "ended";
  }

  tell(events: readonly Followed[]): void {
    if (this.#phase === "ended") return;
    this.#waiting.push(...events.filter((one) => this.#isNew(one)));
    if (this.#phase === "live" && this.#waiting.length > 0) this.#sendPlain();
    if (this.#waiting.length > MAX_WAITING) this.restart();
    if (this.#waiting.length > 0) this.wake();
  }

  restart(): void {
    if (this.#phase === "ended") return;
    this.#waiting = [];
    if (this.#phase === "live") this.#phase = "missed";
    else this.#behind = true;
    this.#loop?.wake();
  }

  /** Looks again whether what waits may be sent. */
  wake(): void {
    if (this.#waiting.length > 0 || this.#phase === "missed") this.#loop?.wake();
  }

  /** No frame is sent after this. */
  [Symbol.dispose](): void {
    this.#phase = "ended";
    this.#waiting = [];
    this.#missed = undefined;
    this.#options.feed.leave(this);
    void this.#loop?.[Symbol.asyncDispose]();
  }

  #isNew({ position }: Followed): boolean {
    if (this.#at === undefined || position > this.#at.position) return true;
    return position === this.#at.position && this.#at.had > 0;
  }

  /** From here on events wait. Gives the position after which they do, or a later one that was had already. */
  async #join(had?: Position): Promise<Position> {
    this.#waiting = [];
    this.#behind = false;
    const from = await this.#options.feed.join(this);
    if (from === "start") throw new StoreUnavailable("nothing was read from the log yet");
    return had !== undefined && had > from ? had : from;
  }

  async #sendWindow(call: Call, limit: number, reset: boolean, ref: Ref | undefined): Promise<void> {
    const { services, caller, outbox } = this.#options;
    const atLeast = await this.#join();
    const { rooms, unreadTotal, next, position } = await windowOf(call, caller, limit, atLeast);
    const path = `${API_PREFIX}/users/${encodeURIComponent(caller.userId)}/rooms`;
    const next_cursor = next === null ? null : await cursorOfList(services, this.client, path, next);
    const cursor = services.positions.cursorUpTo(this.client, position);
    const more = reset ? { reset: true as const } : {};
    const inbox = { type: "inbox", rooms, unread_total: unreadTotal, cursor, next_cursor, ...more } as const;
    const sent = await outbox.readAhead(() =>
      outbox.sendPaced(() => {
        if (this.#phase === "ended") return undefined;
        this.#at = { position, had: 0 };
        this.#since = position;
        return frameOf({ ...inbox, ref });
      }),
    );
    if (sent) this.#start("live");
  }

  #resume(from: FollowCursor, missed: Reading, ref: Ref | undefined): void {
    const { services, outbox } = this.#options;
    this.#at = from;
    this.#since = from.position;
    this.#missed = missed;
    this.#resumed = true;
    const cursor = services.positions.cursorUpTo(this.client, missed.upTo);
    outbox.send({ type: "following", cursor, ref });
    this.#start("missed");
  }

  #start(phase: "live" | "missed"): void {
    if (this.#phase === "ended") return;
    this.#phase = this.#behind && phase === "live" ? "missed" : phase;
    this.#waiting = this.#waiting.filter((one) => this.#isNew(one));
    const { services, connection } = this.#options;
    const step = (signal: AbortSignal) => (this.#phase === "missed" ? this.#sendMissed(signal) : this.#sendWaiting());
    this.#loop = new Loop({ name: `follow ${connection}`, step, logger: services.logger });
  }

  /** Sends those in front for which nothing has to be read, in one write. */
  #sendPlain(): void {
    const frames: Buffer[] = [];
    while (this.#waiting[0] !== undefined && this.#loop !== undefined) {
      const [next] = this.#waiting;
      if (next.kind === "notification" || (next.kind === "room" && (next.comes ?? next.ends) !== null)) break;
      const verdict = this.#verdict(next);
      if (verdict === "wait") break;
      this.#waiting.shift();
      if (verdict === "send") frames.push(this.#plainFrame(next));
      this.#at = { position: next.position, had: 0 };
    }
    if (frames.length > 0) this.#options.outbox.sendAll(frames);
  }

  #verdict(followed: Followed): "send" | "skip" | "wait" {
    const { beside } = this.#options;
    if (beside === undefined) return "send";
    const { kind, position } = followed;
    if (kind === "room") return beside.roomEvent(followed.room, followed.seq, position);
    if (kind === "personal") return beside.takePersonal(position) ? "send" : "skip";
    const other = kind === "read" ? beside.sendsMarker(followed.marker.room_id) : !beside.takeNotification(position);
    return other ? "skip" : "send";
  }

  async #sendWaiting(): Promise<number> {
    this.#sendPlain();
    const [next] = this.#waiting;
    if (next === undefined) return IDLE_MS;
    const read = await this.#read(next);
    if (this.#phase !== "live" || this.#waiting[0] !== next) return 0;
    const frames = this.#framesOf(next, read);
    if (frames === "wait") return IDLE_MS;
    this.#waiting.shift();
    this.#at = { position: next.position, had: 0 };
    this.#options.outbox.sendAll(frames);
    return 0;
  }

  /** Sends what was missed, as the reader takes it; once that is all, new events follow in the same step. */
  async #sendMissed(signal: AbortSignal): Promise<number> {
    const { services, caller, outbox } = this.#options;
    const from = this.#at;
    if (from === undefined) throw new Error("one who follows goes on from nowhere");
    if (this.#missed === undefined) {
      const upTo = await this.#join(from.position);
      this.#missed = { events: new Missed(services, caller, from, upTo), upTo, page: [] };
    }
    const missed = this.#missed;
    const state = await outbox.readAhead(() => this.#sendPage(missed, signal));
    if (state === "wait") return IDLE_MS;
    if (state === "more" || this.#missed !== missed || this.#phase !== "missed") return 0;
    this.#missed = undefined;
    this.#at = { position: missed.upTo, had: 0 };
    if (this.#resumed) {
      this.#resumed = false;
      const cursor = services.positions.cursorUpTo(this.client, missed.upTo);
      outbox.send({ type: "caught_up", cursor });
    }
    if (this.#behind) return 0;
    this.#phase = "live";
    this.#waiting = this.#waiting.filter((one) => this.#isNew(one));
    return 0;
  }

  async #sendPage(missed: Reading, signal: AbortSignal): Promise<"more" | "all" | "wait"> {
    if (missed.page.length === 0) {
      const page = await missed.events.next();
      if (page === undefined) return "all";
      missed.page = [...page];
    }
    for (let next = missed.page[0]; next !== undefined && !signal.aborted; next = missed.page[0]) {
      const frames = this.#framesOf(next, await this.#read(next));
      if (frames === "wait") return "wait";
      for (const frame of frames) {
        if (!(await this.#options.outbox.sendPaced(() => (signal.aborted ? undefined : frame)))) return "wait";
      }
      this.#at = { position: next.position, had: 0 };
      missed.page.shift();
    }
    return "more";
  }

  /** What has to be read to tell of an event. */
  async #read(followed: Followed): Promise<Read> {
    const { services, deliveries, caller } = this.#options;
    if (followed.kind === "room") {
      const { comes } = followed;
      return comes === null ? {} : { item: await roomCameInto(services, caller, { ...followed, comes }) };
    }
    if (followed.kind !== "notification") return {};
    const delivery = notifiesUser(followed.event)?.delivery();
    // fence: follow-notifications
    if (delivery === undefined || !caller.scopes.has(NOTIFICATION_SCOPE)) return {};
    const content = await deliveries.contentOf(delivery.notification);
    if (content === undefined || delivery.expiresAt <= services.now()) return {};
    const { id, notification, at } = delivery;
    const notified = (cursor: string) => notificationFrame(id, notification, at, content, false, { cursor });
    return { notified };
  }

  /** The frames that tell of an event, but those that were sent already. What it gives counts as sent. */
  #framesOf(followed: Followed, { item, notified }: Read): readonly Buffer[] | "wait" {
    const { position } = followed;
    const verdict = this.#verdict(followed);
    if (verdict === "wait") return "wait";
    const all: ((cursor: string) => Buffer)[] = [];
    if (item !== undefined) all.push((cursor) => frameOf({ type: "room", room: item, cursor }));
    const own = followed.kind === "notification" ? notified : (cursor: string) => plainFrame(followed, cursor);
    // Skipped, it has its place all the same: cursors count frames.
    if (own !== undefined) all.push(verdict === "send" ? own : () => NOTHING);
    if (followed.kind === "room" && followed.ends !== null) {
      const { room, ends } = followed;
      all.push((cursor) => frameOf({ type: "unsubscribed", room_id: room, reason: ends, cursor }));
    }
    const had = this.#at?.position === position ? this.#at.had : 0;
    return all
      .map((make, index) => make(this.#cursor(position, index === all.length - 1 ? 0 : index + 1)))
      .slice(had)
      .filter((frame) => frame !== NOTHING);
  }

  #plainFrame(followed: Plain): Buffer {
    const frame = plainFrames.get(followed) ?? plainFrame(followed, this.#cursor(followed.position, 0));
    plainFrames.set(followed, frame);
    return frame;
  }

  #cursor(position: Position, had: number): string {
    return this.#options.services.positions.cursorAt(this.client, { position, had });
  }
}

type Read = { readonly item?: UserRoomResource; readonly notified?: (cursor: string) => Buffer };
const NOTHING = Buffer.alloc(0);
/** Made once for all who are told the same: each is of one client. */
const plainFrames = new WeakMap<Plain, Buffer>();

const frameOf = (frame: ServerFrame): Buffer => Buffer.from(JSON.stringify(frame));

/** Events whose own frame is made without reading anything. */
type Plain = Exclude<Followed, { kind: "notification" }>;
const plainFrame = (followed: Plain, cursor: string): Buffer =>
  followed.kind === "read" ? frameOf({ type: "read", ...followed.marker, cursor }) : eventFrame(followed.event, cursor);

// What one socket follows, beside the rooms that it subscribes to and its notifications: each event comes once.

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
