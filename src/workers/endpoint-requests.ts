// Requesting deliveries to webhook endpoints: what the fan-out and the backlogs have in common.
import type pg from "pg";
import type { Logger } from "pino";
import { laneOf, publicEvent, publishedAs } from "../app/public-events.ts";
import type { PublicEventServices } from "../app/room-event-maker.ts";
import type { EndpointId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import { deliveryStream, hasEnded } from "../domain/delivery-state.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import type { Position } from "../event-store/event-store.ts";
import { mapBounded } from "../platform/bounded.ts";
import type { EndpointCursor } from "../projections/endpoint-cursors.ts";
import type { ReadSide } from "../projections/read-side.ts";
import type { Candidate, EndpointRequest, EndpointRoster } from "./endpoint-roster.ts";
import { contextOf } from "./job-services.ts";
import type { JobQueue } from "./queue.ts";

/** Requests that are made at once. */
const REQUESTS_AT_ONCE = 64;

export type FanOutOptions = PublicEventServices & {
  readonly pool: pg.Pool;
  readonly readSide: ReadSide;
  readonly jobs: JobQueue;
  readonly logger: Logger;
  readonly now: () => Instant;
  /** No other process works on this database: a crashed one's lease is taken at once. Default false. */
  readonly alone?: boolean;
};

/** What is known while this process leads. */
export type Following = {
  readonly roster: EndpointRoster;
  /** All events up to here were pushed to the endpoints that go with the fan-out. */
  pushed: Position;
  /** To be written with the checkpoint: new cursors, and endpoints that need theirs no more. */
  readonly cursors: Map<EndpointId, EndpointCursor>;
  readonly forgotten: Set<EndpointId>;
};

/** What an event is published as. `show`: with what a content filter looks at. */
export async function candidatesOf(
  services: PublicEventServices,
  event: StoredEvent,
  show: boolean,
): Promise<readonly Candidate[]> {
  const about = publishedAs(event).map((published) => ({ event, published, ...laneOf(event) }));
  return Promise.all(
    about.map(async (one) => ({
      ...one,
      shown: show ? await publicEvent(services, event, one.published.id) : undefined,
    })),
  );
}

/**
 * Requests deliveries, of each endpoint in the order of the log and all that comes before them. One that was requested
 * before stays as it is.
 */
export async function requestAll(
  { commands, now }: Pick<FanOutOptions, "commands" | "now">,
  roster: EndpointRoster,
  requests: readonly EndpointRequest[],
): Promise<void> {
  // The first of each endpoint stays.
  const firsts = new Map(requests.toReversed().map(({ source }) => [source.endpoint, source]));
  await mapBounded(requests, REQUESTS_AT_ONCE, async ({ client, delivery, event, source, request: about }) => {
    const { stream, revision } = firsts.get(source.endpoint) ?? source;
    const request = { ...about, source: { ...source, batchStart: { stream, revision } } };
    const cause = { correlation: event.meta.correlation, causation: event.id };
    const context = contextOf(client, cause, deriveUuid("request", delivery));
    const command = { type: "Request", at: now(), request } as const;
    const { state } = await commands.execute(deliveryDecider, deliveryStream(delivery), command, context, {
      newStream: true,
    });
    // It was requested and ended long ago: no event will say so.
    if (state.status !== "none" && hasEnded(state.status)) roster.ended(delivery);
  });
}
