// The webhook endpoints that the fan-out follows, in memory: what each gets, its open deliveries, and how far it may go on.
import type { Published } from "../app/public-events.ts";
import { type ClientId, type DeliveryId, type EndpointId, SubjectSchema } from "../contract/ids.ts";
import type { PublicEvent } from "../contract/public-events.ts";
import { type Instant, SECOND_MS } from "../contract/time.ts";
import type { Requested } from "../domain/delivery.ts";
import type { EndpointSource } from "../domain/delivery-state.ts";
import { type EndpointEvent, matchesFilter, matchesType } from "../domain/endpoint.ts";
import { seal } from "../domain/event.ts";
import { endpointDeliveryId } from "../event-store/derived-ids.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import type { EndpointCursor } from "../projections/endpoint-cursors.ts";
import { foldOnto } from "../projections/fold.ts";
import { type EndpointRow, endpoints } from "../projections/models/endpoints.ts";

/** Open deliveries that an endpoint has at once, at most: what follows them stays in the log. */
const WINDOW = 128;
/** Events that wait in memory for an endpoint that is about to go with the fan-out. */
const MAX_BUFFERED = 500;
/** They end with their schedule, and wait as long as their endpoint is paused. */
const NEVER_MS = 10 * 365 * 24 * 3_600_000;

/** A public event for an endpoint, and what it is shown as where a filter needs to know. */
export type Candidate = {
  readonly event: StoredEvent;
  readonly published: Published;
  readonly room: string | null;
  readonly lane: string;
  readonly shown: PublicEvent | undefined;
};

/** An event with all that it is published as to an endpoint, and the position before it. */
export type Pushed = { readonly before: Position; readonly candidates: readonly Candidate[]; readonly at: Position };

/** A delivery to request. The batch that it is requested with is known by then. */
export type EndpointRequest = {
  readonly client: ClientId;
  readonly delivery: DeliveryId;
  readonly event: StoredEvent;
  readonly source: Omit<EndpointSource, "batchStart">;
  readonly request: Omit<Requested, "source">;
};

/** An endpoint, and how far it has come. */
export class Followed {
  row: EndpointRow;
  /** Null: it goes with the fan-out. Else everything of it up to here was requested. */
  cursor: Position | null;
  /** Whether its backlog is being read. */
  reading = false;
  /** What the fan-out came across while the end of its backlog was read. */
  buffer: Pushed[] | null = null;
  readonly open = new Set<DeliveryId>();
  /** The last delivery in each lane, as long as it is open. */
  readonly lanes = new Map<string, DeliveryId>();
  /** When the next one would be due at an even rate. */
  #nextAt: Instant = 0;

  constructor(row: EndpointRow, cursor: Position | null) {
    this.row = row;
    this.cursor = cursor;
  }

  get isActive(): boolean {
    return this.row.status === "active";
  }

  /** Whether half of its window is free, so that it pays to read on. */
  get hasRoom(): boolean {
    return this.open.size <= WINDOW / 2;
  }

  wants({ event, published, room, shown }: Candidate): boolean {
    const { row } = this;
    // fence: endpoint-start
    if (event.position <= row.start || (row.not_before !== null && event.meta.at < row.not_before)) return false;
    // fence: endpoint-types
    if (!matchesType(row.events, published.type)) return false;
    // fence: endpoint-rooms
    if (row.room_ids !== null && (room === null || !row.room_ids.includes(room))) return false;
    return (
      row.filter === null || /* fence: endpoint-filter */ (shown !== undefined && matchesFilter(row.filter, shown))
    );
  }

  /** How long until it may take so many more, in ms; Infinity when its window is full: it is woken then. */
  waitFor(count: number, now: Instant): number {
    if (this.open.size + count > WINDOW) return Number.POSITIVE_INFINITY;
    const { rate_per_second: rate } = this.row;
    if (rate === null) return 0;
    // A second's worth may go at once.
    return Math.max(0, this.#nextAt - now - Math.max(0, SECOND_MS - SECOND_MS / rate));
  }

  /** The delivery of an event to it. */
  take({ event, published, lane }: Candidate, now: Instant): EndpointRequest {
    const { id, client, url, recipient, generation, ordered, rate_per_second: rate } = this.row;
    const delivery = endpointDeliveryId(id, published.id, generation);
    if (rate !== null) this.#nextAt = Math.max(this.#nextAt, now) + SECOND_MS / rate;
    const previous = ordered ? (this.lanes.get(lane) ?? null) : null;
    const { stream, revision } = event;
    const about = { endpoint: id, event: published.id, type: published.type, stream, revision, generation };
    const source = { ...about, lane: ordered ? lane : null, previous };
    const request = {
      recipient: SubjectSchema.parse(recipient),
      channel: "webhook",
      address: url === null ? null : seal(url),
      name: null,
      fallbackOf: null,
      priority: "normal",
      bulk: false,
      expiresAt: event.meta.at + NEVER_MS,
      fallbackAt: null,
    } as const;
    return { client, delivery, event, source, request };
  }

  /** One that is open already. */
  add(delivery: DeliveryId, lane: string | null): void {
    this.open.add(delivery);
    if (lane !== null) this.lanes.set(lane, delivery);
  }

  ended(delivery: DeliveryId): void {
    this.open.delete(delivery);
    for (const [lane, last] of this.lanes) if (last === delivery) this.lanes.delete(lane);
  }

  /** Keeps an event until the backlog is read; past what may wait, the backlog grows instead. */
  keep(waiting: Pushed): void {
    if (this.buffer === null) return;
    if (this.buffer.length >= MAX_BUFFERED) this.buffer = null;
    else this.buffer.push(waiting);
  }
}

type OpenDelivery = {
  readonly id: DeliveryId;
  readonly lane: string | null;
  readonly previous: DeliveryId | null;
};

/** Every endpoint of every client. */
export class EndpointRoster {
  readonly #byId = new Map<EndpointId, Followed>();
  readonly #byClient = new Map<ClientId, Set<Followed>>();
  readonly #owners = new Map<DeliveryId, Followed>();
  /** What waits in its lane for the end of another. */
  readonly #successors = new Map<DeliveryId, DeliveryId>();

  get all(): Iterable<Followed> {
    return this.#byId.values();
  }

  get(id: EndpointId): Followed | undefined {
    return this.#byId.get(id);
  }

  ofClient(client: ClientId): Iterable<Followed> {
    // fence: endpoint-client
    return this.#byClient.get(client) ?? [];
  }

  add(row: EndpointRow, cursor: Position | null): Followed {
    const followed = new Followed(row, cursor);
    this.#byId.set(row.id, followed);
    const own = this.#byClient.get(row.client) ?? new Set();
    this.#byClient.set(row.client, own.add(followed));
    return followed;
  }

  remove(followed: Followed): void {
    this.#byId.delete(followed.row.id);
    const own = this.#byClient.get(followed.row.client);
    own?.delete(followed);
    if (own?.size === 0) this.#byClient.delete(followed.row.client);
  }

  /** What is open of an endpoint: in the read model, or redriven. */
  opened(followed: Followed, { id, lane, previous }: OpenDelivery): void {
    followed.add(id, lane);
    this.#owners.set(id, followed);
    if (previous !== null) this.#successors.set(previous, id);
  }

  /** The delivery of an event to an endpoint, which is open from now on. */
  request(followed: Followed, candidate: Candidate, now: Instant): EndpointRequest {
    const taken = followed.take(candidate, now);
    const { lane, previous } = taken.source;
    this.opened(followed, { id: taken.delivery, lane, previous });
    return taken;
  }

  /** The endpoint whose open delivery this is. */
  ownerOf(delivery: DeliveryId): Followed | undefined {
    return this.#owners.get(delivery);
  }

  /** Whether another waits for the end of this one. */
  isAwaited(delivery: DeliveryId): boolean {
    return this.#successors.has(delivery);
  }

  /** A delivery has ended. Returns the one that waited for it. */
  ended(delivery: DeliveryId): DeliveryId | undefined {
    this.#owners.get(delivery)?.ended(delivery);
    this.#owners.delete(delivery);
    const successor = this.#successors.get(delivery);
    this.#successors.delete(delivery);
    return successor;
  }

  /**
   * Folds an event of an endpoint that the read model's rows may hold already. Returns the endpoint as it is then, and
   * whether it begins anew; undefined when it is gone, or nothing changed.
   */
  apply(event: StoredEvent<EndpointEvent>): { readonly followed: Followed; readonly begins: boolean } | undefined {
    const known = this.#byId.get(event.data.endpoint);
    if (known !== undefined && event.position <= known.row.changed && event.type !== "EndpointDeleted")
      return undefined;
    const row = foldOnto(endpoints, event, known?.row) as EndpointRow | undefined;
    if (row === undefined) {
      if (known !== undefined) this.remove(known);
      return undefined;
    }
    if (known === undefined) return { followed: this.add(row, row.start), begins: true };
    const begins = row.generation !== known.row.generation;
    known.row = row;
    return { followed: known, begins };
  }
}

/** Where an endpoint goes on, when the fan-out is at `at`; null: with the fan-out. */
export function cursorOf(row: EndpointRow, cursor: EndpointCursor | undefined, at: Position): Position | null {
  if (cursor !== undefined && cursor.generation === row.generation) return cursor.position;
  // The event that began this generation is still to come, or was taken up.
  if (row.started > at) return row.start;
  return row.status === "active" ? null : at;
}
