// Who does the work of a group: one process at a time, by a lease in PostgreSQL on the database's own clock.
import type pg from "pg";
import { backoffMs, messageOf, pause, type WarnLogger } from "./backoff.ts";
import { failpoint } from "./failpoint.ts";
import { within } from "./postgres.ts";

/** How long a holder that says nothing keeps the lease. With a look each CHECK_MS, whoever crashes is replaced within 5 s. */
const LEASE_MS = 4_000;
const HEARTBEAT_MS = 1_000;
/** The longest until the others look again: a holder that stops gives the lease up at once. */
const CHECK_MS = 500;

/** Where leases are kept, beside what they are for. */
type LeaseTable = "read.leases" | "jobs.leases";

/** The lease as one holder has it; no longer true once another one's generation is in the table. */
export type Tenure = { readonly table: LeaseTable; readonly name: string; readonly generation: number };

/** Makes a table of leases; several processes may do so at once, under a lock of the caller's. */
export const createLeases = (table: LeaseTable): string =>
  `create table if not exists ${table} (
    name text primary key, holder text not null, generation bigint not null, expires_at timestamptz not null)`;

/** Whether a tenure holds, as a condition of SQL: what is written under it is not written when it is over. */
export const holds = ({ table, name, generation }: Tenure, add: (value: unknown) => string): string =>
  `exists (select from ${table} where name = ${add(name)} and /* fence: lease-generation */ generation = ${add(generation)} /* end */)`;

type ElectionOptions = {
  readonly pool: pg.Pool;
  readonly table: LeaseTable;
  readonly name: string;
  /** This process, for whoever looks into the table. */
  readonly holder: string;
  readonly logger: WarnLogger;
  /** There is no other process: what a crashed one left is taken without waiting, at the start. */
  readonly alone: boolean;
  /** Begins to work; disposing what it gives ends that. Called again after each loss. */
  readonly lead: (tenure: Tenure) => Promise<AsyncDisposable>;
};

type Held = { readonly tenure: Tenure; readonly work: AsyncDisposable; until: number };

/**
 * Stands for a lease until it is disposed, and gives it up then. Never throws: what goes wrong is logged and tried
 * again. That two work at once for a moment cannot be ruled out (a process may be paused between a look and a write),
 * so each write is under `holds`.
 */
export class Election implements AsyncDisposable {
  readonly #options: ElectionOptions;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  readonly #begun = Promise.withResolvers<void>();
  #held: Held | undefined;
  #force: boolean;
  #look: AbortController | undefined;
  #lastError: string | null = null;

  constructor(options: ElectionOptions) {
    this.#options = options;
    this.#force = options.alone;
    this.#running = this.#run();
  }

  /** Resolves after the first look: this process leads, or another one does. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  get leads(): boolean {
    return this.#held !== undefined;
  }

  get lastError(): string | null {
    return this.#lastError;
  }

  /** Looks at once whether the lease is still held: something came about that says it is not. */
  doubt(): void {
    this.#look?.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#look?.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { logger, name } = this.#options;
    for (let failures = 0; !signal.aborted; ) {
      let wait = HEARTBEAT_MS;
      try {
        wait = this.#held === undefined ? await this.#stand() : await this.#renew(this.#held);
        failures = 0;
        this.#lastError = null;
      } catch (error) {
        failures += 1;
        this.#lastError = messageOf(error);
        logger.warn({ lease: name, failures, err: error }, "a lease could not be had or kept");
        wait = Math.min(HEARTBEAT_MS, backoffMs(failures));
      }
      const held = this.#held;
      if (held !== undefined && performance.now() >= held.until) await this.#stop(held);
      this.#begun.resolve();
      this.#look = new AbortController();
      await pause(wait, AbortSignal.any([signal, this.#look.signal]));
    }
    const held = this.#held;
    if (held !== undefined) {
      await this.#stop(held);
      await this.#giveUp(held.tenure).catch(() => undefined); // it runs out by itself
    }
  }

  /** Takes the lease when it is free; says when to look again. */
  async #stand(): Promise<number> {
    const { pool, table, name, holder, lead } = this.#options;
    const until = performance.now() + LEASE_MS;
    const free = `(${table}.expires_at <= clock_timestamp() or $4)`;
    const text = `insert into ${table} (name, holder, generation, expires_at)
      values ($1, $2, 1, clock_timestamp() + $3 * interval '1 ms')
      on conflict (name) do update
        set holder = excluded.holder, generation = ${table}.generation + 1, expires_at = excluded.expires_at
        where /* fence: lease-free */ ${free} /* end */ returning generation`;
    const { rows } = await pool.query<{ generation: string }>(text, [name, holder, LEASE_MS, this.#force]);
    this.#force = false;
    if (rows[0] === undefined) return this.#untilFree();
    const tenure = { table, name, generation: Number(rows[0].generation) };
    failpoint("lease/lead");
    try {
      this.#held = { tenure, work: await lead(tenure), until };
    } catch (error) {
      await this.#giveUp(tenure);
      throw error;
    }
    return HEARTBEAT_MS;
  }

  async #untilFree(): Promise<number> {
    const { pool, table, name } = this.#options;
    const { rows } = await pool.query<{ ms: number }>(
      `select extract(epoch from expires_at - clock_timestamp())::float8 * 1000 as ms from ${table} where name = $1`,
      [name],
    );
    return Math.min(CHECK_MS, Math.max(10, Math.ceil(rows[0]?.ms ?? 0)));
  }

  async #renew(held: Held): Promise<number> {
    const { pool, table, name } = this.#options;
    const until = performance.now() + LEASE_MS;
    const query = pool.query(
      `update ${table} set expires_at = clock_timestamp() + $3 * interval '1 ms' where name = $1 and generation = $2`,
      [name, held.tenure.generation, LEASE_MS],
    );
    // A database that does not answer must not keep the holder from noticing that its time is over.
    const left = Math.max(0, held.until - performance.now());
    const { rowCount } = await within(left, query, "the database did not answer in time");
    held.until = rowCount === 1 ? until : 0;
    return rowCount === 1 ? HEARTBEAT_MS : 0;
  }

  async #stop(held: Held): Promise<void> {
    this.#held = undefined;
    if (!this.#closing.signal.aborted) this.#options.logger.warn({ lease: held.tenure.name }, "a lease was lost");
    try {
      await held.work[Symbol.asyncDispose]();
    } catch (error) {
      this.#options.logger.warn({ err: error }, "work under a lease did not end well");
    }
  }

  async #giveUp({ name, generation }: Tenure): Promise<void> {
    const { pool, table } = this.#options;
    const text = `update ${table} set expires_at = clock_timestamp() where name = $1 and generation = $2`;
    await pool.query(text, [name, generation]);
  }
}
