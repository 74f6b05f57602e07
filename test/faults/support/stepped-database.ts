// PostgreSQL whose statements are steps of an interleaving: nothing else goes on while one runs, unless that waits for a lock.

import pg from "pg";
import { surrounded } from "../../projections/setting.ts";
import type { TestDatabase } from "../../support/postgres.ts";
import type fc from "../../support/seed.ts";
import { Interleaving, nextMacrotask } from "./interleaving.ts";

/** What is told of a statement in the order of steps. */
const SHOWN = 40;
/** What writes for others to see: its answer may come late, or be lost. */
const WRITES = /^(with moved|commit$|insert into read\.leases|update read\.leases)/;

/** A process's connections, by the name of the process. */
type Pools = ReadonlyMap<string, pg.Pool>;

export class SteppedDatabase implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly #pools: Pools;
  #running = 0;

  /** Each process connects under its name, which PostgreSQL knows as `application_name`. */
  constructor(database: TestDatabase, processes: readonly string[]) {
    this.database = database;
    this.#pools = new Map(
      processes.map((name) => {
        // No timers of its own: they would be steps.
        const pool = new pg.Pool({
          connectionString: database.url,
          application_name: name,
          max: 8,
          idleTimeoutMillis: 0,
        });
        pool.on("error", () => {}); // of a database that is being dropped
        return [name, pool];
      }),
    );
  }

  /** An interleaving that waits for statements to end before it goes on. */
  interleaving(scheduler: fc.Scheduler): Interleaving {
    return new Interleaving(scheduler, async () => {
      for (await nextMacrotask(); this.#running > 0 && this.#running > (await this.#blocked()); ) await nextMacrotask();
    });
  }

  /** The pool of a process; `lost` says of each answer to a write whether its connection is cut before it. */
  pool(name: string, interleaving: Interleaving, lost: () => boolean): pg.Pool {
    const pool = this.#pools.get(name);
    if (pool === undefined) throw new Error(`no process ${name}`);
    return surrounded(pool, async (text, query) => {
      const shown = `${name}: ${text.trim().slice(0, SHOWN)}`;
      await interleaving.step(shown);
      this.#running += 1;
      const [done] = await Promise.allSettled([query()]).finally(() => {
        this.#running -= 1;
      });
      if (WRITES.test(text)) await interleaving.step(`${shown}, answered`);
      if (done.status === "rejected") throw done.reason;
      if (WRITES.test(text) && lost()) throw new Error("the connection was cut before the answer");
      return done.value;
    });
  }

  async #blocked(): Promise<number> {
    const { rows } = await this.database.pool.query<{ waiting: number }>(
      "select count(*)::int as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return rows[0]?.waiting ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pool of this.#pools.values()) await pool.end();
    await this.database[Symbol.asyncDispose]();
  }
}
