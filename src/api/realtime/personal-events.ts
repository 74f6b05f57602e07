// Public events that are one person's alone, for its sockets: what becomes of its messages for later.
import { resourceOf } from "../../app/scheduled-messages.ts";
import type { Services } from "../../app/services.ts";
import type { ServerFrame } from "../../contract/frames.ts";
import type { Subject } from "../../contract/ids.ts";
import { JsonObjectSchema } from "../../contract/json.ts";
import type { PersonalEventType } from "../../contract/public-events.ts";
import { rfc3339 } from "../../contract/time.ts";
import { SCHEDULED_STREAMS, scheduledMessageDecider } from "../../domain/scheduled-message.ts";
import { publicEventId } from "../../event-store/derived-ids.ts";
import { decodeMetadata } from "../../event-store/envelope.ts";
import type { RecordedEvent } from "../../event-store/event-store.ts";
import { messageOf } from "../../platform/supervise.ts";
import type { LiveFeed } from "../../projections/feed.ts";
import { scheduledOf } from "../../projections/projection.ts";

const NAMES: Readonly<Record<string, PersonalEventType>> = {
  MessageScheduled: "message.scheduled",
  MessageRescheduled: "message.rescheduled",
  MessageUnscheduled: "message.unscheduled",
  MessageRefused: "message.refused",
};

type Send = (bytes: Buffer) => void;

export class PersonalEvents implements Disposable {
  readonly #services: Services;
  readonly #listeners = new Map<Subject, Set<Send>>();
  readonly #following: Disposable;
  /** Ends when what came so far was sent: frames keep the order of the log. */
  #sending: Promise<unknown> = Promise.resolve();

  constructor(services: Services, feed: LiveFeed) {
    this.#services = services;
    this.#following = feed.on((events) => {
      if (this.#listeners.size === 0) return;
      for (const event of events) {
        const name = event.stream.startsWith(SCHEDULED_STREAMS) ? NAMES[event.type] : undefined;
        if (name !== undefined) this.#sending = this.#sending.then(() => this.#send(event, name));
      }
    });
  }

  /** Sends a user's events from now on, until it is disposed. */
  listen(subject: Subject, send: Send): Disposable {
    const own = this.#listeners.get(subject) ?? new Set();
    this.#listeners.set(subject, own.add(send));
    return {
      [Symbol.dispose]: () => {
        own.delete(send);
        if (own.size === 0 && this.#listeners.get(subject) === own) this.#listeners.delete(subject);
      },
    };
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]();
    this.#listeners.clear();
  }

  async #send(event: RecordedEvent, name: PersonalEventType): Promise<void> {
    const { commands, people, positions, logger } = this.#services;
    const { stream, revision, position } = event;
    try {
      const state = await commands.loadAt(scheduledMessageDecider, stream, revision);
      const { client, at, actor } = decodeMetadata(event);
      const listeners = state.status === "none" ? undefined : this.#listeners.get(state.data.sender);
      if (state.status === "none" || listeners === undefined || client === null) return;
      const frame: ServerFrame = {
        ...{ type: "event", id: publicEventId(event.id), room_id: state.data.room, seq: null, event: name },
        ...{ at: rfc3339(at), position: positions.ofEvent(client, position), actor: await people.actor(actor) },
        data: JsonObjectSchema.parse(resourceOf(scheduledOf(stream), state)),
      };
      const bytes = Buffer.from(JSON.stringify(frame));
      for (const send of listeners) send(bytes);
    } catch (error) {
      logger.warn({ stream, error: messageOf(error) }, "event of a message for later not sent; a list still shows it");
    }
  }
}
