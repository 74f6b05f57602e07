// The reactors: what each event of a notification or a delivery owes.

import {
  type DeliveryId,
  DeliveryIdSchema,
  type NotificationId,
  NotificationIdSchema,
  type Subject,
} from "../contract/ids.ts";
import { HOUR_MS, type Instant, SECOND_MS } from "../contract/time.ts";
import { deliveryStream } from "../domain/delivery.ts";
import { notificationStream } from "../domain/notification.ts";
import type { Work } from "./jobs.ts";
import { jobFor, type Reactor } from "./reactor.ts";

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

export const reactors: readonly Reactor[] = [notifications, deliveries];
