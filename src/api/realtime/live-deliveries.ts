// Notifications for connected users: what the log says is requested and acknowledged goes to those who are here.
import { LRUCache } from "lru-cache";
import type { DeliveryId, NotificationId, RoomId, Subject } from "../../contract/ids.ts";
import type { JsonObject, JsonValue } from "../../contract/json.ts";
import type { Priority } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import { reveal } from "../../domain/event.ts";
import { notificationDecider, notificationStream } from "../../domain/notification.ts";
import { decodeMetadata, decodeRaw } from "../../event-store/envelope.ts";
import type { Position, RecordedEvent } from "../../event-store/event-store.ts";
import type { Commands } from "../../event-store/handle-command.ts";
import type { LiveFeed } from "../../projections/feed.ts";

/** Notifications whose content is kept in memory, and for how long: a room's members all get the same one. */
const KEPT_CONTENTS_KB = 16 * 1024;
const CONTENT_TTL_MS = 60_000;
const DELIVERY = "delivery-";

/** A delivery that a user who is here is to be offered. */
export type Offer = {
  readonly id: DeliveryId;
  readonly notification: NotificationId;
  readonly at: Instant;
  readonly expiresAt: Instant;
  readonly position: Position;
  /** It had ended and starts again. */
  readonly again: boolean;
};

/** What the frame shows besides. */
export type OfferContent = {
  readonly subject: string | null;
  readonly content: JsonValue;
  readonly meta: JsonObject;
  readonly priority: Priority;
  readonly room_id: RoomId | null;
};

/** One connection of a user. Called in the log's order; must neither throw nor take long. */
export type DeliveryListener = {
  offered(offer: Offer): void;
  /** By whatever command this was: `correlation` tells whose. */
  acknowledged(id: DeliveryId, correlation: string): void;
};

export class LiveDeliveries implements Disposable {
  /** Where this listener is: the feed as a whole may be a batch behind. */
  #handled: Position | "start";
  readonly #listeners = new Map<Subject, Set<DeliveryListener>>();
  readonly #contents: LRUCache<NotificationId, OfferContent>;
  readonly #following: Disposable;

  constructor({ feed, commands }: { readonly feed: LiveFeed; readonly commands: Pick<Commands, "load"> }) {
    // Content cannot change once deliveries are requested; the time limit is there for erasure.
    this.#contents = new LRUCache<NotificationId, OfferContent>({
      maxSize: KEPT_CONTENTS_KB,
      sizeCalculation: ({ content, meta }) => 1 + Math.ceil((weigh(content) + weigh(meta)) / 1_024),
      ttl: CONTENT_TTL_MS,
      fetchMethod: async (id) => {
        const { state } = await commands.load(notificationDecider, notificationStream(id));
        if (state.status === "none") return undefined;
        const { subject, content, meta, priority, roomId } = state.data;
        return {
          subject: reveal(subject),
          content: reveal(content),
          meta: reveal(meta) ?? {},
          priority,
          room_id: roomId,
        };
      },
    });
    this.#handled = feed.handled();
    this.#following = feed.on((events, upTo) => {
      if (this.#listeners.size > 0) {
        for (const event of events) if (event.stream.startsWith(DELIVERY)) this.#pass(event);
      }
      this.#handled = upTo;
    });
  }

  /**
   * Listens to a user's deliveries: all after the position that is given back come live; what was requested up to it
   * is to be asked of the read model once that has reached it.
   */
  listen(subject: Subject, listener: DeliveryListener): Disposable & { readonly after: Position | "start" } {
    const listeners = this.#listeners.get(subject) ?? new Set();
    this.#listeners.set(subject, listeners);
    listeners.add(listener);
    return {
      after: this.#handled,
      [Symbol.dispose]: () => {
        listeners.delete(listener);
        if (listeners.size === 0 && this.#listeners.get(subject) === listeners) this.#listeners.delete(subject);
      },
    };
  }

  /** A released notification's content. Throws StoreUnavailable. */
  contentOf(id: NotificationId): Promise<OfferContent | undefined> {
    return this.#contents.fetch(id);
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
    this.#listeners.clear();
  }

  #pass(event: RecordedEvent): void {
    const requested = event.type === "DeliveryRequested" || event.type === "DeliveryRedriven";
    if (!requested && event.type !== "DeliveryAcknowledged") return;
    const data = decodeRaw(event);
    // Only WebSocket deliveries go to the subject of a user; those of other channels go to that of an address.
    const listeners = this.#listeners.get(data.recipient as Subject);
    if (listeners === undefined) return;
    const { at, correlation } = decodeMetadata(event);
    const id = event.stream.slice(DELIVERY.length) as DeliveryId; // such streams are named after deliveries
    if (!requested) {
      for (const listener of listeners) listener.acknowledged(id, correlation);
      return;
    }
    if (event.type === "DeliveryRequested" && data.channel !== "websocket") return;
    const notification = data.notification as NotificationId;
    const again = event.type === "DeliveryRedriven";
    const offer = { id, notification, at, expiresAt: Number(data.expiresAt), position: event.position, again };
    for (const listener of listeners) listener.offered(offer);
  }
}

const weigh = (value: JsonValue): number => JSON.stringify(value).length;
