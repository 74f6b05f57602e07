// domain/notification.ts: a notification decides until its time has come; from then on each delivery does.
import { z } from "zod";
import { ClientIdSchema, KeyRefSchema, type NotificationId, RoomIdSchema, SubjectSchema } from "../contract/ids.ts";
import { JsonObjectSchema, JsonValueSchema, sameJson } from "../contract/json.ts";
import { ChannelSchema, PrioritySchema } from "../contract/resources.ts";
import type { Instant } from "../contract/time.ts";
import type { Decider, EventContext, TimedCommand } from "./decider.ts";
import { DomainError } from "./errors.ts";
import { type EventsOf, event, sealed } from "./event.ts";

export const notificationStream = (id: NotificationId) => `notification-${id}`;

/** Whom a delivery goes to. `address`: a mail address, a user id or a URL; `subject`: its HMAC. */
const recipient = z.object({
  subject: SubjectSchema,
  address: sealed(z.string()),
  name: sealed(z.string()).nullable(),
});
export type Recipient = z.infer<typeof recipient>;

/** What may be edited while it is scheduled. `contentKey` seals it: the recipient's, or the notification's own. */
const content = z.object({
  contentKey: KeyRefSchema,
  subject: sealed(z.string()).nullable(),
  content: sealed(JsonValueSchema),
  text: sealed(z.string()).nullable(),
  meta: sealed(JsonObjectSchema),
  priority: PrioritySchema,
  sendAt: z.number().nullable(),
  expiresAt: z.number(),
});
export type NotificationContent = z.infer<typeof content>;
const contentSeals = { subject: "contentKey", content: "contentKey", text: "contentKey", meta: "contentKey" };

const fallback = z.object({
  /** Where the mail goes; null: to the user's address at that time. */
  to: recipient.omit({ name: true }).nullable(),
  subject: sealed(z.string()).nullable(),
  content: sealed(z.string()).nullable(),
  afterMs: z.number(),
});
export type Fallback = z.infer<typeof fallback>;

const requested = content.extend({
  client: ClientIdSchema,
  channel: ChannelSchema,
  roomId: RoomIdSchema.nullable(),
  recipients: z.array(recipient),
  /** A room's members at a seq, expanded by the router; `recipients` is empty then. */
  audience: z.object({ roomId: RoomIdSchema, atSeq: z.number(), count: z.number() }).nullable(),
  replyTo: sealed(z.string()).nullable(),
  cc: sealed(z.array(z.string())),
  bcc: sealed(z.array(z.string())),
  fallback: fallback.nullable(),
});
export type NotificationData = z.infer<typeof requested>;

// Events. A storage format.
export const notificationEvents = {
  NotificationRequested: event({
    data: requested,
    seals: {
      ...contentSeals,
      replyTo: "contentKey",
      cc: "contentKey",
      bcc: "contentKey",
      "recipients.*.address": "recipients.*.subject",
      "recipients.*.name": "recipients.*.subject",
      "fallback.to.address": "fallback.to.subject",
      "fallback.subject": "contentKey",
      "fallback.content": "contentKey",
    },
  }),
  /** The content as it is from now on, all of it. */
  NotificationEdited: event({ data: content, seals: contentSeals }),
  NotificationReleased: event({ data: z.object({}) }),
  /** Cancelled before its release: nothing was ever sent. */
  NotificationCancelled: event({ data: z.object({}) }),
  /** Cancelled after its release: the router makes nothing more and stops each delivery. */
  NotificationStopRequested: event({ data: z.object({}) }),
  /** Every delivery has been requested. */
  NotificationRouted: event({ data: z.object({ deliveries: z.number() }) }),
} as const;
export type NotificationEvent = EventsOf<typeof notificationEvents>;

// State.
export type KnownNotification = {
  readonly status: "scheduled" | "released" | "cancelled";
  readonly data: NotificationData;
  readonly stopRequested: boolean;
  readonly routed: boolean;
  readonly revision: number;
  readonly createdAt: Instant;
  readonly updatedAt: Instant;
};
type Notification = { readonly status: "none" } | KnownNotification;

function evolve(state: Notification, event: NotificationEvent, context: EventContext): Notification {
  const revision = context.seq - 1;
  if (event.type === "NotificationRequested") {
    const times = { revision, createdAt: context.at, updatedAt: context.at };
    return { status: "scheduled", data: event.data, stopRequested: false, routed: false, ...times };
  }
  if (state.status === "none") return state;
  const known = { ...state, revision, updatedAt: context.at };
  switch (event.type) {
    case "NotificationEdited":
      return { ...known, data: { ...known.data, ...event.data } };
    case "NotificationReleased":
      return { ...known, status: "released" };
    case "NotificationCancelled":
      return { ...known, status: "cancelled" };
    case "NotificationStopRequested":
      return { ...known, stopRequested: true };
    case "NotificationRouted":
      return { ...known, routed: true };
  }
}

// Commands, and what each means now.
export type NotificationCommand = TimedCommand &
  (
    | { type: "Request"; data: NotificationData }
    /** Makes the new content from the old. */
    | { type: "Edit"; change: (old: NotificationContent) => NotificationContent; ifMatch: number | null }
    | { type: "Release" }
    /** `openDeliveries`: whether any of its deliveries had not ended when last seen. */
    | { type: "Cancel"; openDeliveries: boolean; ifMatch: number | null }
    | { type: "MarkRouted"; deliveries: number }
  );

const due = (sendAt: Instant | null, at: Instant): boolean => sendAt === null || sendAt <= at;
const RELEASED: NotificationEvent = { type: "NotificationReleased", data: {} };

function requireMatch(ifMatch: number | null, state: KnownNotification): void {
  if (ifMatch !== null && ifMatch !== state.revision) {
    throw new DomainError("precondition_failed", `the current ETag is "${state.revision}"`);
  }
}

function decide(state: Notification, command: NotificationCommand): readonly NotificationEvent[] {
  if (command.type === "Request") {
    if (state.status !== "none") return [];
    const asked: NotificationEvent = { type: "NotificationRequested", data: command.data };
    return due(command.data.sendAt, command.at) ? [asked, RELEASED] : [asked];
  }
  if (state.status === "none") throw new DomainError("not_found");
  switch (command.type) {
    case "Edit":
      return edit(state, command);
    case "Release":
      return state.status === "scheduled" && due(state.data.sendAt, command.at) ? [RELEASED] : [];
    case "Cancel":
      requireMatch(command.ifMatch, state);
      if (state.status === "cancelled" || state.stopRequested) return [];
      if (state.status === "scheduled") return [{ type: "NotificationCancelled", data: {} }];
      if (state.routed && !command.openDeliveries) throw new DomainError("not_cancellable", "every delivery has ended");
      return [{ type: "NotificationStopRequested", data: {} }];
    case "MarkRouted":
      if (state.status !== "released" || state.routed) return [];
      return [{ type: "NotificationRouted", data: { deliveries: command.deliveries } }];
  }
}

function edit(
  state: KnownNotification,
  command: Extract<NotificationCommand, { type: "Edit" }>,
): readonly NotificationEvent[] {
  requireMatch(command.ifMatch, state);
  if (state.status !== "scheduled")
    throw new DomainError("not_editable", "only a scheduled notification can be edited");
  const { contentKey, subject, text, meta, priority, sendAt, expiresAt } = state.data;
  const old = { contentKey, subject, content: state.data.content, text, meta, priority, sendAt, expiresAt };
  const next = command.change(old);
  if (sameJson(next, old)) return [];
  const edited: NotificationEvent = { type: "NotificationEdited", data: next };
  return due(next.sendAt, command.at) ? [edited, RELEASED] : [edited];
}

export const notificationDecider: Decider<Notification, NotificationEvent, NotificationCommand> = {
  name: "notification",
  events: notificationEvents,
  initial: { status: "none" },
  weigh: (state) => (state.status === "none" ? 0 : JSON.stringify(state.data).length / 1_000),
  evolve,
  decide,
};
