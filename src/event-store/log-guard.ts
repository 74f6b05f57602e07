// Watches that the stores of a running node stay the ones that it opened: the same log, not shorter, with the keys of its events.
import { hasCode, UNDEFINED_TABLE, within } from "../platform/postgres.ts";
import { Loop, messageOf, type WarnLogger } from "../platform/supervise.ts";
import {
  type Batch,
  type EventStore,
  LOG_STREAM,
  logIdOf,
  OutcomeUnknown,
  type Position,
  type RecordedEvent,
  StoreUnavailable,
} from "./event-store.ts";

/** How often the stores are compared with what this node has seen. */
const CHECK_MS = 2_000;
/** The same while the log cannot be reached. */
const RETRY_MS = 250;
/** After so long without an answer the log counts as away. */
const ANSWER_MS = 2_000;
/** How long an append waits for the log to be recognised again; then it counts as sent without an answer. */
const APPEND_WAIT_MS = 5_000;
/** How long the log may be away before the node says that it is not ready. */
const AWAY_MS = 4_000;

type LogGuardOptions = {
  /** The log itself, past every check. */
  readonly log: EventStore;
  /** Whether the database still has the key that belongs to the log. Throws when it cannot be asked. */
  readonly hasKeys: () => Promise<boolean>;
  readonly logger: WarnLogger & { error(fields: object, message: string): void };
};

/** An event that this node has seen in the log: it must stay there. */
type SeenEvent = Pick<RecordedEvent, "id" | "stream" | "revision" | "position">;

/** `away`: it could not be reached since. `differs`: these are other stores, or older copies of them. */
type GuardState = "verified" | "away" | "differs";

type LogGuardStatus = {
  readonly state: GuardState;
  /** What is wrong, and what to do. */
  readonly problem: string | null;
};

const ADVICE = 'Stop all nodes and put the right stores back, or read "Restoring" in docs/operations.md.';
const PROBLEMS = {
  emptied: `the log is empty, and was not. ${ADVICE}`,
  replaced: `the log is another one than this node opened: check EVENTSTORE_URL and EVENTSTORE_STREAM_PREFIX. ${ADVICE}`,
  shorter: `the log lacks events that this node has seen: it was put back from an older copy. ${ADVICE}`,
  keys: `the database lacks the data keys of this log: check DATABASE_URL, or restore the schema keys. ${ADVICE}`,
} as const;

/**
 * Looks after a log while a node runs. From the moment on in which the stores differ from what this node has seen, and while
 * the log has not been recognised after it was away, nothing is appended and no subscriber is handed an event. When the
 * right stores are back, all goes on from where it was. Reads are passed through.
 */
export class LogGuard implements AsyncDisposable {
  readonly #options: LogGuardOptions;
  readonly #loop: Loop;
  #state: GuardState = "verified";
  #problem: string | null = null;
  #verifiedAt = performance.now();
  #seen: SeenEvent | undefined;
  #tail: Position | undefined;
  #recognised = Promise.withResolvers<void>();
  /** Grows each time that the log may have become another one: what was verified before says nothing any more. */
  #suspicions = 0;

  constructor(options: LogGuardOptions) {
    this.#options = options;
    this.#loop = new Loop({ name: "log guard", step: () => this.#step(), logger: options.logger });
  }

  /** `ok` is false when the stores differ, and when the log has been away for some seconds: a busy moment is none. */
  status(): { readonly ok: boolean; readonly detail: LogGuardStatus } {
    const isAway = this.#state === "away" && performance.now() > this.#verifiedAt + AWAY_MS;
    return { ok: this.#state !== "differs" && !isAway, detail: { state: this.#state, problem: this.#problem } };
  }

  /** Whether the log has to be recognised, or is not the right one: what is in memory is the newest that is known. */
  isAway(): boolean {
    return this.#state !== "verified";
  }

  /** The guarded log. `store` gives the events that subscribers get. */
  guarded(store: EventStore): EventStore {
    return {
      ...store,
      append: async (stream, expected, events) => {
        // fence: guarded-append
        await this.#untilRecognised();
        try {
          const appended = await store.append(stream, expected, events);
          const last = events.at(-1);
          if (last !== undefined) this.#see({ ...last, ...appended, stream });
          return appended;
        } catch (error) {
          if (error instanceof OutcomeUnknown) this.#suspect(error);
          throw error;
        }
      },
      readStream: async (stream, read) => {
        try {
          return await store.readStream(stream, read);
        } catch (error) {
          if (error instanceof StoreUnavailable) this.#suspect(error);
          throw error;
        }
      },
      subscribe: (options) =>
        store.subscribe({
          ...options,
          handle: async (batch) => {
            await this.#admit(batch);
            await options.handle(batch);
          },
        }),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop[Symbol.asyncDispose]();
    this.#recognised.resolve();
  }

  /** Throws when nothing may be appended now. */
  async #untilRecognised(): Promise<void> {
    if (this.#state === "away") await within(APPEND_WAIT_MS, this.#recognised.promise, "").catch(() => undefined);
    if (this.#state === "differs") throw new StoreUnavailable(this.#problem ?? PROBLEMS.replaced);
    if (this.#state === "away") throw new OutcomeUnknown("the log is away; this append was not sent");
  }

  /** Throws when subscribers may not be handed events now. Forged ones may be another log's: then it is looked at first. */
  async #admit({ events }: Batch): Promise<void> {
    if (events.some(({ type }) => type === "EventForged")) await this.#verify();
    // fence: guarded-subscribers
    if (this.#state === "differs") throw new StoreUnavailable(this.#problem ?? PROBLEMS.replaced);
    const last = events.findLast(({ type }) => type !== "EventForged");
    if (last !== undefined) this.#see(last);
  }

  #see(event: SeenEvent): void {
    const { id, stream, revision, position } = event;
    if (this.#seen === undefined || position > this.#seen.position) this.#seen = { id, stream, revision, position };
  }

  /** The log may have been another one since it answered last: it must be recognised first. */
  #suspect(error: unknown): void {
    this.#suspicions += 1;
    if (this.#state !== "verified") return;
    this.#state = "away";
    this.#problem = messageOf(error);
    this.#recognised = Promise.withResolvers<void>();
    this.#loop.wake();
  }

  async #step(): Promise<number> {
    try {
      await this.#verify();
    } catch (error) {
      this.#suspect(error);
    }
    return this.#state === "away" ? RETRY_MS : CHECK_MS;
  }

  /** Throws when the log cannot be reached. */
  async #verify(): Promise<void> {
    const { logger } = this.#options;
    const before = this.#suspicions;
    const problem = await within(ANSWER_MS, this.#problemNow(), "the log did not answer in time");
    if (problem === undefined) {
      // fence: guard-suspicions
      if (this.#suspicions !== before) return this.#loop.wake();
      if (this.#state === "differs") logger.warn({}, "the stores are the right ones again; going on");
      this.#state = "verified";
      this.#problem = null;
      this.#verifiedAt = performance.now();
      this.#recognised.resolve();
      return;
    }
    if (this.#problem !== problem)
      logger.error({}, `stores differ: ${problem} Until then nothing is appended or sent.`);
    this.#state = "differs";
    this.#problem = problem;
    this.#recognised.resolve();
  }

  async #problemNow(): Promise<string | undefined> {
    const { log } = this.#options;
    const seen = this.#seen;
    const end = seen === undefined || (this.#tail ?? "") > seen.position ? this.#tail : seen.position;
    const again = async () =>
      seen === undefined ? [] : log.readStream(seen.stream, { from: seen.revision, limit: 1 });
    // Together: the log reads them in one query.
    const [[first], [same]] = await Promise.all([log.readStream(LOG_STREAM, { limit: 1 }), again()]).catch(
      (error: unknown) => {
        if (isTableMissing(error)) return [[], []];
        throw error;
      },
    );
    if (first === undefined) return PROBLEMS.emptied;
    // fence: guard-log-id
    if (logIdOf(first) !== log.logId) return PROBLEMS.replaced;
    const tail = await log.tail();
    // fence: guard-log-end
    if (same?.id !== seen?.id || (end !== undefined && tail < end)) return PROBLEMS.shorter;
    if (tail > (this.#tail ?? "")) this.#tail = tail;
    return (await this.#hasKeys()) ? undefined : PROBLEMS.keys;
  }

  /** A database that is away says nothing of its keys; one without their table has none. */
  async #hasKeys(): Promise<boolean> {
    try {
      return await this.#options.hasKeys();
    } catch (error) {
      return !isTableMissing(error);
    }
  }
}

const isTableMissing = (error: unknown): boolean =>
  error instanceof Error && (hasCode(error, UNDEFINED_TABLE) || isTableMissing(error.cause));
