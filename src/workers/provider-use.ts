// How the workers of all processes share a provider: its rate, its failures in a row, and the one probe of an open circuit.
import { LRUCache } from "lru-cache";
import type pg from "pg";
import type { ClientId } from "../contract/ids.ts";
import { SECOND_MS } from "../contract/time.ts";
import { maxEntries } from "../platform/bounded.ts";

/** Our own table in the schema `jobs`. What it holds may be lost: then all begins anew. */
export const createProviderUse = `create table if not exists jobs.provider_use (
  client text not null, provider text not null,
  next_send_at timestamptz, failures integer not null default 0, failed_at timestamptz, probe_until timestamptz,
  primary key (client, provider))`;

/** How much of a provider's time a process takes at once, so that a high rate does not cost a statement a mail. */
const BLOCK_MS = 50;
/** Max providers whose last success and block of time are remembered; of more, those used longest ago are forgotten. */
const MAX_KNOWN = 10_000;

type Used = {
  succeededAt: number | null;
  /** Slots in the provider's rate that this process has taken and not used, from a moment on, so far apart. */
  block: { at: number; left: number };
};

/** A probe that was taken. Nobody else probes until it ends, or its time is up. */
export type Probe = { readonly token: string };

/** Times are PostgreSQL's: processes whose clocks differ share one. */
export class ProviderUse {
  readonly #pool: pg.Pool;
  readonly #used = new LRUCache<string, Used>(maxEntries(MAX_KNOWN));

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  /**
   * How long to wait until a mail may go to a provider, in ms. Its slot is taken when that is at most `maxWaitMs`. The
   * mails of all processes are spaced evenly, but for as many as fit into 50 ms.
   */
  async takeSlot(client: ClientId, provider: string, perSecond: number, maxWaitMs: number): Promise<number> {
    const used = this.#usedOf(client, provider);
    const stepMs = SECOND_MS / perSecond;
    const now = performance.now();
    const { block } = used;
    if (block.left > 0 && block.at > now - BLOCK_MS) {
      const wait = Math.max(0, block.at - now);
      used.block = { at: block.at + stepMs, left: block.left - 1 };
      return wait;
    }
    const slots = Math.max(1, Math.floor(BLOCK_MS / stepMs));
    const { rows } = await this.#pool.query<{ wait: string; taken: boolean }>(
      `with slot as (
         insert into jobs.provider_use as known (client, provider, next_send_at)
         values ($1, $2, statement_timestamp() + $3 * interval '1 ms')
         on conflict (client, provider) do update
           set next_send_at = greatest(known.next_send_at, statement_timestamp()) + $3 * interval '1 ms'
           where coalesce(known.next_send_at, statement_timestamp()) <= statement_timestamp() + $4 * interval '1 ms'
         returning next_send_at - $3 * interval '1 ms' as at)
       select true as taken, extract(epoch from at - statement_timestamp()) * 1000 as wait from slot
       union all
       select false, extract(epoch from next_send_at - statement_timestamp()) * 1000 from jobs.provider_use
       where client = $1 and provider = $2 and not exists (select from slot)`,
      [client, provider, slots * stepMs, maxWaitMs],
    );
    const [slot] = rows;
    if (slot === undefined) return 0;
    const wait = Math.max(0, Number(slot.wait));
    if (slot.taken) used.block = { at: now + wait + stepMs, left: slots - 1 };
    return slot.taken ? wait : Math.max(wait, maxWaitMs + 1);
  }

  /** Remembers that a provider took a mail: its failures are counted from there. */
  noteSuccess(client: ClientId, provider: string): void {
    this.#usedOf(client, provider).succeededAt = performance.now();
  }

  /** Counts a failure of transport. Returns how many there were in a row, as far as this process knows of successes. */
  async countFailure(client: ClientId, provider: string): Promise<number> {
    const { succeededAt } = this.#usedOf(client, provider);
    const sinceMs = succeededAt === null ? null : performance.now() - succeededAt;
    const { rows } = await this.#pool.query<{ failures: number }>(
      `insert into jobs.provider_use as known (client, provider, failures, failed_at)
       values ($1, $2, 1, statement_timestamp())
       on conflict (client, provider) do update set failed_at = statement_timestamp(), failures =
         case when known.failed_at < statement_timestamp() - $3 * interval '1 ms' then 1 else known.failures + 1 end
       returning failures`,
      [client, provider, sinceMs],
    );
    return rows[0]?.failures ?? 1;
  }

  /** Takes the probe of a provider, unless another attempt has it. It ends by itself after `leaseMs`. */
  async takeProbe(client: ClientId, provider: string, leaseMs: number): Promise<Probe | null> {
    // fence: one-probe
    const { rows } = await this.#pool.query<{ token: string }>(
      `insert into jobs.provider_use as known (client, provider, probe_until)
       values ($1, $2, statement_timestamp() + $3 * interval '1 ms')
       on conflict (client, provider) do update set probe_until = excluded.probe_until
         where known.probe_until is null or known.probe_until < statement_timestamp()
       returning probe_until::text as token`,
      [client, provider, leaseMs],
    );
    return rows[0] ?? null;
  }

  /** After a success the failures before it count no more. */
  async endProbe(client: ClientId, provider: string, { token }: Probe, succeeded: boolean): Promise<void> {
    await this.#pool.query(
      `update jobs.provider_use set probe_until = null, failures = case when $4 then 0 else failures end
       where client = $1 and provider = $2 and probe_until = $3::timestamptz`,
      [client, provider, token, succeeded],
    );
  }

  #usedOf(client: ClientId, provider: string): Used {
    const key = `${client} ${provider}`;
    const used = this.#used.get(key) ?? { succeededAt: null, block: { at: 0, left: 0 } };
    this.#used.set(key, used);
    return used;
  }
}
