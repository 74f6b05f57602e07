// Fairness in one process: how many jobs of a client run at once, how many attempts reach a host, and at what rate.
import type { ClientId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";

export type ConcurrencyLimits = {
  /** Jobs that run at once, of all clients. */
  readonly running: number;
  /** Jobs of one client that run at once. */
  readonly perClient: number;
  /** Jobs of one client that wait in memory beside them. */
  readonly waitingPerClient: number;
};

type Tenant<J> = { running: number; readonly waiting: J[] };

/** Which jobs of one worker run now and which wait. The caller keeps to `capacity` when it fetches jobs. */
export class TenantConcurrency<J extends { readonly client: ClientId }> {
  readonly #limits: ConcurrencyLimits;
  readonly #tenants = new Map<ClientId, Tenant<J>>();
  #running = 0;
  #waiting = 0;

  constructor(limits: ConcurrencyLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#running;
  }
  get waiting(): number {
    return this.#waiting;
  }
  /** How many more jobs may be fetched. */
  get capacity(): number {
    return Math.max(0, 2 * this.#limits.running - this.#running - this.#waiting);
  }

  /** Clients with half of the jobs that may wait. More of their jobs would only have to go back. */
  saturated(): readonly ClientId[] {
    return [...this.#tenants.keys()].filter((client) => this.#isSaturated(client));
  }

  /** Whether it pays to fetch more jobs, now that one of this client has ended. */
  needsMore(client: ClientId): boolean {
    return this.#waiting < this.#limits.running && !this.#isSaturated(client);
  }

  #isSaturated(client: ClientId): boolean {
    return (this.#tenants.get(client)?.waiting.length ?? 0) >= Math.ceil(this.#limits.waitingPerClient / 2);
  }

  /** Admits a fetched job: it starts now, waits here, or has to go back to the queue. */
  admit(job: J): "start" | "wait" | "return" {
    const tenant = this.#tenants.get(job.client) ?? { running: 0, waiting: [] };
    this.#tenants.set(job.client, tenant);
    if (tenant.running < this.#limits.perClient && this.#running < this.#limits.running) {
      tenant.running += 1;
      this.#running += 1;
      return "start";
    }
    if (tenant.waiting.length >= this.#limits.waitingPerClient) return "return";
    tenant.waiting.push(job);
    this.#waiting += 1;
    return "wait";
  }

  /** Releases a job of this client that has ended. Returns the jobs that start instead. */
  release(client: ClientId): readonly J[] {
    const tenant = this.#tenants.get(client);
    if (tenant !== undefined) tenant.running -= 1;
    this.#running -= 1;
    const next: J[] = [];
    // The client's own jobs first, then those that could not start because too many ran.
    for (const candidate of [client, ...this.#tenants.keys()]) {
      while (this.#running < this.#limits.running) {
        const job = this.#takeNext(candidate);
        if (job === undefined) break;
        next.push(job);
      }
    }
    for (const [other, { running, waiting }] of this.#tenants) {
      if (running === 0 && waiting.length === 0) this.#tenants.delete(other);
    }
    return next;
  }

  /** Removes and returns the jobs that wait. */
  drain(): readonly J[] {
    const jobs = [...this.#tenants.values()].flatMap(({ waiting }) => waiting.splice(0));
    this.#waiting = 0;
    return jobs;
  }

  #takeNext(client: ClientId): J | undefined {
    const tenant = this.#tenants.get(client);
    if (tenant === undefined || tenant.running >= this.#limits.perClient) return undefined;
    const job = tenant.waiting.shift();
    if (job === undefined) return undefined;
    tenant.running += 1;
    this.#running += 1;
    this.#waiting -= 1;
    return job;
  }
}

/** How long an attempt waits for its host before it goes back, so that a slow host does not hold up its client. */
export const HOST_WAIT_MS = SECOND_MS;

type Waiter = { readonly client: ClientId; readonly start: () => void };
type Host = { taken: number; readonly byClient: Map<ClientId, number>; readonly waiting: Set<Waiter> };
type HostRequest = {
  readonly host: string;
  readonly client: ClientId;
  /** How many attempts may reach the host at once. */
  readonly limit: number;
  readonly waitMs: number;
  readonly signal: AbortSignal;
};

/** Limits the attempts that reach a host at once. The client with the fewest attempts at the host is next. */
export class HostLimiter {
  readonly #hosts = new Map<string, Host>();

  /** Returns how to release the host, once. Undefined when it stayed busy for `waitMs` or the signal aborted. */
  async acquire({ host: name, client, limit, waitMs, signal }: HostRequest): Promise<(() => void) | undefined> {
    const host = this.#hosts.get(name) ?? { taken: 0, byClient: new Map(), waiting: new Set() };
    this.#hosts.set(name, host);
    if (host.taken < limit && host.waiting.size === 0) take(host, client);
    else if (!(await waitFor(host, client, waitMs, signal))) return undefined;
    let released = false;
    return () => {
      if (!released) this.#release(name, host, client);
      released = true;
    };
  }

  #release(name: string, host: Host, client: ClientId): void {
    host.taken -= 1;
    host.byClient.set(client, (host.byClient.get(client) ?? 1) - 1);
    if (host.byClient.get(client) === 0) host.byClient.delete(client);
    let next: Waiter | undefined;
    for (const waiter of host.waiting) {
      const fewer = (host.byClient.get(waiter.client) ?? 0) < (host.byClient.get(next?.client ?? waiter.client) ?? 0);
      if (next === undefined || fewer) next = waiter;
    }
    if (next !== undefined) {
      // Counted before it runs, so that no other attempt gets ahead of it.
      take(host, next.client);
      next.start();
    } else if (host.taken === 0) this.#hosts.delete(name);
  }
}

function take(host: Host, client: ClientId): void {
  host.taken += 1;
  host.byClient.set(client, (host.byClient.get(client) ?? 0) + 1);
}

function waitFor(host: Host, client: ClientId, waitMs: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const settle = (started: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
      host.waiting.delete(waiter);
      resolve(started);
    };
    const waiter: Waiter = { client, start: () => settle(true) };
    const giveUp = () => settle(false);
    const timer = setTimeout(giveUp, waitMs);
    signal.addEventListener("abort", giveUp, { once: true });
    host.waiting.add(waiter);
  });
}

/** Spaces what is sent under a name evenly. */
export class RateLimiter {
  readonly #next = new Map<string, Instant>();

  /** How long to wait, in ms. The time slot is taken when that is at most `maxWaitMs`. */
  take(name: string, perSecond: number, now: Instant, maxWaitMs: number): number {
    for (const [other, at] of this.#next) if (at <= now) this.#next.delete(other);
    const slot = Math.max(now, this.#next.get(name) ?? now);
    if (slot - now <= maxWaitMs) this.#next.set(name, slot + SECOND_MS / perSecond);
    return slot - now;
  }
}
