// Fairness in one process: how many jobs of a client run at once, how many attempts reach a host, and at what rate.
import type { ClientId } from "../contract/ids.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import { type Sharer, sharerOf, type TakenJob } from "./jobs.ts";

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
  /** Jobs of one client that run at once, when others leave it as many. Its endpoints share them. */
  readonly perClient: number;
  /** Jobs of one client that wait in memory beside them, and as many of its endpoints, which share them. */
  readonly waitingPerClient: number;
};

type FairJob = Pick<TakenJob, "client" | "endpoint" | "priority" | "round">;
/** A client: how many of its jobs run, and what its endpoints have of them. */
type Tenant = { readonly client: ClientId; running: number; endpointsRunning: number; endpointsWaiting: number };
/** The jobs of a client that are of none of its endpoints, or those of one endpoint. */
type Share<J> = {
  readonly sharer: Sharer;
  readonly tenant: Tenant;
  readonly isEndpoint: boolean;
  running: number;
  readonly waiting: J[];
};

/** Which jobs of one worker run now and which wait. The caller keeps to `capacity` when it fetches jobs. */
export class TenantConcurrency<J extends FairJob> {
  readonly #limits: ConcurrencyLimits;
  readonly #tenants = new Map<ClientId, Tenant>();
  readonly #shares = new Map<Sharer, Share<J>>();
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

  /** Those with half of the jobs that may wait. More of their jobs would only have to go back. */
  saturated(): readonly Sharer[] {
    return [...this.#shares.values()].filter((share) => this.#isSaturated(share)).map(({ sharer }) => sharer);
  }

  /** Whether it pays to fetch more jobs, now that this one has ended. */
  needsMore(ended: J): boolean {
    const share = this.#shares.get(sharerOf(ended));
    return this.#waiting < this.#limits.running && (share === undefined || !this.#isSaturated(share));
  }

  #isSaturated({ tenant, isEndpoint, waiting }: Share<J>): boolean {
    const { waitingPerClient } = this.#limits;
    const most = isEndpoint ? (waitingPerClient - tenant.endpointsWaiting + waiting.length) / 2 : waitingPerClient;
    return waiting.length >= Math.ceil(most / 2);
  }

  #mayStart({ tenant, isEndpoint, running: own }: Share<J>, { priority }: J): boolean {
    const { running: limit, perClient } = this.#limits;
    if (tenant.running >= perClient || !mayTake(tenant.running, this.#running, limit, priority === "critical"))
      return false;
    // However many endpoints hang, the next one finds a slot.
    return !isEndpoint || /* fence: endpoint-slots */ mayTake(own, tenant.endpointsRunning, perClient, false);
  }

  #mayWait({ tenant, isEndpoint, waiting: { length: own } }: Share<J>): boolean {
    const { waitingPerClient } = this.#limits;
    return isEndpoint ? mayTake(own, tenant.endpointsWaiting, waitingPerClient, false) : own < waitingPerClient;
  }

  /** Admits a fetched job: it starts now, waits here in the order of rounds, or has to go back to the queue. */
  admit(job: J): "start" | "wait" | "return" {
    const share = this.#shareOf(job);
    const next = share.waiting[0];
    if ((next === undefined || job.round < next.round) && this.#mayStart(share, job)) {
      this.#count(share, 1, 0);
      return "start";
    }
    if (!this.#mayWait(share)) return "return";
    const later = share.waiting.findIndex(({ round }) => round > job.round);
    share.waiting.splice(later < 0 ? share.waiting.length : later, 0, job);
    this.#count(share, 0, 1);
    return "wait";
  }

  /** Releases a job that has ended. Returns the jobs that start instead, those of the first rounds. */
  release(job: J): readonly J[] {
    const ended = this.#shareOf(job);
    this.#count(ended, -1, 0);
    const started: J[] = [];
    for (let next = this.#takeNext(); next !== undefined; next = this.#takeNext()) started.push(next);
    if (ended.running === 0 && ended.waiting.length === 0) this.#shares.delete(ended.sharer);
    const { client, running, endpointsWaiting } = ended.tenant;
    if (running === 0 && endpointsWaiting === 0 && !this.#shares.has(client)) this.#forget(ended.tenant);
    return started;
  }

  /** With its endpoints of which no job found room: they would go on counting for a client that is no longer known. */
  #forget(tenant: Tenant): void {
    this.#tenants.delete(tenant.client);
    for (const share of this.#shares.values()) if (share.tenant === tenant) this.#shares.delete(share.sharer);
  }

  /** Removes and returns the jobs that wait. */
  drain(): readonly J[] {
    return [...this.#shares.values()].flatMap((share) => {
      const jobs = share.waiting.splice(0);
      this.#count(share, 0, -jobs.length);
      return jobs;
    });
  }

  #shareOf(job: J): Share<J> {
    const sharer = sharerOf(job);
    const known = this.#shares.get(sharer);
    if (known !== undefined) return known;
    const { client } = job;
    const nothing = { running: 0, endpointsRunning: 0, endpointsWaiting: 0 };
    const tenant = this.#tenants.get(client) ?? { client, ...nothing };
    this.#tenants.set(client, tenant);
    const share = { sharer, tenant, isEndpoint: sharer !== client, running: 0, waiting: [] };
    this.#shares.set(sharer, share);
    return share;
  }

  #count(share: Share<J>, running: number, waiting: number): void {
    const { tenant, isEndpoint } = share;
    this.#running += running;
    this.#waiting += waiting;
    share.running += running;
    tenant.running += running;
    if (!isEndpoint) return;
    tenant.endpointsRunning += running;
    tenant.endpointsWaiting += waiting;
  }

  #takeNext(): J | undefined {
    if (this.#waiting === 0) return undefined;
    let first: Share<J> | undefined;
    for (const share of this.#shares.values()) {
      const [job] = share.waiting;
      if (job === undefined || !this.#mayStart(share, job)) continue;
      if (first === undefined || job.round < (first.waiting[0]?.round ?? 0)) first = share;
    }
    const job = first?.waiting.shift();
    if (first !== undefined) this.#count(first, 1, -1);
    return job;
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
