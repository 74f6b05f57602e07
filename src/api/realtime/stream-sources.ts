// What streams of server-sent events send: a room's events as its sockets get them, and a client's as pull reads them.

import { AppError } from "../../app/errors.ts";
import { mayBecome } from "../../app/public-events.ts";
import { type EventCursor, type EventSelection, pullEvents } from "../../app/pull.ts";
import type { Call, Caller, Services } from "../../app/services.ts";
import type { UserEventsQuery } from "../../contract/event-requests.ts";
import type { ClientId, RoomId } from "../../contract/ids.ts";
import { type JsonObject, JsonObjectSchema, parseJson } from "../../contract/json.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { decodeMetadata } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import { IDLE_MS, Loop } from "../../platform/supervise.ts";
import type { Checkpoint } from "../../projections/consumer.ts";
import { KeyedListeners, type LiveFeed } from "../../projections/feed.ts";
import type { FollowFeed } from "./follow-feed.ts";
import { Follower } from "./follower.ts";
import type { DeliveryFeed } from "./open-deliveries.ts";
import { type Outbox, type SseMessage, sseMessage, type ToMessage } from "./outbox.ts";
import { RoomSubscriptions, type SubscriptionsOptions } from "./room-subscriptions.ts";

/** Nothing else sends events on a stream. */
const NOTHING_ELSE = { tells: () => false, wake: () => undefined };

/** Where a source sends to. */
type StreamTarget = {
  readonly outbox: Outbox;
  readonly caller: Caller;
  /** Aborted when the stream ends. */
  readonly signal: AbortSignal;
};

/** What a stream sends, from one cursor on. */
export type StreamSource = {
  /** What becomes of the frames that it gives to the outbox. The message that says why the stream ends is the last. */
  readonly toMessage: ToMessage;
  /** Sends until it is disposed. Throws what refuses the stream, before it sends anything. */
  start(target: StreamTarget): Promise<Disposable>;
};

/** What followers need of a node. */
type FollowParts = {
  readonly services: Services;
  readonly follows: FollowFeed;
  readonly deliveries: DeliveryFeed;
};

/** A room's events after a seq, or from now on, and what else its sockets get but for markers, typing and presence. */
export const roomSource = (
  { services, rooms, growing }: Pick<SubscriptionsOptions, "services" | "rooms" | "growing">,
  room: RoomId,
  after: number | undefined,
): StreamSource => ({
  toMessage: roomMessage,
  async start({ outbox, caller, signal }) {
    using unused = new DisposableStack();
    const parts = { services, rooms, growing, outbox, signal, follow: NOTHING_ELSE };
    const subscriptions = unused.use(new RoomSubscriptions(parts));
    const wanted = { room_id: room, after_seq: after };
    await subscriptions.subscribe(caller, { type: "subscribe", rooms: [wanted] }, (error) => {
      throw error;
    });
    unused.move();
    return subscriptions;
  },
});

/** Frames are shared by all who get them, and so are their messages. */
function shared(make: (frame: JsonObject) => SseMessage | null): ToMessage {
  const messages = new WeakMap<Buffer, SseMessage | null>();
  return (frame) => {
    const known = messages.get(frame);
    if (known !== undefined) return known;
    const made = make(JsonObjectSchema.parse(parseJson(frame.toString())));
    messages.set(frame, made);
    return made;
  };
}

const messageOf = ({ type, event, id, ...rest }: JsonObject, cursor: string | null, isLast = false): SseMessage =>
  type === "event"
    ? sseMessage(String(event), cursor, { id, type: event, ...rest })
    : sseMessage(String(type), cursor, { id, ...rest }, isLast);

const roomMessage = shared((frame) => {
  switch (frame.type) {
    case "event":
      return messageOf(frame, String(frame.seq));
    // What is not in the log leaves the reader's cursor as it is.
    case "growing":
      return messageOf(frame, null);
    case "unsubscribed":
      return messageOf(frame, null, true);
    default:
      return null;
  }
});

/** A frame of `follow` has its reader's cursor in it, if it moves that. */
const followMessage = shared(({ cursor, ...frame }) => messageOf(frame, typeof cursor === "string" ? cursor : null));

/** All that concerns a user, as `follow` sends it on a socket. */
export const userSource = (
  { services, follows, deliveries }: FollowParts,
  call: Call,
  { after, limit }: UserEventsQuery,
): StreamSource => ({
  toMessage: followMessage,
  async start({ outbox, caller }) {
    if (caller.kind !== "user") throw new AppError("forbidden");
    using unused = new DisposableStack();
    const follower = unused.use(
      new Follower({ services, feed: follows, deliveries, outbox, caller, connection: call.context.correlation }),
    );
    await follower.open({ ...call, caller }, { after, limit });
    unused.move();
    return follower;
  },
});

/** Events of a client that are read at once. */
const PAGE = 50;
/** How long the read model is waited for before a warning says that it lags. */
const READ_MODEL_WAIT_MS = 5 * SECOND_MS;

type Wake = (position: Position) => void;

/** What the node's feed says of clients' public events, for the streams that send them. */
export class ClientEventsFeed implements Disposable {
  readonly #listeners = new KeyedListeners<ClientId, Wake>();
  readonly #following: Disposable;
  /** What this listener has handled: the feed as a whole may be a batch behind. */
  #handled: Checkpoint;

  constructor(feed: LiveFeed) {
    this.#handled = feed.handled();
    this.#following = feed.on((events, upTo) => {
      if (this.#listeners.size > 0) {
        for (const event of events) {
          if (mayBecome(event.type).length === 0) continue;
          const { client } = decodeMetadata(event);
          const listeners = client === null ? undefined : this.#listeners.of(client);
          for (const wake of listeners ?? []) wake(event.position);
        }
      }
      this.#handled = upTo;
    });
  }

  /** Wakes with each event of the client after `after`. */
  listen(client: ClientId, wake: Wake): Disposable & { readonly after: Checkpoint } {
    return { after: this.#handled, ...this.#listeners.add(client, wake) };
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
  }
}

/** A client's events after a cursor. */
export const clientSource = (
  services: Services,
  feed: ClientEventsFeed,
  selection: EventSelection,
  after: EventCursor,
): StreamSource => ({
  toMessage: (bytes) => ({ bytes, isLast: false }),
  start: async ({ outbox, caller: { client } }) =>
    new ClientEvents({ services, feed, outbox, client, selection }, after),
});

type ClientEventsOptions = {
  readonly services: Services;
  readonly feed: ClientEventsFeed;
  readonly outbox: Outbox;
  readonly client: ClientId;
  readonly selection: EventSelection;
};

/** Sends a client's events from the log as the reader takes them: a cursor, which holds one page at most. */
class ClientEvents implements Disposable {
  readonly #options: ClientEventsOptions;
  readonly #listening: ReturnType<ClientEventsFeed["listen"]>;
  readonly #loop: Loop;
  #cursor: EventCursor;
  /** What the read model must have before it is read. */
  #wanted: Position;

  constructor(options: ClientEventsOptions, after: EventCursor) {
    const { services, feed, client } = options;
    this.#options = options;
    this.#cursor = after;
    this.#wanted = after.position;
    this.#listening = feed.listen(client, (position) => {
      this.#want(position);
      this.#loop.wake();
    });
    // Nobody wakes for what the feed had handled before.
    if (this.#listening.after !== "start") this.#want(this.#listening.after);
    const step = (signal: AbortSignal) => this.#sendPage(signal);
    this.#loop = new Loop({ name: `events of ${client}`, step, logger: services.logger });
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    void this.#loop[Symbol.asyncDispose]();
  }

  #want(position: Position): void {
    if (position > this.#wanted) this.#wanted = position;
  }

  async #sendPage(signal: AbortSignal): Promise<number> {
    const { services, outbox, client, selection } = this.#options;
    const wanted = this.#wanted;
    if (!(await services.readSide.waitFor(wanted, READ_MODEL_WAIT_MS))) throw new Error("the read model lags");
    const read = services.readSide.readAs(client, signal);
    const { events, next } = await pullEvents({ services, read }, selection, this.#cursor, PAGE);
    for (const { event, id, cursor } of events) {
      const { bytes } = sseMessage(event.type, id, event);
      if (!(await outbox.sendPaced(() => (signal.aborted ? undefined : bytes)))) return IDLE_MS; // the stream has ended
      this.#cursor = cursor;
    }
    if (next !== undefined) this.#cursor = next;
    return next === undefined && this.#wanted === wanted ? IDLE_MS : 0;
  }
}
