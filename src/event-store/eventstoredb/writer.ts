// Appends, with what the client's fast path lacks: bounds, groups, a deadline, and a new client for one that no longer answers.

import { setTimeout as sleep } from "node:timers/promises";
import {
  type AppendResult,
  type EventData,
  type EventStoreDBClient,
  NO_STREAM as NO_SUCH_STREAM,
} from "@eventstore/db-client";
import { failpoint } from "../../platform/failpoint.ts";
import type { WarnLogger } from "../../platform/supervise.ts";
import {
  type Appended,
  checkAppend,
  type NewEvent,
  NO_STREAM,
  OutcomeUnknown,
  type Position,
  positionOf,
  StoreUnavailable,
  WrongExpectedRevision,
} from "../event-store.ts";
import { AppendGate, AppendGroups } from "./append-gate.ts";
import type { Reader } from "./reader.ts";
import {
  appendError,
  isNotLeader,
  isRefusal,
  isServersTimeout,
  type LogNames,
  RETRY_MS,
  toEventData,
  type WrittenEvents,
} from "./records.ts";

/**
 * One for the process, because the client keeps what all its instances await in one table: the end of one rejects
 * what another has under way, and the late reply to that leaves the other deaf for good.
 */
const appendGate = new AppendGate();

/** An append that was never answered gives its place back after so long after its time: the client forgets some for good. */
const FORGOTTEN_MS = 30_000;
/** How often a client that has gone deaf is replaced at most. */
const REPLACE_EVERY_MS = 30_000;
/** What an event costs on the wire beside its bytes. */
const EVENT_OVERHEAD_BYTES = 128;
/** How long the end of a client waits for the appends of other logs in this process. */
const OTHERS_MS = 2_000;

type WriterOptions = {
  /** Makes the writer's own client, which it ends. */
  readonly connect: () => EventStoreDBClient;
  readonly names: LogNames;
  readonly timeoutMs: number;
  /** Works on another client, so that ending the writer's ends no read. */
  readonly reader: Reader;
  /** Told of what is sent. */
  readonly written: WrittenEvents;
  readonly logger: WarnLogger | undefined;
};

export class Writer {
  readonly #options: WriterOptions;
  readonly #groups = new AppendGroups();
  #client: EventStoreDBClient;
  #closed = false;
  #underWay = 0;
  #idle: () => void = () => {};
  /** When the server last answered an append, and when the client was last replaced. */
  #answeredAt = 0;
  #replacedAt = Number.NEGATIVE_INFINITY;
  #checking = false;

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#client = options.connect();
  }

  /** Throws what the port says; StoreUnavailable once closed. */
  async append(stream: string, expected: number, events: readonly NewEvent[]): Promise<Appended> {
    if (this.#closed) throw new StoreUnavailable("the log is closed");
    const bytes = checkAppend(stream, expected, events) + events.length * EVENT_OVERHEAD_BYTES;
    this.#underWay += 1;
    const deadline = performance.now() + this.#options.timeoutMs;
    let sentAt: number | undefined;
    try {
      if (!(await appendGate.enter(bytes, this.#options.timeoutMs))) {
        throw new OutcomeUnknown("too many appends wait; this one was not sent");
      }
      const sent = this.#groups.send(() => {
        sentAt = performance.now();
        this.#options.written.add(events);
        const sending = this.#send(stream, expected, events.map(toEventData), deadline);
        failpoint("append-sent/answered");
        return sending;
      });
      const result = await answered(sent, bytes, deadline);
      this.#answeredAt = performance.now();
      if (!result.success) throw new WrongExpectedRevision(stream, expected, await this.#lastRevision(stream));
      return { revision: Number(result.nextExpectedRevision), position: await this.#position(stream, result) };
    } catch (error) {
      if (isRefusal(error)) this.#answeredAt = performance.now();
      else if (sentAt !== undefined) void this.#check(sentAt);
      throw appendError(error, stream, expected, bytes);
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#idle();
    }
  }

  /** Takes nothing more, waits for what is under way (each append within its own time), and ends the client. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await appendGate.alone(OTHERS_MS, () => this.#client.dispose());
  }

  /** A server that gives up waiting for its own commit (as for an append that it is just writing) is asked again. */
  async #send(stream: string, expected: number, events: EventData[], deadline: number): Promise<AppendResult> {
    // fence: eventstoredb-expected-revision
    const expectedRevision = expected === NO_STREAM ? NO_SUCH_STREAM : BigInt(expected);
    const options = { expectedRevision, requiresLeader: true } as const;
    for (;;) {
      try {
        return await this.#client.appendToStream(this.#options.names.prefix + stream, events, options);
      } catch (error) {
        const again = isServersTimeout(error) || isNotLeader(error);
        if (!again || performance.now() >= deadline) throw error;
        await sleep(RETRY_MS);
      }
    }
  }

  /** Should the server not say where the last event is, the event itself does. */
  async #position(stream: string, { position, nextExpectedRevision }: AppendResult): Promise<Position> {
    if (position !== undefined) return positionOf(this.#options.names.logId, position.commit);
    const [event] = await this.#options.reader.stream(stream, { from: Number(nextExpectedRevision), limit: 1 });
    if (event === undefined) throw new OutcomeUnknown("the append was answered, but its event cannot be read");
    return event.position;
  }

  /** Only for a connection string with `throwOnAppendFailure=false`, whose refusals name a wrong revision. */
  async #lastRevision(stream: string): Promise<number> {
    const [last] = await this.#options.reader.stream(stream, { direction: "backward", limit: 1 });
    return last?.revision ?? NO_STREAM;
  }

  /**
   * A late reply, or a cluster that could not be found once, leaves the client so that it never appends again. When the
   * server answers reads, but no append since `sentAt`, the client is replaced.
   */
  async #check(sentAt: number): Promise<void> {
    if (this.#checking || this.#closed || performance.now() < this.#replacedAt + REPLACE_EVERY_MS) return;
    this.#checking = true;
    try {
      await this.#options.reader.ping();
      if (this.#answeredAt >= sentAt) return;
      this.#options.logger?.warn({}, "appends are not answered, though the server is there: connecting anew");
      this.#replacedAt = performance.now();
      await appendGate.alone(OTHERS_MS, async () => {
        await this.#client.dispose();
        if (!this.#closed) this.#client = this.#options.connect();
      });
    } catch {
      // Not there: the client finds it again by itself.
    } finally {
      this.#checking = false;
    }
  }
}

/** The answer, or OutcomeUnknown when the time is up; the place is given back with the answer, or with the hope of one. */
function answered(sent: Promise<AppendResult>, bytes: number, deadline: number): Promise<AppendResult> {
  return new Promise((resolve, reject) => {
    let inside = true;
    const leave = () => {
      clearTimeout(timer);
      if (inside) appendGate.leave(bytes);
      inside = false;
    };
    const late = () => {
      timer = setTimeout(leave, FORGOTTEN_MS).unref();
      reject(new OutcomeUnknown("no answer in time"));
    };
    let timer = setTimeout(late, Math.max(0, deadline - performance.now()));
    sent.then(
      (result) => {
        leave();
        resolve(result);
      },
      (error: unknown) => {
        leave();
        reject(error);
      },
    );
  });
}
