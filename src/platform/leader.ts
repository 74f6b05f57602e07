// Leader election among processes: a lease in PostgreSQL on the database's own clock, one holder at a time.
import { hostname } from "node:os";
import type pg from "pg";
import { failpoint } from "./failpoint.ts";
import { NO_ANSWER, within } from "./postgres.ts";
import { Loop, type WarnLogger } from "./supervise.ts";

/**
 * How long a holder that does not renew keeps the lease, and how often it renews, with one more try before it is over. With a
 * look each CHECK_MS, a crashed one is replaced within 5 s.
 */
const SHARED = { leaseMs: 4_000, heartbeatMs: 1_500 };
/** Where nobody competes: the next start takes the lease, however long it is. */
const ALONE = { leaseMs: 30_000, heartbeatMs: 10_000 };
const MAX_BACKOFF_MS = 1_000;
/** The longest until the others look again: a holder that stops gives the lease up at once. */
const CHECK_MS = 500;

/** A table of leases, with its schema. */
type LeaseTable = `${string}.leases`;

/** One holder's time with a lease; over once a later generation is in the table. */
export type LeaseTerm = { readonly table: LeaseTable; readonly name: string; readonly generation: number };

/** Makes a table of leases; several processes may do so at once, under a lock of the caller's. */
export const createLeases = (table: LeaseTable): string =>
  `create table if not exists ${table} (
    name text primary key, holder text not null, generation bigint not null, expires_at timestamptz not null)`;

/** A condition of SQL: the term is not over. A write under it writes nothing when it is. */
export const holds = ({ table, name, generation }: LeaseTerm, add: (value: unknown) => string): string =>
  `exists (select from ${table} where name = ${add(name)} and /* fence: lease-generation */ generation = ${add(generation)} /* end */)`;

/** What processes compete for: those that give the same table and name. */
export type Lease = {
  readonly pool: pg.Pool;
  readonly table: LeaseTable;
  readonly name: string;
  /** No other process works on this database: a crashed one's lease is taken without waiting, at the start. */
  readonly alone: boolean;
};

type LeaderOptions = Lease & {
  readonly logger: WarnLogger;
  /** Begins the work; disposing what it returns ends it. Called again after each loss. */
  readonly lead: (term: LeaseTerm) => Promise<AsyncDisposable>;
};

type Held = { readonly term: LeaseTerm; readonly work: AsyncDisposable; until: number };

/**
 * Competes for a lease until it is disposed, and then gives it up. Never throws: what fails is logged and tried again.
 * Two may work at once for a moment (a process may be paused between a look and a write), so each write is under `holds`.
 */
export class Leader implements AsyncDisposable {
  readonly #options: LeaderOptions;
  readonly #times: { readonly leaseMs: number; readonly heartbeatMs: number };
  readonly #loop: Loop;
  #held: Held | undefined;
  #force: boolean;
  #closing = false;

  constructor(options: LeaderOptions) {
    const { name, logger } = options;
    this.#options = options;
    this.#force = options.alone;
    this.#times = options.alone ? ALONE : SHARED;
    this.#loop = new Loop({ name: `lease ${name}`, step: () => this.#look(), maxBackoffMs: MAX_BACKOFF_MS, logger });
  }

  /** Resolves after the first look: this process leads, or another one does. */
  get decided(): Promise<void> {
    return this.#loop.begun;
  }

  get leads(): boolean {
    return this.#held !== undefined;
  }

  get lastError(): string | null {
    return this.#loop.status().lastError;
  }

  /** Renews now instead of at the next heartbeat: something happened that says that the lease is lost. */
  renewNow(): void {
    this.#loop.wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    await this.#loop[Symbol.asyncDispose]();
    const held = this.#held;
    if (held === undefined) return;
    await this.#stop(held);
    await this.#release(held.term).catch(() => undefined); // it expires by itself
  }

  /** Acquires or renews; returns when to look again, in milliseconds. */
  async #look(): Promise<number> {
    try {
      return this.#held === undefined ? await this.#acquire() : await this.#renew(this.#held);
    } finally {
      const held = this.#held;
      if (held !== undefined && performance.now() >= held.until) await this.#stop(held);
    }
  }

  async #acquire(): Promise<number> {
    const { pool, table, name, lead } = this.#options;
    const { leaseMs, heartbeatMs } = this.#times;
    const until = performance.now() + leaseMs;
    const free = `(${table}.expires_at <= clock_timestamp() or $4)`;
    const text = `insert into ${table} (name, holder, generation, expires_at)
      values ($1, $2, 1, clock_timestamp() + $3 * interval '1 ms')
      on conflict (name) do update
        set holder = excluded.holder, generation = ${table}.generation + 1, expires_at = excluded.expires_at
        where /* fence: lease-free */ ${free} /* end */ returning generation`;
    const holder = `${hostname()}:${process.pid}`; // for whoever reads the table
    const { rows } = await pool.query<{ generation: string }>(text, [name, holder, leaseMs, this.#force]);
    this.#force = false;
    if (rows[0] === undefined) return this.#untilFree();
    const term = { table, name, generation: Number(rows[0].generation) };
    failpoint("lease/lead");
    try {
      this.#held = { term, work: await lead(term), until };
    } catch (error) {
      await this.#release(term);
      throw error;
    }
    return heartbeatMs;
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
    const { leaseMs, heartbeatMs } = this.#times;
    const until = performance.now() + leaseMs;
    const query = pool.query(
      `update ${table} set expires_at = clock_timestamp() + $3 * interval '1 ms' where name = $1 and generation = $2`,
      [name, held.term.generation, leaseMs],
    );
    // A database that does not answer must not keep the holder from noticing that its term is over.
    const left = Math.max(0, held.until - performance.now());
    const { rowCount } = await within(left, query, NO_ANSWER);
    held.until = rowCount === 1 ? until : 0;
    return rowCount === 1 ? heartbeatMs : 0;
  }

  async #stop(held: Held): Promise<void> {
    const { logger } = this.#options;
    const lease = held.term.name;
    this.#held = undefined;
    if (!this.#closing) logger.warn({ lease }, "lease lost; stopping its work and competing for it again");
    try {
      await held.work[Symbol.asyncDispose]();
    } catch (error) {
      logger.warn({ lease, err: error }, "work under a lease did not end in order");
    }
  }

  async #release({ name, generation }: LeaseTerm): Promise<void> {
    const { pool, table } = this.#options;
    const text = `update ${table} set expires_at = clock_timestamp() where name = $1 and generation = $2`;
    await pool.query(text, [name, generation]);
  }
}
