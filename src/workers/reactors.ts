// Reactors: the jobs that each event of a notification or a delivery leads to. They never run over the past again.
import {
  type ClientId,
  type DeliveryId,
  DeliveryIdSchema,
  type NotificationId,
  NotificationIdSchema,
  type Subject,
} from "../contract/ids.ts";
import type { Priority } from "../contract/resources.ts";
import { HOUR_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import type { DomainEvent } from "../domain/catalogue.ts";
import { deliveryStream } from "../domain/delivery.ts";
import { notificationStream } from "../domain/notification.ts";
import type { StoredEvent } from "../event-store/envelope.ts";
import { createJob, type Job, type Work } from "./jobs.ts";

type Handlers = {
  readonly [T in DomainEvent["type"]]?: (
    event: StoredEvent<Extract<DomainEvent, { type: T }>>,
  ) => readonly (Job | undefined)[];
};

/** Pure: the same event gives the same jobs with the same ids. */
type Reactor = { readonly name: string; readonly on: Handlers };

/**
 * The job that an event leads to; undefined for an event of no client. `reason` makes its id, by default the event's:
 * events that give the same reason share one job.
 */
function jobFor(
  event: StoredEvent,
  work: Work,
  options: { at?: Instant; priority?: Priority; reason?: string | number } = {},
): Job | undefined {
  const client: ClientId | null = event.meta.client;
  if (client === null) return undefined;
  return createJob(
    {
      client,
      priority: options.priority ?? "normal",
      cause: { correlation: event.meta.correlation, causation: event.id },
      work,
      at: options.at ?? null,
    },
    options.reason ?? event.id,
  );
}

/** Expiries further away than this get no job: the sweep finds them when they are due. Most are acknowledged before. */
const EXPIRY_JOB_WITHIN_MS = HOUR_MS;
/** Deliveries to one user within this time share one look at how many are open. */
const OVERFLOW_LOOK_EVERY_MS = 5 * SECOND_MS;

/** The ids that the streams are named by; throws for another stream. */
const notificationOf = (stream: string): NotificationId =>
  NotificationIdSchema.parse(stream.slice(notificationStream("ntf_").length - "ntf_".length));
const deliveryOf = (stream: string): DeliveryId =>
  DeliveryIdSchema.parse(stream.slice(deliveryStream("dlv_").length - "dlv_".length));

/** Releases, routes and stops notifications. */
const notifications: Reactor = {
  name: "notifications",
  on: {
    NotificationRequested: (event) => [scheduled(event.data.sendAt, event)],
    NotificationEdited: (event) => [scheduled(event.data.sendAt, event)],
    NotificationReleased: (event) => [jobFor(event, { kind: "route", notification: notificationOf(event.stream) })],
    NotificationStopRequested: (event) => [jobFor(event, { kind: "stop", notification: notificationOf(event.stream) })],
  },
};

/** Released in the same append when it is due already. */
function scheduled(sendAt: Instant | null, event: Parameters<typeof jobFor>[0]) {
  if (sendAt === null || sendAt <= event.meta.at) return undefined;
  return jobFor(event, { kind: "release", notification: notificationOf(event.stream) }, { at: sendAt });
}

/** Attempts, deadlines, fallbacks. */
const deliveries: Reactor = {
  name: "deliveries",
  on: {
    DeliveryRequested: (event) => {
      const delivery = deliveryOf(event.stream);
      const { channel, address, priority, recipient, expiresAt, fallbackAt } = event.data;
      // Without an address it ended in the same append.
      if (address === null) return [];
      if (channel !== "websocket") return [jobFor(event, { kind: "attempt", delivery, n: 1 }, { priority })];
      return [...deadlines(event, delivery, { expiresAt, fallbackAt }), overflow(event, recipient)];
    },
    DeliveryRetryScheduled: (event) => {
      const work: Work = { kind: "attempt", delivery: deliveryOf(event.stream), n: event.data.n };
      return [jobFor(event, work, { at: event.data.at })];
    },
    DeliveryRedriven: (event) => {
      const delivery = deliveryOf(event.stream);
      // Which of the two it needs, the delivery knows: the other finds nothing to do.
      return [jobFor(event, { kind: "attempt", delivery, n: null }), ...deadlines(event, delivery, event.data)];
    },
    DeliveryFallbackRequested: (event) => [jobFor(event, { kind: "mail", delivery: deliveryOf(event.stream) })],
  },
};

function deadlines(
  event: Parameters<typeof jobFor>[0],
  delivery: DeliveryId,
  { expiresAt, fallbackAt }: { readonly expiresAt: Instant; readonly fallbackAt: Instant | null },
) {
  return [
    fallbackAt === null ? undefined : jobFor(event, { kind: "fallback", delivery }, { at: fallbackAt }),
    expiresAt > event.meta.at + EXPIRY_JOB_WITHIN_MS
      ? undefined
      : jobFor(event, { kind: "expire", delivery }, { at: expiresAt }),
  ];
}

function overflow(event: Parameters<typeof jobFor>[0], recipient: Subject) {
  const look = Math.floor(event.meta.at / OVERFLOW_LOOK_EVERY_MS);
  const at = (look + 1) * OVERFLOW_LOOK_EVERY_MS;
  return jobFor(event, { kind: "overflow", recipient }, { at, reason: look });
}

const reactors: readonly Reactor[] = [notifications, deliveries];

/** The types of events that lead to jobs; others need not be opened. */
export const REACTED_TYPES: ReadonlySet<string> = new Set(reactors.flatMap((reactor) => Object.keys(reactor.on)));

/** The jobs that an event leads to in all reactors. */
export function jobsOf(event: StoredEvent): readonly Job[] {
  return reactors.flatMap(({ on }) => {
    // The handler under an event's type takes that event: the mapped type says so, tsc cannot follow.
    const handler = on[event.type] as ((event: StoredEvent) => readonly (Job | undefined)[]) | undefined;
    return (handler?.(event) ?? []).filter((job) => job !== undefined);
  });
}
