// Public events that are one person's alone, for its sockets: what becomes of its messages for later.
import { concernsAlone, personalEvent } from "../../app/scheduled-messages.ts";
import type { Services } from "../../app/services.ts";
import type { Subject } from "../../contract/ids.ts";
import type { Position, RecordedEvent } from "../../event-store/event-store.ts";
import { messageOf } from "../../platform/supervise.ts";
import { KeyedListeners, type LiveFeed } from "../../projections/feed.ts";
import { eventFrame } from "./frames.ts";

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
