// The fan-out to webhook endpoints: follows the log once, for all of them, and requests what each is to be sent.
import { mayBecome } from "../app/public-events.ts";
import type { PublicEventServices } from "../app/room-event-maker.ts";
import type { DeliveryStatus } from "../contract/deliveries.ts";
import type { ClientId, DeliveryId, EndpointId } from "../contract/ids.ts";
import { SECOND_MS } from "../contract/time.ts";
import { DELIVERY_STREAMS, hasEnded } from "../domain/delivery-state.ts";
import { endpointEvents, isEndpointEvent, matchesType } from "../domain/endpoint.ts";
import { decode, decodeMetadata, decodeRaw, type StoredEvent } from "../event-store/envelope.ts";
import type { Batch, Position, RecordedEvent } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { LeaseTerm } from "../platform/leader.ts";
import { type Checkpoint, Consumer, lagOf } from "../projections/consumer.ts";
import { FAN_OUT, forgetCursors, putCursors } from "../projections/endpoint-cursors.ts";
import { deliveryOf } from "../projections/projection.ts";
import { moveCheckpoint, readCheckpoint } from "./checkpoints.ts";
import { EndpointBacklog } from "./endpoint-backlog.ts";
import { loadRoster, openFanOut } from "./endpoint-loading.ts";
import { candidatesOf, type FanOutOptions, type Following, requestAll } from "./endpoint-requests.ts";
import type { Candidate, EndpointRequest, EndpointRoster, Followed, Pushed } from "./endpoint-roster.ts";
import { createJob, type Job } from "./jobs.ts";
import { inTransaction, onPool } from "./queue.ts";

/** How often the checkpoint moves over events that concern no endpoint. They are read again after a crash, which is harmless. */
const IDLE_CHECKPOINT_MS = SECOND_MS;
const LINGER_MS = 5;
const MAX_BATCH = 250;
/** Events that are shown to content filters at once. */
const SHOWN_AT_ONCE = 16;

export type FanOutStatus = {
  readonly state: string;
  readonly handled: Checkpoint;
  /** How far it is behind the log's end, in positions; null when the end cannot be read now. */
  readonly lag: number | null;
  /** Active endpoints of which events wait in the log, as far as this process knows: the one that leads knows. */
  readonly behind: number;
  readonly lastError: string | null;
};

/** Starts the fan-out, in the process that leads. */
export async function startFanOut(options: FanOutOptions) {
  const { pool, store, logger, now, alone = false } = options;
  let following: Following | undefined;
  let stored: Checkpoint = "start";
  const backlog = new EndpointBacklog(options, () => following);

  const wakeAll = (freed: ReadonlySet<Followed>) => {
    for (const followed of freed) backlog.wake(followed);
  };

  async function open(term: LeaseTerm | undefined) {
    following = undefined;
    let saved = await openFanOut(options);
    let savedAt = now();
    const handle = async (batch: Batch) => {
      following ??= await load(saved);
      try {
        const due = await fanOut(options, backlog, following, batch);
        const { cursors, forgotten } = following;
        const concerned = due.concerned || cursors.size > 0 || forgotten.size > 0 || due.jobs.length > 0;
        // Also where the checkpoint stays: nobody else says that there is room for more.
        if (!concerned && now() < savedAt + IDLE_CHECKPOINT_MS) return wakeAll(due.freed);
        await inTransaction(pool, async (sql) => {
          await moveCheckpoint(sql, { name: FAN_OUT, term, from: saved, to: batch.upTo });
          await putCursors(sql, [...cursors.values()]);
          await forgetCursors(sql, [...forgotten]);
          if (due.jobs.length > 0) await options.jobs.enqueue(sql, due.jobs);
        });
        options.jobs.notifyQueued(due.jobs);
        cursors.clear();
        forgotten.clear();
        saved = stored = batch.upTo;
        savedAt = now();
        wakeAll(due.freed);
      } catch (error) {
        // What is in memory may be ahead of what was written.
        following = undefined;
        throw error;
      }
    };
    const load = async (at: Position) => {
      const loaded = await loadRoster(options, at);
      for (const followed of loaded.roster.all) if (followed.cursor !== null) backlog.wake(followed);
      return loaded;
    };
    following = await load(saved);
    stored = saved;
    return { after: saved, handle };
  }

  const lease = { pool, table: "jobs.leases", name: FAN_OUT, alone } as const;
  const consumer = new Consumer({
    ...{ name: FAN_OUT, store, logger, lingerMs: LINGER_MS, maxBatch: MAX_BATCH, lease, open },
  });
  await consumer.start();
  return {
    async status(): Promise<FanOutStatus> {
      const { state, handled = stored, lastError } = consumer.status();
      const known =
        state === "standby" ? ((await readCheckpoint({ sql: onPool(pool), store }, FAN_OUT)) ?? stored) : handled;
      const behind = [...(following?.roster.all ?? [])].filter(({ cursor, isActive }) => cursor !== null && isActive);
      return { state, handled: known, lag: await lagOf(store, known), behind: behind.length, lastError };
    },
    async [Symbol.asyncDispose]() {
      await consumer[Symbol.asyncDispose]();
      following = undefined;
      await backlog[Symbol.asyncDispose]();
    },
  };
}

type Due = {
  /** Whether any event was of a kind that an endpoint may want. */
  readonly concerned: boolean;
  readonly jobs: readonly Job[];
  /** Endpoints of which a delivery has ended, or that were resumed. */
  readonly freed: ReadonlySet<Followed>;
};

/** Requests what a batch leads to. */
async function fanOut(
  options: FanOutOptions,
  backlog: EndpointBacklog,
  following: Following,
  { events, upTo }: Batch,
): Promise<Due> {
  const { roster } = following;
  const opened = await openConcerned(options, roster, events);
  const pushed = await candidatesAmong(options, roster, [...opened.values()]);
  const jobs: Job[] = [];
  const requests: EndpointRequest[] = [];
  const freed = new Set<Followed>();
  let before = following.pushed;
  // From here on nothing waits: what reads a backlog sees the endpoints and `pushed` move as one.
  for (const event of events) {
    const stored = opened.get(event.position);
    if (stored !== undefined && isEndpointEvent(stored)) jobs.push(...steer(backlog, following, stored));
    else if (event.stream.startsWith(DELIVERY_STREAMS)) jobs.push(...follow(roster, event, freed));
    const candidates = pushed.get(event.position);
    if (candidates !== undefined) {
      for (const followed of roster.ofClient(candidates.client)) {
        const waiting = { before, at: event.position, candidates: candidates.all };
        requests.push(...push(options, backlog, following, followed, waiting));
      }
    }
    before = event.position;
  }
  following.pushed = upTo;
  failpoint("events-pushed/requested");
  await requestAll(options, roster, requests);
  failpoint("events-requested/checkpoint-moved");
  return { concerned: pushed.size > 0, jobs, freed };
}

/** Opens the events of endpoints, and those that an endpoint of their client may want. By position. */
async function openConcerned(
  { keyring }: FanOutOptions,
  roster: EndpointRoster,
  events: readonly RecordedEvent[],
): Promise<ReadonlyMap<Position, StoredEvent>> {
  const steering = events.filter(({ type }) => Object.hasOwn(endpointEvents, type));
  const changed = new Set(steering.map((event) => decodeMetadata(event).client));
  const wanted = events.filter((event) => {
    const types = mayBecome(event.type);
    if (types.length === 0) return false;
    const { client } = decodeMetadata(event);
    if (client === null) return false;
    const patterns = [...roster.ofClient(client)].filter(({ isActive }) => isActive).map(({ row }) => row.events);
    return changed.has(client) || patterns.some((own) => types.some((type) => matchesType(own, type)));
  });
  const opened = await decode(keyring, [...new Set([...steering, ...wanted])]);
  return new Map(opened.map((event) => [event.position, event]));
}

type ClientCandidates = { readonly client: ClientId; readonly all: readonly Candidate[] };

/** What events are published as, shown to those who filter by content. */
async function candidatesAmong(
  services: PublicEventServices,
  roster: EndpointRoster,
  opened: readonly StoredEvent[],
): Promise<ReadonlyMap<Position, ClientCandidates>> {
  const changed = new Set(opened.filter(isEndpointEvent).map(({ meta }) => meta.client));
  const found = await mapBounded(opened, SHOWN_AT_ONCE, async (event) => {
    const { client } = event.meta;
    if (client === null) return [];
    const filters = [...roster.ofClient(client)].some(({ row }) => row.filter !== null);
    const all = await candidatesOf(services, event, filters || changed.has(client));
    return all.length === 0 ? [] : [[event.position, { client, all }] as const];
  });
  return new Map(found.flat());
}

/** Offers an event to an endpoint. Returns what is to be requested; what it cannot take now is left in the log. */
function push(
  { now }: FanOutOptions,
  backlog: EndpointBacklog,
  following: Following,
  followed: Followed,
  waiting: Pushed,
): readonly EndpointRequest[] {
  const wanted = waiting.candidates.filter((candidate) => followed.wants(candidate));
  if (wanted.length === 0) return [];
  if (followed.cursor !== null) {
    followed.keep({ ...waiting, candidates: wanted });
    return [];
  }
  const wait = followed.waitFor(wanted.length, now());
  if (wait === 0) return wanted.map((candidate) => following.roster.request(followed, candidate, now()));
  detach(following, followed, waiting.before);
  backlog.wake(followed, wait);
  return [];
}

/** From here on it has a cursor of its own. */
function detach({ cursors, forgotten }: Following, followed: Followed, position: Position): void {
  const { id, generation } = followed.row;
  followed.cursor = position;
  followed.buffer = null;
  forgotten.delete(id);
  cursors.set(id, { endpoint: id, generation, position });
}

/** An endpoint's settings, or its place in the log, have changed. */
function steer(
  backlog: EndpointBacklog,
  following: Following,
  event: Parameters<EndpointRoster["apply"]>[0],
): readonly Job[] {
  const { roster, cursors, forgotten } = following;
  const { endpoint } = event.data;
  const known = roster.get(endpoint);
  const open = [...(known?.open ?? [])];
  const applied = roster.apply(event);
  if (event.type === "EndpointDeleted") {
    cursors.delete(endpoint);
    forgotten.add(endpoint);
    return open.map((delivery) => attemptNow(event, endpoint, delivery)); // which cancels it
  }
  const followed = applied?.followed ?? known;
  if (followed === undefined) return [];
  if (applied?.begins === true) {
    if (followed.row.start === event.position && !followed.reading) {
      followed.cursor = null;
      followed.buffer = null;
      forgotten.add(endpoint);
    } else detach(following, followed, followed.row.start);
  }
  if (!followed.isActive && followed.cursor === null) detach(following, followed, event.position);
  if (followed.isActive && followed.cursor !== null) backlog.wake(followed);
  // What was open when it was paused has waited for this.
  return event.type === "EndpointResumed" ? open.map((delivery) => attemptNow(event, endpoint, delivery)) : [];
}

/** A delivery began again or ended: the next one in its lane is due, and there is room for more. */
function follow(roster: EndpointRoster, event: RecordedEvent, freed: Set<Followed>): readonly Job[] {
  const delivery = deliveryOf(event.stream);
  const owner = roster.ownerOf(delivery);
  if (owner === undefined && event.type === "DeliveryRedriven") {
    const followed = roster.get(decodeRaw(event).endpoint as EndpointId);
    if (followed !== undefined) roster.opened(followed, { id: delivery, lane: null, previous: null });
    return [];
  }
  // One that had ended before the endpoints were loaded is nobody's, and another may wait for it all the same.
  if (owner === undefined && !roster.isAwaited(delivery)) return [];
  if (!hasEnded(decodeRaw(event).to as DeliveryStatus)) return [];
  const successor = roster.ended(delivery);
  if (owner !== undefined && owner.cursor !== null && owner.hasRoom) freed.add(owner);
  const waiting = successor === undefined ? undefined : roster.ownerOf(successor);
  return successor === undefined || waiting === undefined ? [] : [attemptNow(event, waiting.row.id, successor)];
}

function attemptNow(event: RecordedEvent | StoredEvent, endpoint: EndpointId, delivery: DeliveryId): Job {
  const { client, correlation } = "meta" in event ? event.meta : decodeMetadata(event);
  if (client === null) throw new Error(`an event of ${event.stream} is nobody's`);
  const cause = { correlation, causation: event.id };
  const work = { kind: "attempt", delivery, n: null } as const;
  return createJob({ client, endpoint, priority: "normal", cause, work, at: null }, event.id);
}
