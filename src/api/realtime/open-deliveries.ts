// A user's notifications on one socket: the open ones, oldest first, then new ones as they come; none twice.
import { LRUCache } from "lru-cache";
import type { Services } from "../../app/services.ts";
import type { Priority } from "../../contract/deliveries.ts";
import type { ServerFrame } from "../../contract/frames.ts";
import type { ClientId, DeliveryId, NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject, JsonValue } from "../../contract/json.ts";
import { type Instant, rfc3339 } from "../../contract/time.ts";
import { DELIVERY_STREAMS } from "../../domain/delivery-state.ts";
import { reveal } from "../../domain/event.ts";
import { notificationDecider, notificationStream } from "../../domain/notification.ts";
import { decodeMetadata, decodeRaw } from "../../event-store/envelope.ts";
import type { Position, RecordedEvent } from "../../event-store/event-store.ts";
import { batchLoader, maxEntries } from "../../platform/bounded.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { IDLE_MS, Loop } from "../../platform/supervise.ts";
import { KeyedListeners, type LiveFeed } from "../../projections/feed.ts";
import { openWebsocketDeliveries, usersWithOpenDeliveries } from "../../projections/models/delivery-list.ts";
import { deliveryOf } from "../../projections/projection.ts";
import { MAX_AHEAD_BYTES, type Outbox } from "./outbox.ts";

/** Open deliveries read at a time; the next page once the socket's queue has drained. */
const PAGE = 100;
/** Users of whom is read at once whether they have any. */
const USERS_AT_ONCE = 200;
/** Max clients of which is known who reads that. */
const MAX_READERS = 1_000;
/** Max new ones that wait to be sent; what exceeds them is read from the read model like those that were missed. */
const MAX_WAITING = 1_000;
/** How long the read model is waited for before a warning says that it lags. */
const READ_MODEL_WAIT_MS = 5_000;

/** Events with which a delivery goes on that was requested before: at a new end, or when it is held no longer. */
const BEGUN_AGAIN: ReadonlySet<string> = new Set(["DeliveryRedriven", "DeliveryReleased"]);

/** A delivery to a user who is connected. */
type NewDelivery = {
  readonly id: DeliveryId;
  readonly notification: NotificationId;
  readonly at: Instant;
  readonly expiresAt: Instant;
  readonly position: Position;
  /** It had ended and starts again, or was held: it was requested before. */
  readonly redriven: boolean;
};

type Content = {
  readonly subject: string | null;
  readonly content: JsonValue;
  readonly meta: JsonObject;
  readonly priority: Priority;
  readonly category: string | null;
  readonly room_id: RoomId | null;
};

/** One connection of a user. Called in the log's order; must neither throw nor take long. */
type Listener = {
  requested(delivery: NewDelivery): void;
  /** `correlation` is that of the command, so it tells whose acknowledgement it was. */
  acknowledged(id: DeliveryId, correlation: string): void;
};

/** What the node's feed says of deliveries, for the users who are connected to this node. */
export class DeliveryFeed implements Disposable {
  readonly #services: Services;
  readonly #listeners = new KeyedListeners<Subject, Listener>();
  /** Shared by all who need the same at once: a room's members all get one notification. */
  readonly #loading = new Map<NotificationId, Promise<Content | undefined>>();
  /** By client: whether users have open deliveries is read together for those who connect at the same time. */
  readonly #readers = new LRUCache<ClientId, (subject: Subject, of: null) => Promise<object | undefined>>({
    ...maxEntries(MAX_READERS),
  });
  readonly #following: Disposable;
  /** What this listener has handled: the feed as a whole may be a batch behind. */
  #handled: Position | "start";

  constructor(services: Services, feed: LiveFeed) {
    this.#services = services;
    this.#handled = feed.handled();
    this.#following = feed.on((events, upTo) => {
      if (this.#listeners.size > 0) {
        for (const event of events) if (event.stream.startsWith(DELIVERY_STREAMS)) this.#publish(event);
      }
      this.#handled = upTo;
    });
  }

  get handled(): Position | "start" {
    return this.#handled;
  }

  /**
   * Listens to a user's deliveries. All after `after` are reported; what was requested up to it is to be read from the
   * read model once that has reached it.
   */
  listen(subject: Subject, listener: Listener): Disposable & { readonly after: Position | "start" } {
    return { after: this.#handled, ...this.#listeners.add(subject, listener) };
  }

  /** Whether a user has open deliveries, by the read model as it is at the call or later. */
  async hasOpen(client: ClientId, subject: Subject): Promise<boolean> {
    const load = (users: ReadonlyMap<string, null>) => this.#findOpen(client, [...users.keys()] as Subject[]);
    // Of each client by itself: one that waits for its share of the database holds up nobody else.
    const read = this.#readers.get(client) ?? batchLoader(load, USERS_AT_ONCE);
    this.#readers.set(client, read);
    return (await read(subject, null)) !== undefined;
  }

  /** A released notification's content; undefined when there is none. Throws StoreUnavailable. */
  contentOf(id: NotificationId): Promise<Content | undefined> {
    const loading = this.#loading.get(id) ?? this.#load(id).finally(() => this.#loading.delete(id));
    this.#loading.set(id, loading);
    return loading;
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
    this.#listeners.clear();
  }

  async #findOpen(client: ClientId, subjects: readonly Subject[]): Promise<ReadonlyMap<string, object>> {
    const { readSide, now } = this.#services;
    const found = await usersWithOpenDeliveries(readSide.readAs(client), subjects, now());
    return new Map(found.map((subject) => [subject, OPEN]));
  }

  async #load(id: NotificationId): Promise<Content | undefined> {
    const { state } = await this.#services.commands.load(notificationDecider, notificationStream(id));
    if (state.status === "none") return undefined;
    const { subject, content, meta, priority, category, roomId } = state.data;
    const open = { subject: reveal(subject), content: reveal(content), meta: reveal(meta) ?? {} };
    return { ...open, priority, category, room_id: roomId };
  }

  #publish(event: RecordedEvent): void {
    if (event.type === "DeliveryAcknowledged") {
      const listeners = this.#listeners.of(decodeRaw(event).recipient as Subject);
      if (listeners === undefined) return;
      const { correlation } = decodeMetadata(event);
      for (const listener of listeners) listener.acknowledged(deliveryOf(event.stream), correlation);
      return;
    }
    const notified = notifiesUser(event);
    const listeners = notified === undefined ? undefined : this.#listeners.of(notified.recipient);
    if (notified !== undefined && listeners !== undefined)
      for (const listener of listeners) listener.requested(notified.delivery());
  }
}

const OPEN = {};

type NotifiedUser = { readonly recipient: Subject; readonly delivery: () => NewDelivery };

/**
 * Whom an event of a delivery notifies; undefined: nobody. Only WebSocket deliveries have a user's subject as recipient;
 * those of other channels have an address's.
 */
export function notifiesUser(event: RecordedEvent): NotifiedUser | undefined {
  const redriven = BEGUN_AGAIN.has(event.type);
  if (event.type !== "DeliveryRequested" && !redriven) return undefined;
  const data = decodeRaw(event);
  if (data.withheld === true || (!redriven && data.channel !== "websocket")) return undefined;
  const { position } = event;
  return {
    recipient: data.recipient as Subject,
    delivery: () => ({
      ...{ id: deliveryOf(event.stream), notification: data.notification as NotificationId, position, redriven },
      at: decodeMetadata(event).at,
      expiresAt: Number(data.expiresAt),
    }),
  };
}

type OpenDeliveriesOptions = {
  readonly services: Services;
  readonly feed: DeliveryFeed;
  readonly outbox: Outbox;
  readonly client: ClientId;
  readonly subject: Subject;
  readonly connection: string;
  /** Whether the connection is told of what is there by another way, with what else happens. */
  readonly isFollowed: (position: Position) => boolean;
};

/** Sends a user's notifications until it is disposed. Supervised: what fails is tried again. */
export class OpenDeliveries implements Listener, Disposable {
  readonly #options: OpenDeliveriesOptions;
  readonly #loop: Loop;
  readonly #listening: ReturnType<DeliveryFeed["listen"]>;
  /** New ones that are still to be sent; undefined while open ones are read. */
  #waiting: NewDelivery[] | undefined;
  /** Those redriven while open ones were read. */
  readonly #redriven: NewDelivery[] = [];
  /** Up to where open ones are read from the read model. */
  #wanted: Position | "start";
  /** The last one that was sent, in the log's order. */
  #sent: Position | "start" = "start";

  constructor(options: OpenDeliveriesOptions) {
    this.#options = options;
    this.#listening = options.feed.listen(options.subject, this);
    this.#wanted = this.#listening.after;
    this.#loop = new Loop({
      name: `notifications ${options.connection}`,
      step: (signal) => (this.#waiting === undefined ? this.#sendOpen(signal) : this.#sendNew(this.#waiting, signal)),
      logger: options.services.logger,
    });
  }

  requested(delivery: NewDelivery): void {
    // fence: notification-followed
    if (this.#waiting !== undefined && this.#options.isFollowed(delivery.position)) return;
    const full = this.#waiting !== undefined && this.#waiting.length >= MAX_WAITING;
    if (full) this.#waiting = undefined;
    if (this.#waiting === undefined) this.#wanted = delivery.position;
    // A redriven one keeps its position among the open ones, which may have been read beyond it.
    if (delivery.redriven && !full) (this.#waiting ?? this.#redriven).push(delivery);
    else if (this.#sent === "start" || /* fence: notification-once */ delivery.position > this.#sent)
      this.#waiting?.push(delivery);
    if (this.#redriven.length > MAX_WAITING) this.#redriven.shift();
    this.#loop.wake();
  }

  /** Takes over what somebody else is to send; false when it was sent, or will be. */
  take({ position }: Pick<NewDelivery, "position">): boolean {
    if (this.#waiting === undefined || this.#waiting.some((one) => one.position === position)) return false;
    if (this.#sent !== "start" && position <= this.#sent) return false;
    this.#sent = position;
    return true;
  }

  /** Sends again all that comes, from the last that was sent. */
  resume(): void {
    this.#wanted = this.#options.feed.handled;
    this.#waiting = undefined;
    this.#loop.wake();
  }

  acknowledged(id: DeliveryId, correlation: string): void {
    if (correlation !== this.#options.connection) this.#options.outbox.send({ type: "acked", delivery_id: id });
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    void this.#loop[Symbol.asyncDispose]();
  }

  /** Sends what the read model has up to the wanted position; when that is all, new ones follow, in the same step. */
  async #sendOpen(signal: AbortSignal): Promise<number> {
    const { services, outbox } = this.#options;
    const wanted = this.#wanted;
    if (wanted !== "start" && !(await services.readSide.waitFor(wanted, READ_MODEL_WAIT_MS))) {
      throw new Error("the read model lags");
    }
    const { feed, client, subject } = this.#options;
    for (let more = await feed.hasOpen(client, subject); more; ) {
      const sent = await outbox.readAhead(() => this.#sendPage(signal));
      if (sent === "not taken") return IDLE_MS; // the connection has ended
      more = sent === "more";
    }
    if (this.#wanted === wanted) this.#waiting = this.#redriven.splice(0);
    return 0;
  }

  /** Sends the next ones from the read model, as the reader takes them. */
  async #sendPage(signal: AbortSignal): Promise<"more" | "all" | "not taken"> {
    if (signal.aborted) return "not taken";
    const { page, more } = await this.#readPage();
    failpoint("open-notifications-read/sent");
    for (const { position, bytes } of page) {
      if (!(await this.#options.outbox.sendPaced(() => (signal.aborted ? undefined : bytes)))) return "not taken";
      this.#sent = position;
    }
    return more ? "more" : "all";
  }

  /** At most MAX_AHEAD_BYTES and one: rows are not kept while a reader takes its time. */
  async #readPage() {
    const { services, client, subject } = this.#options;
    const cursor = this.#sent === "start" ? {} : { cursor: [this.#sent] };
    const range = { now: services.now(), limit: PAGE, ...cursor };
    const { rows, next } = await openWebsocketDeliveries(services.readSide.readAs(client), subject, range);
    const page: { position: Position; bytes: Buffer }[] = [];
    let weight = 0;
    for (const row of rows) {
      if (weight >= MAX_AHEAD_BYTES) return { page, more: true };
      const bytes = notificationFrame(row.id, row.notification_id, row.requested_at, row, row.status === "fell_back");
      page.push({ position: row.position, bytes });
      weight += bytes.byteLength;
    }
    return { page, more: next !== null };
  }

  /** Sends the first of those that wait. */
  async #sendNew(waiting: NewDelivery[], signal: AbortSignal): Promise<number> {
    const { services, feed, outbox } = this.#options;
    const [delivery] = waiting;
    if (delivery === undefined) return IDLE_MS;
    const { id, notification, at, expiresAt, position } = delivery;
    const content = await feed.contentOf(notification);
    // Meanwhile there may have been too many: then this one too is read with the open ones.
    if (this.#waiting !== waiting) return 0;
    waiting.shift();
    failpoint("notification-framed/sent");
    const wanted = content !== undefined && expiresAt > services.now() && !signal.aborted;
    if (wanted) outbox.sendAll([notificationFrame(id, notification, at, content)]);
    if (this.#sent === "start" || position > this.#sent) this.#sent = position;
    return 0;
  }
}

/** `more`: what the frame has besides. */
export function notificationFrame(
  id: DeliveryId,
  notification: NotificationId,
  at: Instant,
  shown: Content,
  fell_back = false,
  more: { readonly cursor?: string } = {},
): Buffer {
  const { subject, content, meta, priority, category, room_id } = shown;
  const ids = { delivery_id: id, notification_id: notification };
  const frame: ServerFrame = {
    type: "notification",
    ...ids,
    subject,
    content,
    meta,
    priority,
    category,
    room_id,
    at: rfc3339(at),
    fell_back,
    ...more,
  };
  return Buffer.from(JSON.stringify(frame));
}
