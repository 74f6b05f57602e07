// Every event type there is, and which streams hold it.

import { z } from "zod";
import { type BlobEvent, blobEvents } from "./blob.ts";
import { type ClaimEvent, claimEvents } from "./claim.ts";
import { type ClientEvent, clientEvents } from "./client.ts";
import { type KeyUseEvent, keyUseEvents } from "./client-keys.ts";
import { type CollapseEvent, collapseEvents } from "./collapse.ts";
import { type DedupeEvent, dedupeEvents } from "./dedupe.ts";
import { type DeliveryEvent, deliveryEvents } from "./delivery-state.ts";
import { type EventsOf, event } from "./event.ts";
import { type HookTokenEvent, hookTokenEvents } from "./hook-token.ts";
import { type InboxEvent, inboxEvents } from "./inbox.ts";
import { type NotificationEvent, notificationEvents } from "./notification.ts";
import { type PreferencesEvent, preferencesEvents } from "./preferences.ts";
import { type ReadsEvent, readsEvents } from "./reads.ts";
import { type RedriveEvent, redriveEvents } from "./redrive.ts";
import { type RoomEvent, roomEvents } from "./room-state.ts";
import { type ScheduledMessageEvent, scheduledMessageEvents } from "./scheduled-message.ts";
import { type SuppressionEvent, suppressionEvents } from "./suppression.ts";
import { type ThrottleEvent, throttleEvents } from "./throttle.ts";
import { type UserEvent, userEvents } from "./user.ts";

/** The log's own first event, and what readers get in place of an event that was not written by this program. */
const logEvents = {
  LogCreated: event({ data: z.object({ log_id: z.string() }) }),
  /** Never written: `type` is what the forged event said of itself. */
  EventForged: event({ data: z.object({ forged: z.literal(true), type: z.string() }) }),
} as const;

export const catalogue = {
  ...logEvents,
  ...clientEvents,
  ...keyUseEvents,
  ...userEvents,
  ...roomEvents,
  ...scheduledMessageEvents,
  ...readsEvents,
  ...claimEvents,
  ...dedupeEvents,
  ...throttleEvents,
  ...collapseEvents,
  ...preferencesEvents,
  ...notificationEvents,
  ...deliveryEvents,
  ...redriveEvents,
  ...suppressionEvents,
  ...blobEvents,
  ...inboxEvents,
  ...hookTokenEvents,
} as const;

export type DomainEvent =
  | EventsOf<typeof logEvents>
  | ClientEvent
  | KeyUseEvent
  | UserEvent
  | RoomEvent
  | ScheduledMessageEvent
  | ReadsEvent
  | ClaimEvent
  | DedupeEvent
  | ThrottleEvent
  | CollapseEvent
  | PreferencesEvent
  | NotificationEvent
  | DeliveryEvent
  | RedriveEvent
  | SuppressionEvent
  | BlobEvent
  | InboxEvent
  | HookTokenEvent;
