// domain/notification.ts: a notification decides until its time has come; from then on each delivery does.
import { z } from "zod";
import { type Channel, ChannelSchema, ContentTypeSchema, PrioritySchema } from "../contract/deliveries.ts";
import type { FieldFault } from "../contract/errors.ts";
import { ClientIdSchema, KeyRefSchema, type NotificationId, RoomIdSchema, SubjectSchema } from "../contract/ids.ts";
import {
  isObject,
  type JsonObject,
  JsonObjectSchema,
  type JsonValue,
  JsonValueSchema,
  mergePatch,
  sameJson,
} from "../contract/json.ts";
import { contentSizeFaults, mailSubjectFaults, type NotificationPatch } from "../contract/notifications.ts";
import type { Instant } from "../contract/time.ts";
import {
  type Decider,
  DomainError,
  type EventContext,
  type IfMatch,
  metaFaults,
  refuse,
  requireMatch,
  type TimedCommand,
} from "./decider.ts";
import { type EventsOf, event, reveal, seal, sealed, sealOrNull } from "./event.ts";
import { newTimes } from "./notification-times.ts";

export const notificationStream = (id: NotificationId) => `notification-${id}`;

/** Whom a delivery goes to. `address`: a mail address, a user id or a URL; `subject`: its HMAC. */
const recipient = z.object({
  subject: SubjectSchema,
  address: sealed(z.string()),
  name: sealed(z.string()).nullable(),
  /** Of a mail: the user whom its request names beside the address. */
  user: SubjectSchema.nullable(),
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
  to: recipient.omit({ name: true, user: true }).nullable(),
  subject: sealed(z.string()).nullable(),
  content: sealed(z.string()).nullable(),
  afterMs: z.number(),
});
export type Fallback = z.infer<typeof fallback>;

/** A key that a request names, as an HMAC: streams are named after it, and it tells nobody what it was. */
const keyHash = z.string();

const attachment = z.object({
  blob: z.string(),
  filename: z.string(),
  contentType: z.string(),
  /** Bytes. */
  size: z.number(),
  contentId: z.string().nullable(),
});
export type Attachment = z.infer<typeof attachment>;

const requested = content.extend({
  client: ClientIdSchema,
  channel: ChannelSchema,
  roomId: RoomIdSchema.nullable(),
  recipients: z.array(recipient),
  /** A room's members at a seq, expanded by the router; `recipients` is empty then. */
  audience: z.object({ roomId: RoomIdSchema, atSeq: z.number(), count: z.number() }).nullable(),
  /** Of an email. Null: told by its content. */
  contentType: ContentTypeSchema.nullable(),
  replyTo: sealed(z.string()).nullable(),
  cc: sealed(z.array(z.string())),
  bcc: sealed(z.array(z.string())),
  fallback: fallback.nullable(),
  category: z.string().nullable(),
  tag: z.string().nullable(),
  /** The sender of a mail. Null: its provider's. */
  sender: sealed(z.object({ email: z.string(), name: z.string().nullable() })).nullable(),
  /** The only provider that sends it. Null: any. */
  provider: z.string().nullable(),
  /** Further headers of a mail or a webhook. */
  headers: sealed(z.array(z.object({ name: z.string(), value: z.string() }))),
  /** A webhook's `Authorization`: the client's secret. */
  authorization: sealed(z.string()).nullable(),
  /** The `type` in a webhook's body. */
  eventType: z.string(),
  /** Whether its mails can be unsubscribed from by one click. */
  unsubscribe: z.boolean(),
  dedupe: z.object({ key: keyHash, windowMs: z.number() }).nullable(),
  collapse: z.object({ key: keyHash }).nullable(),
  throttle: z.object({ key: keyHash, limit: z.number(), perMs: z.number() }).nullable(),
  /** Of a mail; the content of each is in a stream of its own. */
  attachments: sealed(z.array(attachment)),
});
export type NotificationData = z.infer<typeof requested>;

/** What a notification has that names none of the options which version 2 did not know, nor files, which 3 did not. */
export const WITHOUT_OPTIONS = {
  ...{ category: null, tag: null, sender: null, provider: null, headers: { open: [] }, authorization: null },
  ...{ eventType: "notification", unsubscribe: false, dedupe: null, collapse: null, throttle: null },
  attachments: { open: [] },
};
const withoutUser = (one: JsonObject): JsonObject => ({ ...one, user: null });

// Events. A storage format.
export const notificationEvents = {
  NotificationRequested: event({
    v: 4,
    data: requested,
    upcasts: {
      // Version 1 could not say what its content is.
      1: (data) => ({ ...data, contentType: null }),
      2: (data) => ({ ...data, ...WITHOUT_OPTIONS, recipients: (data.recipients as JsonObject[]).map(withoutUser) }),
      3: (data) => ({ ...data, attachments: WITHOUT_OPTIONS.attachments }),
    },
    seals: {
      ...contentSeals,
      replyTo: "contentKey",
      cc: "contentKey",
      bcc: "contentKey",
      sender: "contentKey",
      headers: "contentKey",
      attachments: "contentKey",
      authorization: "client",
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
  /**
   * Its content and addresses read as erased from now on, wherever they are shown. The key of its own content is destroyed;
   * what a person's key seals stays in the log until that person is erased.
   */
  NotificationDeleted: event({ data: z.object({}) }),
  /** It was never requested, and can no longer be: whoever was to do so held a deduplication key for too long. */
  NotificationAbandoned: event({ data: z.object({}) }),
  /** Every delivery has been requested. */
  NotificationRouted: event({ data: z.object({ deliveries: z.number() }) }),
} as const;
export type NotificationEvent = EventsOf<typeof notificationEvents>;

// State.
export type KnownNotification = {
  readonly status: "scheduled" | "released" | "cancelled";
  readonly data: NotificationData;
  readonly stopRequested: boolean;
  /** Null until then. */
  readonly releasedAt: Instant | null;
  readonly routed: boolean;
  readonly deleted: boolean;
  readonly revision: number;
  readonly createdAt: Instant;
  readonly updatedAt: Instant;
};
export type Notification = { readonly status: "none"; readonly abandoned?: true } | KnownNotification;

function evolve(state: Notification, event: NotificationEvent, context: EventContext): Notification {
  const revision = context.seq - 1;
  if (event.type === "NotificationRequested") {
    const times = { revision, createdAt: context.at, updatedAt: context.at };
    const nothingYet = { stopRequested: false, releasedAt: null, routed: false, deleted: false } as const;
    return { status: "scheduled", data: event.data, ...nothingYet, ...times };
  }
  if (event.type === "NotificationAbandoned") return { status: "none", abandoned: true };
  if (state.status === "none") return state;
  const known = { ...state, revision, updatedAt: context.at };
  switch (event.type) {
    case "NotificationEdited":
      return { ...known, data: { ...known.data, ...event.data } };
    case "NotificationReleased":
      return { ...known, status: "released", releasedAt: context.at };
    case "NotificationCancelled":
      return { ...known, status: "cancelled" };
    case "NotificationStopRequested":
      return { ...known, stopRequested: true };
    case "NotificationDeleted":
      return { ...known, deleted: true, data: withoutContent(known.data) };
    case "NotificationRouted":
      return { ...known, routed: true };
  }
}

const ERASED = { erased: true } as const;
const erasedOrNull = <T>(field: T | null): typeof ERASED | null => (field === null ? null : ERASED);

/** What stays of a notification that was deleted: whom it was for, by subject, and how it was sent. */
const withoutContent = (data: NotificationData): NotificationData => ({
  ...data,
  ...{ content: ERASED, meta: ERASED, cc: ERASED, bcc: ERASED, headers: ERASED, attachments: ERASED },
  subject: erasedOrNull(data.subject),
  text: erasedOrNull(data.text),
  replyTo: erasedOrNull(data.replyTo),
  sender: erasedOrNull(data.sender),
  authorization: erasedOrNull(data.authorization),
  recipients: data.recipients.map((one) => ({ ...one, address: ERASED, name: erasedOrNull(one.name) })),
  fallback: data.fallback && {
    ...data.fallback,
    to: data.fallback.to && { ...data.fallback.to, address: ERASED },
    subject: erasedOrNull(data.fallback.subject),
    content: erasedOrNull(data.fallback.content),
  },
});

// Commands, and what each means now.
export type NotificationCommand = TimedCommand &
  (
    | { type: "Request"; data: NotificationData }
    /** Makes sure that what does not exist will never be requested. */
    | { type: "Abandon" }
    | { type: "Edit"; patch: NotificationPatch; ifMatch: IfMatch }
    | { type: "Release" }
    /** `openDeliveries`: whether any of its deliveries had not ended when last seen. */
    | { type: "Cancel"; openDeliveries: boolean; ifMatch: IfMatch }
    /** `openDeliveries` as of `Cancel`. */
    | { type: "Delete"; openDeliveries: boolean; ifMatch: IfMatch }
    | { type: "MarkRouted"; deliveries: number }
  );

const isDue = (sendAt: Instant | null, at: Instant): boolean => sendAt === null || sendAt <= at;
const RELEASED: NotificationEvent = { type: "NotificationReleased", data: {} };

function decide(state: Notification, command: NotificationCommand): readonly NotificationEvent[] {
  if (command.type === "Request") {
    if (state.status !== "none") return [];
    // fence: dedupe-abandoned
    if (state.abandoned === true) throw new DomainError("unavailable", "the request took too long; send it again");
    const requested: NotificationEvent = { type: "NotificationRequested", data: command.data };
    return isDue(command.data.sendAt, command.at) ? [requested, RELEASED] : [requested];
  }
  if (command.type === "Abandon") {
    return state.status === "none" && state.abandoned !== true ? [{ type: "NotificationAbandoned", data: {} }] : [];
  }
  if (state.status === "none") throw new DomainError("not_found");
  switch (command.type) {
    case "Edit":
      return edit(state, command);
    case "Release":
      return state.status === "scheduled" && isDue(state.data.sendAt, command.at) ? [RELEASED] : [];
    case "Cancel":
      requireMatch(command.ifMatch, state.revision);
      if (state.status === "cancelled" || state.stopRequested) return [];
      if (state.status === "scheduled") return [{ type: "NotificationCancelled", data: {} }];
      if (state.routed && !command.openDeliveries) throw new DomainError("not_cancellable", "every delivery has ended");
      return [{ type: "NotificationStopRequested", data: {} }];
    case "Delete": {
      if (state.deleted) return [];
      requireMatch(command.ifMatch, state.revision);
      const deleted: NotificationEvent = { type: "NotificationDeleted", data: {} };
      if (state.status === "scheduled") return [{ type: "NotificationCancelled", data: {} }, deleted];
      const isOpen = state.status === "released" && !state.stopRequested && (!state.routed || command.openDeliveries);
      return isOpen ? [{ type: "NotificationStopRequested", data: {} }, deleted] : [deleted];
    }
    case "MarkRouted":
      if (state.status !== "released" || state.routed) return [];
      return [{ type: "NotificationRouted", data: { deliveries: command.deliveries } }];
  }
}

function edit(
  state: KnownNotification,
  { patch, ifMatch, at }: Extract<NotificationCommand, { type: "Edit" }>,
): readonly NotificationEvent[] {
  refuse(patchFaults(state.data.channel, patch));
  requireMatch(ifMatch, state.revision);
  if (state.status !== "scheduled")
    throw new DomainError("not_editable", "only a scheduled notification can be edited");
  const { contentKey, subject, content, text, meta, priority, sendAt, expiresAt } = state.data;
  const old = { contentKey, subject, content, text, meta, priority, sendAt, expiresAt };
  const next = patched(old, patch, at, state.createdAt);
  if (sameJson(next, old)) return [];
  const edited: NotificationEvent = { type: "NotificationEdited", data: next };
  return isDue(next.sendAt, at) ? [edited, RELEASED] : [edited];
}

/** What a patch may not say about a notification of this channel, whatever it was before. */
function patchFaults(channel: Channel, { subject, content, text }: NotificationPatch): readonly FieldFault[] {
  const faults: FieldFault[] = [];
  if (channel === "email" && subject === null) {
    faults.push({ path: "subject", code: "required", message: "an email has a subject" });
  }
  if (channel === "email" && typeof subject === "string") faults.push(...mailSubjectFaults(subject));
  if (channel !== "email" && text !== undefined && text !== null) {
    faults.push({ path: "text", code: "not_allowed", message: "only an email has a text" });
  }
  if (channel === "webhook" || content === undefined) return faults;
  if (content === null) faults.push({ path: "content", code: "required", message: "is required" });
  else if (typeof content !== "string")
    faults.push({ path: "content", code: "wrong_type", message: "must be a string" });
  else if (content === "") {
    faults.push({ path: "content", code: "too_short", message: "must have at least 1 character" });
  }
  return faults;
}

/** The content after a merge patch. Throws InvalidInput for what only the old content can show to be wrong. */
function patched(
  old: NotificationContent,
  patch: NotificationPatch,
  at: Instant,
  createdAt: Instant,
): NotificationContent {
  const faults: FieldFault[] = [];
  const text = patch.text === undefined ? reveal(old.text) : patch.text;
  const content = patch.content === undefined ? reveal(old.content) : merged(reveal(old.content), patch.content);
  const meta = patch.meta === null ? {} : mergePatch(reveal(old.meta) ?? {}, patch.meta ?? {});
  faults.push(...contentSizeFaults(content, text), ...metaFaults(meta));
  const times = newTimes(old, patch, at, createdAt, faults);
  refuse(faults);
  return {
    contentKey: old.contentKey,
    subject: patch.subject === undefined ? old.subject : sealOrNull(patch.subject),
    content: patch.content === undefined ? old.content : seal(content),
    text: patch.text === undefined ? old.text : sealOrNull(patch.text),
    meta: patch.meta === undefined ? old.meta : seal(meta),
    priority: patch.priority === undefined ? old.priority : (patch.priority ?? "normal"),
    ...times,
  };
}

/** RFC 7396 on any JSON: objects merge, all else replaces. */
const merged = (old: JsonValue, patch: JsonValue): JsonValue =>
  isObject(patch) ? mergePatch(isObject(old) ? old : {}, patch) : patch;

export const notificationDecider: Decider<Notification, NotificationEvent, NotificationCommand> = {
  name: "notification",
  events: notificationEvents,
  initial: { status: "none" },
  weigh: (state) => (state.status === "none" ? 0 : JSON.stringify(state.data).length / 1_000),
  evolve,
  decide,
};
