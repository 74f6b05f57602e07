// The backlogs of webhook endpoints: what an endpoint that is behind the fan-out has still to get, read from the log a window
// ahead of what it answers.
import { eventsAt } from "../app/audit.ts";
import { storedTypesOf } from "../app/public-events.ts";
import { SECOND_MS } from "../contract/time.ts";
import { matchesType } from "../domain/endpoint.ts";
import { decode } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { backoffMs, IDLE_MS, Loop, messageOf } from "../platform/supervise.ts";
import { isAfter } from "../projections/consumer.ts";
import { furthest, putCursors } from "../projections/endpoint-cursors.ts";
import { auditPage } from "../projections/models/audit.ts";
import { candidatesOf, type FanOutOptions, type Following, requestAll } from "./endpoint-requests.ts";
import type { EndpointRequest, Followed, Pushed } from "./endpoint-roster.ts";
import { onPool } from "./queue.ts";

/** Events of a client that are read at once. */
const PAGE = 100;
/** Endpoints whose backlogs are read at once. */
const READERS = 8;
const SHOWN_AT_ONCE = 16;
const READ_WAIT_MS = 5 * SECOND_MS;

type Page = {
  readonly waiting: readonly Pushed[];
  /** All up to here is in it. */
  readonly upTo: Position;
  readonly complete: boolean;
};

/** Reads backlogs until it is disposed. Supervised: what fails is tried again. */
export class EndpointBacklog implements AsyncDisposable {
  readonly #options: FanOutOptions;
  readonly #following: () => Following | undefined;
  /** Endpoints to look at, and when. */
  readonly #due = new Map<Followed, number>();
  readonly #running = new Set<Promise<void>>();
  readonly #failures = new WeakMap<Followed, number>();
  readonly #loop: Loop;

  constructor(options: FanOutOptions, following: () => Following | undefined) {
    this.#options = options;
    this.#following = following;
    this.#loop = new Loop({ name: "endpoint backlogs", step: async () => this.#start(), logger: options.logger });
  }

  /** Looks at an endpoint in so many ms, or when it is woken again. */
  wake(followed: Followed, inMs = 0): void {
    if (!Number.isFinite(inMs)) return;
    const at = this.#options.now() + inMs;
    this.#due.set(followed, Math.min(at, this.#due.get(followed) ?? at));
    this.#loop.wakeIn(inMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#loop[Symbol.asyncDispose]();
    await Promise.all(this.#running);
  }

  /** Starts what is due, and returns how long to rest. */
  #start(): number {
    const now = this.#options.now();
    let rest = IDLE_MS;
    for (const [followed, at] of this.#due) {
      if (at > now) {
        rest = Math.min(rest, at - now);
        continue;
      }
      // Looked at again when one has ended.
      if (followed.reading || this.#running.size >= READERS) continue;
      this.#due.delete(followed);
      const following = this.#following();
      if (following?.roster.get(followed.row.id) !== followed) continue;
      const run = this.#run(following, followed).finally(() => {
        this.#running.delete(run);
        this.#loop.wake();
      });
      this.#running.add(run);
    }
    return rest;
  }

  async #run(following: Following, followed: Followed): Promise<void> {
    followed.reading = true;
    try {
      await this.#read(following, followed);
      this.#failures.delete(followed);
    } catch (error) {
      followed.buffer = null;
      const failures = (this.#failures.get(followed) ?? 0) + 1;
      this.#failures.set(followed, failures);
      const wait = Math.round(backoffMs(failures));
      const about = { endpoint: followed.row.id, reason: messageOf(error) };
      this.#options.logger.warn(about, `endpoint backlog: not read; retrying in ${wait} ms`);
      this.wake(followed, wait);
    } finally {
      followed.reading = false;
    }
  }

  /** Reads page after page, and then lets the endpoint go with the fan-out. Ends early when its window is full. */
  async #read(following: Following, followed: Followed): Promise<void> {
    const { now } = this.#options;
    /** Since when what the fan-out found is kept: the page up to there is the last. */
    let joinedAt: Position | undefined;
    for (;;) {
      const { generation } = followed.row;
      const { cursor } = followed;
      const gone = this.#following() !== following || following.roster.get(followed.row.id) !== followed;
      if (gone || cursor === null || !followed.isActive) return;
      const wait = followed.waitFor(1, now());
      if (wait > 0) {
        followed.buffer = null;
        return this.wake(followed, wait);
      }
      if (followed.buffer === null) joinedAt = undefined;
      const page = await this.#page(followed, cursor, joinedAt ?? following.pushed);
      if (followed.row.generation !== generation) continue; // it was rewound meanwhile
      const took = await this.#take(following, followed, page);
      if (!took || !page.complete) continue;
      if (joinedAt === undefined) {
        followed.buffer = [];
        joinedAt = following.pushed;
        continue;
      }
      if (await this.#join(following, followed)) return;
    }
  }

  /** Requests what the fan-out kept meanwhile. True once nothing is left: the endpoint goes with it from then on. */
  async #join(following: Following, followed: Followed): Promise<boolean> {
    for (;;) {
      const { buffer, cursor } = followed;
      if (buffer === null || cursor === null || !followed.isActive) return false;
      const last = buffer.at(-1);
      if (last === undefined) {
        followed.cursor = null;
        followed.buffer = null;
        following.cursors.delete(followed.row.id);
        following.forgotten.add(followed.row.id);
        return true;
      }
      followed.buffer = [];
      if (!(await this.#take(following, followed, { waiting: buffer, upTo: last.at }))) {
        followed.buffer = null;
        return false;
      }
    }
  }

  /** The events after the cursor that it wants, up to a position. */
  async #page({ row }: Followed, after: Position, upTo: Position): Promise<Page> {
    const { readSide, keyring } = this.#options;
    const types = storedTypesOf((type) => matchesType(row.events, type));
    const read = () => auditPage(readSide.readAs(row.client), { types, after, limit: PAGE });
    const isBehind = isAfter(upTo, readSide.checkpoint());
    let rows = await read();
    // Rows come in the log's order: a full page lacks nothing, however far behind the read model is.
    if (isBehind && rows.length < PAGE) {
      if (!(await readSide.waitFor(upTo, READ_WAIT_MS))) throw new Error("the read model is behind");
      rows = await read();
    }
    const known = rows.filter(({ position }) => position <= upTo);
    const complete = rows.length < PAGE || known.length < rows.length;
    const events = await decode(keyring, await eventsAt(this.#options, known));
    const waiting = await mapBounded(events, SHOWN_AT_ONCE, async (event, index) => ({
      at: event.position,
      before: events[index - 1]?.position ?? after,
      candidates: await candidatesOf(this.#options, event, row.filter !== null),
    }));
    return { waiting, upTo: complete ? furthest(upTo, after) : (known.at(-1)?.position ?? after), complete };
  }

  /** Requests events in order, as many as it may take now, and moves its cursor. False: not all of them. */
  async #take(
    following: Following,
    followed: Followed,
    { waiting, upTo }: Pick<Page, "waiting" | "upTo">,
  ): Promise<boolean> {
    const { now } = this.#options;
    const { id: endpoint, generation } = followed.row;
    const requests: EndpointRequest[] = [];
    let position = upTo;
    for (const { before, candidates } of waiting) {
      const wanted = candidates.filter((candidate) => followed.wants(candidate));
      if (wanted.length === 0) continue;
      if (followed.waitFor(wanted.length, now()) > 0) {
        position = before;
        break;
      }
      requests.push(...wanted.map((one) => following.roster.request(followed, one, now())));
    }
    await requestAll(this.#options, following.roster, requests);
    if (followed.row.generation !== generation || followed.cursor === null) return false;
    followed.cursor = position;
    await putCursors(onPool(this.#options.pool), [{ endpoint, generation, position }]);
    return position === upTo;
  }
}
