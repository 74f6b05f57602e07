// What is one person's alone, for its sockets: the counts of its inbox, read together, and seldom; and what becomes of its
// messages for later.

import { concernsAlone, personalEvent } from "../../app/scheduled-messages.ts";
import type { Services } from "../../app/services.ts";
import type { ServerFrame } from "../../contract/frames.ts";
import type { ClientId, Subject } from "../../contract/ids.ts";
import { DELIVERY_STREAMS } from "../../domain/delivery-state.ts";
import { INBOX_STREAMS } from "../../domain/inbox.ts";
import { decodeRaw } from "../../event-store/envelope.ts";
import type { Position, RecordedEvent } from "../../event-store/event-store.ts";
import { IDLE_MS, Loop, messageOf } from "../../platform/supervise.ts";
import { KeyedListeners, type LiveFeed } from "../../projections/feed.ts";
import { countInboxes } from "../../projections/models/inbox-list.ts";
import { subjectOf } from "../../projections/projection.ts";
import { eventFrame } from "./frames.ts";

/** Changes within this time are counted together: a node reads counts no more than five times a second. */
const LINGER_MS = 200;
/** Users whose counts are read at once. */
const PAGE = 100;
/** How long the read model is waited for before a warning says that it lags. */
const READ_MODEL_WAIT_MS = 5_000;

/** Types of a delivery's events that change its user's counts. */
const COUNTED: ReadonlySet<string> = new Set([
  "DeliveryRequested",
  "DeliveryMarked",
  "DeliveryCancelled",
  "DeliverySuppressed",
]);

type User = {
  readonly client: ClientId;
  readonly sockets: Set<(payload: Buffer) => void>;
  /** The counts that were sent last, as JSON. */
  sent: string;
};

/** Sends `inbox_counts` to the sockets of the users who are connected to this node. */
export class InboxCountsFeed implements AsyncDisposable {
  readonly #services: Services;
  readonly #users = new Map<Subject, User>();
  /** Whose counts changed; connected users alone, so there are no more than these. */
  readonly #changed = new Set<Subject>();
  readonly #following: Disposable;
  readonly #loop: Loop;
  /** The read model must have come as far. */
  #wanted: Position | undefined;

  constructor(services: Services, feed: LiveFeed) {
    this.#services = services;
    this.#following = feed.on((events) => {
      if (this.#users.size > 0) for (const event of events) this.#note(event);
    });
    const { logger } = services;
    this.#loop = new Loop({ name: "inbox counts", step: () => this.#send(), lingerMs: LINGER_MS, logger });
  }

  /** Sends to one socket of a user, from now on until it is disposed. */
  listen(client: ClientId, subject: Subject, send: (payload: Buffer) => void): Disposable {
    const user = this.#users.get(subject) ?? { client, sockets: new Set(), sent: "" };
    this.#users.set(subject, user);
    user.sockets.add(send);
    return {
      [Symbol.dispose]: () => {
        user.sockets.delete(send);
        if (user.sockets.size > 0 || this.#users.get(subject) !== user) return;
        this.#users.delete(subject);
        this.#changed.delete(subject);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]();
    await this.#loop[Symbol.asyncDispose]();
    this.#users.clear();
  }

  #note(event: RecordedEvent): void {
    const subject = this.#subjectOf(event);
    if (subject === undefined || !this.#users.has(subject)) return;
    this.#changed.add(subject);
    this.#wanted = event.position;
    this.#loop.wake();
  }

  /** Whose counts an event changes. Of other channels' deliveries it is an address's, which nobody is connected as. */
  #subjectOf(event: RecordedEvent): Subject | undefined {
    if (event.stream.startsWith(INBOX_STREAMS)) return subjectOf(event.stream);
    if (!COUNTED.has(event.type) || !event.stream.startsWith(DELIVERY_STREAMS)) return undefined;
    return decodeRaw(event).recipient as Subject;
  }

  /** Reads the counts of those that changed, a client at a time, and sends what differs from what was sent last. */
  async #send(): Promise<number> {
    const { readSide } = this.#services;
    const [first] = this.#changed;
    const client = first === undefined ? undefined : this.#users.get(first)?.client;
    if (client === undefined || this.#wanted === undefined) return IDLE_MS;
    const subjects = [...this.#changed].filter((one) => this.#users.get(one)?.client === client).slice(0, PAGE);
    if (!(await readSide.waitFor(this.#wanted, READ_MODEL_WAIT_MS))) throw new Error("the read model lags");
    // What changes while they are read is counted again.
    for (const subject of subjects) this.#changed.delete(subject);
    const counts = await countInboxes(readSide.readAs(client), subjects).catch((error: unknown) => {
      for (const subject of subjects) if (this.#users.has(subject)) this.#changed.add(subject);
      throw error;
    });
    for (const { subject, unread_count, unseen_count } of counts) {
      const user = this.#users.get(subject);
      const frame: ServerFrame = { type: "inbox_counts", unread_count, unseen_count };
      const text = JSON.stringify(frame);
      if (user === undefined || user.sent === text) continue;
      user.sent = text;
      const payload = Buffer.from(text);
      for (const send of user.sockets) send(payload);
    }
    return this.#changed.size > 0 ? 0 : IDLE_MS;
  }
}

// What becomes of a person's messages for later.

type Send = (bytes: Buffer, position: Position) => void;

export class PersonalEvents implements Disposable {
  readonly #services: Services;
  readonly #listeners = new KeyedListeners<Subject, Send>();
  readonly #following: Disposable;
  /** Ends when what came so far was sent: frames keep the order of the log. */
  #sending: Promise<unknown> = Promise.resolve();

  constructor(services: Services, feed: LiveFeed) {
    this.#services = services;
    this.#following = feed.on((events) => {
      if (this.#listeners.size === 0) return;
      for (const event of events) {
        const subject = concernsAlone(event);
        if (subject !== undefined && this.#listeners.of(subject) !== undefined)
          this.#sending = this.#sending.then(() => this.#send(event, subject));
      }
    });
  }

  /** Sends a user's events from now on, until it is disposed. */
  listen(subject: Subject, send: Send): Disposable {
    return this.#listeners.add(subject, send);
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
    this.#listeners.clear();
  }

  async #send(recorded: RecordedEvent, subject: Subject): Promise<void> {
    const { stream, position } = recorded;
    try {
      const event = await personalEvent(this.#services, recorded);
      if (event === undefined) return;
      const bytes = eventFrame(event);
      for (const send of this.#listeners.of(subject) ?? []) send(bytes, position);
    } catch (error) {
      const { logger } = this.#services;
      logger.warn({ stream, error: messageOf(error) }, "event of a message for later not sent; a list still shows it");
    }
  }
}
