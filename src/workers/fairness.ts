// Fairness in one process: how many jobs of a client run at once, how many attempts reach a host, and at what rate.
import type { ClientId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import type { TakenJob } from "./jobs.ts";

/**
 * Whether one of several sharers may take another slot of `limit`: fewer than are free, or twice as many for what is
 * critical. So one takes half of all, two a third each, and however many there are, slots are left for who comes next.
 */
function mayTake(own: number, taken: number, limit: number, critical: boolean): boolean {
  const free = limit - taken;
  return free > 0 && own < (critical ? 2 * free : /* fence: fair-share */ free);
}

export type ConcurrencyLimits = {
  /** Jobs that run at once, of all clients. */
  readonly running: number;
  /** Jobs of one client that run at once, when others leave it as many. */
  readonly perClient: number;
  /** Jobs of one client that wait in memory beside them. */
  readonly waitingPerClient: number;
};

type FairJob = Pick<TakenJob, "client" | "priority" | "round">;
type Tenant<J> = { running: number; readonly waiting: J[] };

/** Which jobs of one worker run now and which wait. The caller keeps to `capacity` when it fetches jobs. */
export class TenantConcurrency<J extends FairJob> {
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

  #mayStart({ running }: Tenant<J>, { priority }: J): boolean {
    const { running: limit, perClient } = this.#limits;
    return running < perClient && mayTake(running, this.#running, limit, priority === "critical");
  }

  /** Admits a fetched job: it starts now, waits here in the order of rounds, or has to go back to the queue. */
  admit(job: J): "start" | "wait" | "return" {
    const tenant = this.#tenants.get(job.client) ?? { running: 0, waiting: [] };
    this.#tenants.set(job.client, tenant);
    const next = tenant.waiting[0];
    if ((next === undefined || job.round < next.round) && this.#mayStart(tenant, job)) {
      tenant.running += 1;
      this.#running += 1;
      return "start";
    }
    if (tenant.waiting.length >= this.#limits.waitingPerClient) return "return";
    const later = tenant.waiting.findIndex(({ round }) => round > job.round);
    tenant.waiting.splice(later < 0 ? tenant.waiting.length : later, 0, job);
    this.#waiting += 1;
    return "wait";
  }

  /** Releases a job of this client that has ended. Returns the jobs that start instead, those of the first rounds. */
  release(client: ClientId): readonly J[] {
    const ended = this.#tenants.get(client);
    if (ended !== undefined) ended.running -= 1;
    this.#running -= 1;
    const next: J[] = [];
    for (let job = this.#takeNext(); job !== undefined; job = this.#takeNext()) next.push(job);
    if (ended?.running === 0 && ended.waiting.length === 0) this.#tenants.delete(client);
    return next;
  }

  /** Removes and returns the jobs that wait. */
  drain(): readonly J[] {
    const jobs = [...this.#tenants.values()].flatMap(({ waiting }) => waiting.splice(0));
    this.#waiting = 0;
    return jobs;
  }

  #takeNext(): J | undefined {
    if (this.#waiting === 0) return undefined;
    let first: Tenant<J> | undefined;
    for (const tenant of this.#tenants.values()) {
      const [job] = tenant.waiting;
      if (job === undefined || !this.#mayStart(tenant, job)) continue;
      if (first === undefined || job.round < (first.waiting[0]?.round ?? 0)) first = tenant;
    }
    if (first === undefined) return undefined;
    first.running += 1;
    this.#running += 1;
    this.#waiting -= 1;
    return first.waiting.shift();
  }
}

/** How long an attempt waits for its host in memory before it goes back to the queue. */
export const HOST_WAIT_MS = SECOND_MS;
/** A host that has answered nobody for this long hangs. */
const HANGS_AFTER_MS = 2 * SECOND_MS;
/** The slow lane: how many attempts may reach a host that hangs. One that is answered ends it. */
const SLOW_LANE = 8;
/** What is put off comes back within this, however many wait for the host. */
const MAX_PUT_OFF_MS = 30 * SECOND_MS;
/** What is known of a host is kept for this long after its last attempt. */
const FORGET_AFTER_MS = 60 * SECOND_MS;
/** What an attempt at a host takes before any has ended there, and how far each one moves that mean. */
const FIRST_MEAN_MS = 100;
const MEAN_WEIGHT = 0.2;

/** A client at a host. It is booked up to a time by attempts that were put off. */
type Guest = { holds: number; waiting: number; bookedUntil: Instant };
type Hold = { readonly guest: Guest; readonly since: Instant };
type Waiter = { readonly guest: Guest; readonly critical: boolean; readonly start: (hold: Hold) => void };
type Host = {
  readonly limit: number;
  /** Oldest first. */
  readonly holds: Set<Hold>;
  readonly waiting: Set<Waiter>;
  readonly guests: Map<ClientId, Guest>;
  answeredAt: Instant;
  /** Whether the last attempt that ended was not answered. */
  hung: boolean;
  meanMs: number;
  usedAt: Instant;
};
type HostRequest = {
  readonly host: string;
  readonly client: ClientId;
  readonly critical: boolean;
  /** How many attempts may reach the host at once. */
  readonly limit: number;
  readonly waitMs: number;
  readonly signal: AbortSignal;
};
/** Release it once, saying whether the host answered at all. Without a slot: when to come again. */
type HostSlot = { readonly release: (answered: boolean) => void } | { readonly putOffUntil: Instant };

/**
 * Limits the attempts that reach a host at once, shared fairly by clients. A host that hangs goes into the slow lane, so
 * that its attempts hold few slots; what finds no slot is put off by as long as the host will take to get to it.
 */
export class HostLimiter {
  readonly #hosts = new Map<string, Host>();
  readonly #now: () => Instant;

  constructor(now: () => Instant) {
    this.#now = now;
  }

  async acquire({ host: name, client, critical, limit, waitMs, signal }: HostRequest): Promise<HostSlot> {
    const now = this.#now();
    const host = this.#hosts.get(name) ?? this.#add(name, limit, now);
    host.usedAt = now;
    const guest = host.guests.get(client) ?? { holds: 0, waiting: 0, bookedUntil: now };
    host.guests.set(client, guest);
    const atOnce = critical || guest.waiting === 0 ? take(host, guest, critical, now) : undefined;
    const comesInTime = guest.waiting * (host.meanMs / limit) < waitMs && !hangs(host, now);
    const hold = atOnce ?? (comesInTime ? await waitFor(host, { guest, critical }, waitMs, signal) : undefined);
    if (hold === undefined) return { putOffUntil: this.#book(host, guest) };
    return { release: (answered) => this.#release(host, hold, answered) };
  }

  #add(name: string, limit: number, now: Instant): Host {
    for (const [other, { holds, waiting, usedAt }] of this.#hosts) {
      if (holds.size === 0 && waiting.size === 0 && usedAt < now - FORGET_AFTER_MS) this.#hosts.delete(other);
    }
    const nobody = { holds: new Set<Hold>(), waiting: new Set<Waiter>(), guests: new Map<ClientId, Guest>() };
    const host = { limit, ...nobody, answeredAt: now, hung: false, meanMs: FIRST_MEAN_MS, usedAt: now };
    this.#hosts.set(name, host);
    return host;
  }

  /** Books the time at which the host will have got to one more attempt of a client, which may have half of it. */
  #book(host: Host, guest: Guest): Instant {
    const now = this.#now();
    const each = host.meanMs / Math.max(1, limitOf(host, now) / 2);
    guest.bookedUntil = Math.min(Math.max(guest.bookedUntil, now) + each, now + MAX_PUT_OFF_MS);
    return Math.round(Math.max(guest.bookedUntil, now + HOST_WAIT_MS));
  }

  #release(host: Host, hold: Hold, answered: boolean): void {
    if (!host.holds.delete(hold)) return;
    const now = this.#now();
    hold.guest.holds -= 1;
    host.meanMs += MEAN_WEIGHT * (now - hold.since - host.meanMs);
    host.hung = !answered;
    host.usedAt = now;
    if (answered) host.answeredAt = now;
    startWaiting(host, now);
  }
}

/** Whether nobody was answered for too long: neither who began longest ago, nor anybody since. */
function hangs({ holds, hung, answeredAt }: Host, now: Instant): boolean {
  const [oldest] = holds;
  if (oldest === undefined || hung) return hung;
  return oldest.since >= answeredAt && now - oldest.since > /* fence: slow-lane */ HANGS_AFTER_MS;
}

const limitOf = (host: Host, now: Instant): number => (hangs(host, now) ? Math.min(SLOW_LANE, host.limit) : host.limit);

function take(host: Host, guest: Guest, critical: boolean, now: Instant): Hold | undefined {
  if (!mayTake(guest.holds, host.holds.size, limitOf(host, now), critical)) return undefined;
  const hold = { guest, since: now };
  host.holds.add(hold);
  guest.holds += 1;
  return hold;
}

/** Starts one that waits and may: a critical one first, then of the client with the fewest attempts at the host. */
function startWaiting(host: Host, now: Instant): void {
  let next: Waiter | undefined;
  for (const waiter of host.waiting) {
    if (next?.critical === true && !waiter.critical) continue;
    const isBefore = next === undefined || (waiter.critical && !next.critical) || waiter.guest.holds < next.guest.holds;
    if (isBefore) next = waiter;
  }
  // Counted before it runs, so that no other attempt gets ahead of it.
  const hold = next === undefined ? undefined : take(host, next.guest, next.critical, now);
  if (hold !== undefined) next?.start(hold);
}

function waitFor(
  host: Host,
  who: Pick<Waiter, "guest" | "critical">,
  waitMs: number,
  signal: AbortSignal,
): Promise<Hold | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const settle = (hold: Hold | undefined) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
      host.waiting.delete(waiter);
      who.guest.waiting -= 1;
      resolve(hold);
    };
    const waiter: Waiter = { ...who, start: settle };
    const giveUp = () => settle(undefined);
    const timer = setTimeout(giveUp, waitMs);
    signal.addEventListener("abort", giveUp, { once: true });
    host.waiting.add(waiter);
    who.guest.waiting += 1;
  });
}
