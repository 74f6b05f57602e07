// Reactors: the jobs that each event of a notification, a delivery or a redrive leads to. They never run over the past again.
import type { Subject } from "../contract/ids.ts";
import { HOUR_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import type { DomainEvent } from "../domain/catalogue.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import { deliveryOf, notificationOf, redriveOf, scheduledOf, subjectOf } from "../projections/projection.ts";
import { createJob, type Job, type Work } from "./jobs.ts";

/** What an event leads to. Events that give the same `reason` share one job; by default each has its own. */
type DueWork = Partial<Pick<Job, "at" | "priority">> & { readonly work: Work; readonly reason?: number };
type Handlers = {
  readonly [T in DomainEvent["type"]]?: (event: StoredEvent<Extract<DomainEvent, { type: T }>>) => readonly DueWork[];
};

/** Expiries further away than this get no job: the sweep finds them when they are due. Most are acknowledged before. */
const EXPIRY_JOB_WITHIN_MS = HOUR_MS;
/** Deliveries to one user within this time share one look at how many are open. */
const OVERFLOW_LOOK_EVERY_MS = 5 * SECOND_MS;

/** Pure: the same event gives the same jobs with the same ids. */
const handlers: Handlers = {
  NotificationRequested: (event) => scheduled(event.data.sendAt, event),
  NotificationEdited: (event) => scheduled(event.data.sendAt, event),
  NotificationReleased: (event) => [{ work: { kind: "route", notification: notificationOf(event.stream) } }],
  NotificationStopRequested: (event) => [{ work: { kind: "stop", notification: notificationOf(event.stream) } }],
  NotificationDeleted: (event) => [{ work: { kind: "erase", notification: notificationOf(event.stream) } }],
  MessageScheduled: ({ stream, data: { sendAt: at } }) => [
    { work: { kind: "post", scheduled: scheduledOf(stream) }, at },
  ],
  MessageRescheduled: ({ stream, data: { sendAt: at } }) => [
    { work: { kind: "post", scheduled: scheduledOf(stream) }, at },
  ],
  DeliveryRequested: (event) => {
    const { channel, address, priority, recipient, withheld } = event.data;
    // Without an address it ended in the same append. What withholds it has a job of its own.
    if (address === null || withheld) return [];
    if (channel === "websocket") return [...deadlines(event), overflow(event.meta.at, recipient)];
    return [{ work: { kind: "attempt", delivery: deliveryOf(event.stream), n: 1 }, priority }];
  },
  DeliveryRetryScheduled: (event) => {
    const { n, at } = event.data;
    return [{ work: { kind: "attempt", delivery: deliveryOf(event.stream), n }, at }];
  },
  // Which of them it needs, the delivery knows: the others find nothing to do.
  DeliveryRedriven: (event) =>
    event.data.withheld
      ? []
      : [{ work: { kind: "attempt", delivery: deliveryOf(event.stream), n: null } }, ...deadlines(event)],
  DeliveryHeld: (event) => {
    const { channel, until: at } = event.data;
    const delivery = deliveryOf(event.stream);
    return [
      { work: channel === "websocket" ? { kind: "endHold", delivery } : { kind: "attempt", delivery, n: null }, at },
    ];
  },
  InboxMarked: ({ stream, revision, data }) =>
    data.as === "seen" ? [] : [{ work: { kind: "acknowledge", recipient: subjectOf(stream), mark: revision } }],
  RedriveRequested: (event) => [{ work: { kind: "redrive", redrive: redriveOf(event.stream) } }],
  DeliveryReleased: (event) => [...deadlines(event), overflow(event.meta.at, event.data.recipient)],
  DeliveryCollapsed: ({ data: { replaced } }) =>
    replaced === null ? [] : [{ work: { kind: "replace", delivery: replaced } }],
  DeliveryFallbackRequested: (event) => [{ work: { kind: "mail", delivery: deliveryOf(event.stream) } }],
};

/** Released in the same append when it is due already. */
function scheduled(sendAt: Instant | null, event: StoredEvent): readonly DueWork[] {
  if (sendAt === null || sendAt <= event.meta.at) return [];
  return [{ work: { kind: "release", notification: notificationOf(event.stream) }, at: sendAt }];
}

function deadlines(event: Pick<StoredEvent, "stream" | "meta"> & { readonly data: Deadlines }): readonly DueWork[] {
  const { expiresAt, fallbackAt } = event.data;
  const delivery = deliveryOf(event.stream);
  const soon = expiresAt <= event.meta.at + EXPIRY_JOB_WITHIN_MS;
  return [
    ...(fallbackAt === null ? [] : [{ work: { kind: "fallback", delivery } as const, at: fallbackAt }]),
    ...(soon ? [{ work: { kind: "expire", delivery } as const, at: expiresAt }] : []),
  ];
}
type Deadlines = { readonly expiresAt: Instant; readonly fallbackAt: Instant | null };

function overflow(requestedAt: Instant, recipient: Subject): DueWork {
  const reason = Math.floor(requestedAt / OVERFLOW_LOOK_EVERY_MS);
  return { work: { kind: "overflow", recipient }, at: (reason + 1) * OVERFLOW_LOOK_EVERY_MS, reason };
}

/** The types of events that lead to jobs; others need not be opened. */
export const REACTED_TYPES: ReadonlySet<string> = new Set(Object.keys(handlers));

/** The jobs that an event leads to. None for an event of no client. */
export function jobsOf(event: StoredEvent): readonly Job[] {
  const { client, correlation } = event.meta;
  // The handler under an event's type takes that event: the mapped type says so, tsc cannot follow.
  const handler = handlers[event.type] as ((event: StoredEvent) => readonly DueWork[]) | undefined;
  if (client === null || handler === undefined) return [];
  const cause = { correlation, causation: event.id };
  const { endpoint = null } = "endpoint" in event.data ? event.data : {};
  return handler(event).map(({ work, at = null, priority = "normal", reason = event.id }) =>
    createJob({ client, endpoint, priority, cause, work, at }, reason),
  );
}
