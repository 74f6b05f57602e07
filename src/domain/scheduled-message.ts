// domain/scheduled-message.ts: a message for later, until its time has come and the room has decided about it.
import { z } from "zod";
import type { FieldFault } from "../contract/errors.ts";
import {
  KeyIdSchema,
  MessageIdSchema,
  RoomIdSchema,
  type ScheduledMessageId,
  type Subject,
  SubjectSchema,
} from "../contract/ids.ts";
import { type JsonObject, JsonObjectSchema, sameJson } from "../contract/json.ts";
import type { Instant } from "../contract/time.ts";
import { type Actor, type Decider, DomainError, mergeMeta, refuse, type TimedCommand } from "./decider.ts";
import { type EventsOf, event, reveal, seal, sealed } from "./event.ts";
import { contentFaults } from "./message-rules.ts";
import { aYearAfter } from "./notification-times.ts";

export const SCHEDULED_STREAMS = "scheduled-";
export const scheduledStream = (id: ScheduledMessageId) => `${SCHEDULED_STREAMS}${id}`;

const said = {
  content: sealed(z.string()),
  meta: sealed(JsonObjectSchema),
  mentions: z.array(z.object({ subject: SubjectSchema, user: sealed(z.string()) })),
  everyone: z.boolean(),
  sendAt: z.number(),
};
const ofSaid = { content: "sender", meta: "sender", "mentions.*.user": "mentions.*.subject" };
const scheduled = z.object({
  room: RoomIdSchema,
  sender: SubjectSchema,
  user: sealed(z.string()),
  senderName: sealed(z.string()).nullable(),
  /** The key that scheduled it for its sender; null: the sender itself. */
  key: KeyIdSchema.nullable(),
  type: z.string(),
  replyTo: z.string().nullable(),
  threadOf: z.string().nullable(),
  ...said,
});
export type ScheduledData = z.infer<typeof scheduled>;

// Events. A storage format.
export const scheduledMessageEvents = {
  MessageScheduled: event({ data: scheduled, seals: { user: "sender", senderName: "sender", ...ofSaid } }),
  /** What it says and when, as it is from now on, all of it. */
  MessageRescheduled: event({ data: z.object({ sender: SubjectSchema, ...said }), seals: ofSaid }),
  MessageUnscheduled: event({ data: z.object({ sender: SubjectSchema }) }),
  /** Its time has come: it is the room's to decide, and can be neither changed nor cancelled. */
  MessageDue: event({ data: z.object({}) }),
  /** The room took it. */
  ScheduledMessagePosted: event({ data: z.object({ message: MessageIdSchema }) }),
  /** The room did not take it: `reason` is the code of the refusal. */
  MessageRefused: event({ data: z.object({ sender: SubjectSchema, reason: z.string() }) }),
} as const;
export type ScheduledMessageEvent = EventsOf<typeof scheduledMessageEvents>;

// State.
export type KnownScheduled = {
  readonly status: "scheduled" | "due" | "posted" | "refused" | "cancelled";
  readonly data: ScheduledData;
  readonly message: string | null;
  readonly reason: string | null;
  readonly createdAt: Instant;
};
export type ScheduledMessage = { readonly status: "none" } | KnownScheduled;

function evolve(state: ScheduledMessage, event: ScheduledMessageEvent, { at }: { at: Instant }): ScheduledMessage {
  if (event.type === "MessageScheduled")
    return { status: "scheduled", data: event.data, message: null, reason: null, createdAt: at };
  if (state.status === "none") return state;
  switch (event.type) {
    case "MessageRescheduled":
      return { ...state, data: { ...state.data, ...event.data } };
    case "MessageUnscheduled":
      return { ...state, status: "cancelled" };
    case "MessageDue":
      return { ...state, status: "due" };
    case "ScheduledMessagePosted":
      return { ...state, status: "posted", message: event.data.message };
    case "MessageRefused":
      return { ...state, status: "refused", reason: event.data.reason };
  }
}

// Commands, and what each means now.
type Changes = {
  readonly content?: string | undefined;
  /** A merge patch; null clears it. */
  readonly meta?: JsonObject | null | undefined;
  readonly mentions?: Pick<ScheduledData, "mentions" | "everyone"> | undefined;
  readonly sendAt?: Instant | undefined;
};
export type ScheduledMessageCommand = TimedCommand &
  (
    | { type: "Schedule"; data: ScheduledData }
    /** `faults`: what the room has against the changes. */
    | { type: "Change"; actor: Actor; changes: Changes; faults: readonly FieldFault[] }
    /** `admin`: the actor is one of the room's. */
    | { type: "Unschedule"; actor: Actor; admin: boolean }
    | { type: "SendNow"; actor: Actor }
    | { type: "Release" }
    | { type: "Finish"; message: string }
    | { type: "Refuse"; reason: string }
  );

const DUE: ScheduledMessageEvent = { type: "MessageDue", data: {} };

function decide(state: ScheduledMessage, command: ScheduledMessageCommand): readonly ScheduledMessageEvent[] {
  if (command.type === "Schedule") {
    refuse(timeFaults(command.data.sendAt, command.at));
    return state.status === "none" ? [{ type: "MessageScheduled", data: command.data }] : [];
  }
  if (state.status === "none") throw new DomainError("not_found");
  switch (command.type) {
    case "Change":
      requireOwn(state, command.actor);
      return change(state, command, command.at);
    case "Unschedule":
      // fence: scheduled-admins
      if (!command.admin) requireOwn(state, command.actor);
      if (state.status === "cancelled") return [];
      requireScheduled(state);
      return [{ type: "MessageUnscheduled", data: { sender: state.data.sender } }];
    case "SendNow":
      requireOwn(state, command.actor);
      if (state.status === "due" || state.status === "posted") return [];
      requireScheduled(state);
      return [DUE];
    case "Release":
      return state.status === "scheduled" && state.data.sendAt <= command.at ? [DUE] : [];
    case "Finish":
      if (state.status !== "due") return [];
      return [{ type: "ScheduledMessagePosted", data: { message: MessageIdSchema.parse(command.message) } }];
    case "Refuse":
      if (state.status !== "due") return [];
      return [{ type: "MessageRefused", data: { sender: state.data.sender, reason: command.reason } }];
  }
}

/** Another user's does not exist for anybody but a client key. */
export const isOwn = ({ data }: KnownScheduled, actor: Actor): boolean =>
  actor.type !== "user" || actor.id === data.sender;

function requireOwn(state: KnownScheduled, actor: Actor): void {
  // fence: scheduled-own
  if (!isOwn(state, actor)) throw new DomainError("not_found");
}

function requireScheduled({ status }: KnownScheduled): void {
  // fence: scheduled-once
  if (status !== "scheduled") throw new DomainError("not_scheduled");
}

/** A message waits for a year at most. */
export const timeFaults = (sendAt: Instant, at: Instant): readonly FieldFault[] =>
  /* fence: scheduled-year */ sendAt > aYearAfter(at)
    ? [{ path: "send_at", code: "too_large", message: "must be at most a year ahead" }]
    : [];

function change(
  state: KnownScheduled,
  { changes, faults }: { readonly changes: Changes; readonly faults: readonly FieldFault[] },
  at: Instant,
): readonly ScheduledMessageEvent[] {
  const { data } = state;
  const { content, meta, mentions, everyone, sendAt } = data;
  const next = {
    content: changes.content === undefined ? content : seal(changes.content),
    meta: changes.meta === undefined ? meta : seal(mergeMeta(reveal(meta) ?? {}, changes.meta)),
    mentions: changes.mentions?.mentions ?? mentions,
    everyone: changes.mentions?.everyone ?? everyone,
    sendAt: changes.sendAt ?? sendAt,
  };
  refuse([
    ...("open" in next.content && "open" in next.meta
      ? contentFaults(data.type, next.content.open, next.meta.open)
      : []),
    ...timeFaults(next.sendAt, at),
    ...faults,
  ]);
  requireScheduled(state);
  const changed: readonly ScheduledMessageEvent[] = sameJson(next, { content, meta, mentions, everyone, sendAt })
    ? []
    : [{ type: "MessageRescheduled", data: { sender: data.sender, ...next } }];
  return next.sendAt <= at ? [...changed, DUE] : changed;
}

export const scheduledMessageDecider: Decider<ScheduledMessage, ScheduledMessageEvent, ScheduledMessageCommand> = {
  name: "scheduled",
  events: scheduledMessageEvents,
  initial: { status: "none" },
  weigh: (state) => (state.status === "none" ? 0 : JSON.stringify(state.data).length / 1_000),
  evolve,
  decide,
};

/** Who posts it: its sender, or the key that scheduled it. */
export const posterOf = ({ key, sender }: Pick<ScheduledData, "key" | "sender">): Actor =>
  key === null ? { type: "user", id: sender satisfies Subject } : { type: "key", id: key };
