// A read side for tests: real PostgreSQL, a log in memory, and everything closed at the end.
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { openInMemoryLog } from "../../src/event-store/in-memory.ts";
import { openReadSide, type ReadSide } from "../../src/projections/read-side.ts";
import type { RunnerParts } from "../../src/projections/runner.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { type Writer, writerTo } from "./log.ts";

export type Setting = AsyncDisposable & {
  readonly database: TestDatabase;
  readonly parts: RunnerParts;
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
  const parts = { pool: database.pool, store, keyring, logger };
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
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1_000; tries += 1) {
    if (await holds()) return;
    await sleep(10);
  }
  throw new Error("waited in vain");
}

/** The same pool, but each query waits for `before` first, and its answer for `after`. */
export function pausing(
  pool: pg.Pool,
  before: (text: string) => Promise<void>,
  after: (text: string) => Promise<void> = async () => {},
): pg.Pool {
  return new Proxy(pool, {
    get(target, name) {
      if (name !== "query") return Reflect.get(target, name, target);
      return async (query: string | { text: string }, values?: unknown[]) => {
        const text = typeof query === "string" ? query : query.text;
        await before(text);
        const result = await target.query(query as string, values);
        await after(text);
        return result;
      };
    },
  });
}
