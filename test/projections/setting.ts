// A read side for tests: real PostgreSQL, a log in memory, and everything closed at the end.
import type pg from "pg";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import type { ProjectionDependencies } from "../../src/projections/projector.ts";
import { openReadSide, type ReadSide } from "../../src/projections/read-side.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { type Writer, writerTo } from "./log.ts";

export type Setting = AsyncDisposable & {
  readonly database: TestDatabase;
  readonly parts: ProjectionDependencies;
  readonly store: EventStore;
  readonly write: Writer;
  readonly warnings: string[];
  /** Opens and starts one more read side on the same log and database. */
  open(): Promise<ReadSide>;
};

/** The log is in memory: its positions count from 1, the first event is the log's own. */
export async function setting(): Promise<Setting> {
  await using open = new AsyncDisposableStack();
  const database = open.use(await testDatabase());
  const store = open.use(await openInMemoryLog());
  const keyring = memoryKeyring();
  const warnings: string[] = [];
  const logger = { warn: (fields: object, message: string) => warnings.push(`${message} ${JSON.stringify(fields)}`) };
  const parts = { pool: database.pool, store, keyring, logger, projections: storedProjections };
  const moved = open.move();
  return {
    ...{ database, parts, store, warnings },
    write: writerTo(store, keyring),
    async open() {
      const readSide = moved.use(await openReadSide(parts));
      await readSide.start();
      return readSide;
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** Waits until something holds; fails after ten seconds. */

/** How a statement is run, and what becomes of its result. */
type Surround = <T>(text: string, query: () => Promise<T>) => Promise<T>;

/** The same pool, but each statement is run by `surround`, on connections that are taken from it, too. */
export function surrounded(pool: pg.Pool, surround: Surround): pg.Pool {
  const by = <P extends object>(target: P): P =>
    new Proxy(target, {
      get(_, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        if (name === "connect") return async () => by(await value.call(target));
        if (name !== "query") return value.bind(target);
        return (...query: unknown[]) => {
          const text = textOf(query[0]);
          return text === undefined ? value.call(target, ...query) : surround(text, () => value.call(target, ...query));
        };
      },
    });
  return by(pool);
}

/** Undefined for what answers as it likes: a COPY is a stream. */
function textOf(query: unknown): string | undefined {
  if (typeof query === "string") return query;
  if (typeof query !== "object" || query === null || "submit" in query) return undefined;
  return "text" in query && typeof query.text === "string" ? query.text : undefined;
}

/** The same pool, but each statement waits for `before` first, and its answer for `after`. */
export const pausing = (
  pool: pg.Pool,
  before: (text: string) => Promise<void>,
  after: (text: string) => Promise<void> = async () => {},
): pg.Pool =>
  surrounded(pool, async (text, query) => {
    await before(text);
    const result = await query();
    await after(text);
    return result;
  });
