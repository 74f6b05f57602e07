// Public events: what sockets, webhooks and pull are told, each with the schema of its `data`.
import { z } from "zod";
import { DeliveryResource } from "./deliveries.ts";
import { actor, time } from "./fields.ts";
import { MessageResource, ScheduledMessageResource } from "./messages.ts";
import { NotificationResource } from "./notifications.ts";
import { BanResource, MemberResource, RoomResource } from "./rooms.ts";

/** One kind of event: what its `data` is, and when it comes. */
type PublicEventKind = { readonly data: z.ZodType; readonly meaning: string };
const kind = (data: z.ZodType, meaning: string): PublicEventKind => ({ data, meaning });

const message = MessageResource;
const reaction = z
  .object({ message_id: z.string(), emoji: z.string(), user_id: z.string().nullable() })
  .meta({ id: "ReactionEventData" });
/** Those of rooms, which have a `seq` there. */
export const ROOM_EVENTS = {
  "room.created": kind(RoomResource, "A room was made."),
  "room.updated": kind(RoomResource, "The name, description or other settings of a room changed."),
  "room.deactivated": kind(RoomResource, "Nobody may post in the room for now."),
  "room.activated": kind(RoomResource, "The room is in use again."),
  "room.deleted": kind(RoomResource, "The room is gone for everyone."),
  "member.joined": kind(MemberResource, "A user came into a room."),
  "member.updated": kind(MemberResource, "The role, name or meta of a member changed."),
  "member.left": kind(
    MemberResource.extend({ reason: z.enum(["left", "removed", "banned"]) }),
    "A member left a room, or was removed or banned.",
  ),
  "member.banned": kind(BanResource, "A user may not come into a room any more."),
  "member.unbanned": kind(z.object({ user_id: z.string().nullable() }), "A user may come into a room again."),
  "message.posted": kind(message, "A message was posted."),
  "message.completed": kind(message, "A message that grew is whole: `data` has its content."),
  "message.cancelled": kind(message, "A message that grew was given up: `data` has what there was of it."),
  "message.edited": kind(message, "A message was changed: `data` is the message as it was changed to."),
  "message.restored": kind(message, "A deleted message came back."),
  "reaction.added": kind(reaction, "A user reacted to a message with an emoji."),
  "reaction.removed": kind(reaction, "A user took a reaction back."),
  "message.deleted": kind(z.object({ id: z.string(), seq: z.int(), deleted_at: time }), "A message was deleted."),
} as const;
export type RoomEventType = keyof typeof ROOM_EVENTS;

const notification = NotificationResource.omit({ deliveries: true }).meta({ id: "NotificationEventData" });
export type NotificationEventData = z.infer<typeof notification>;
const delivery = DeliveryResource.omit({ attempts: true }).meta({ id: "DeliveryEventData" });
export type DeliveryEventData = z.infer<typeof delivery>;

const provider = z.object({ name: z.string(), reason: z.string() }).meta({ id: "ProviderEventData" });

/** Those without a room. */
const OTHER_EVENTS = {
  "notification.accepted": kind(notification, "A notification was accepted, for now or for later."),
  "notification.cancelled": kind(notification, "A notification was cancelled: what is not sent yet will not be."),
  "notification.deleted": kind(notification, "A notification was deleted: its content and addresses are erased."),
  "delivery.sent": kind(delivery, "The provider took the mail."),
  "delivery.delivered": kind(
    delivery,
    "The recipient has it: acknowledged, answered by a 2xx, or reported by the provider.",
  ),
  "delivery.read": kind(delivery, "The user acknowledged it."),
  "delivery.retrying": kind(delivery, "An attempt failed, and another follows at `next_attempt_at`."),
  "delivery.fell_back": kind(delivery, "Nobody acknowledged it in time, and a mail goes out in its place."),
  "delivery.exhausted": kind(delivery, "The last attempt failed, or one failed for good: `error` says why."),
  "delivery.suppressed": kind(delivery, "It was not sent at all: `error` says why."),
  "delivery.bounced": kind(delivery, "The provider reports that the mail came back for good."),
  "delivery.complained": kind(delivery, "The provider reports that the recipient called the mail spam."),
  "delivery.opened": kind(delivery, "The provider reports that the mail was opened."),
  "delivery.cancelled": kind(delivery, "It was stopped before it was sent."),
  "delivery.expired": kind(delivery, "Its time was over before it was sent or acknowledged."),
  "provider.failed_over": kind(provider, "A mail went on with the next provider: `name` is the one that refused it."),
  "provider.down": kind(provider, "A provider gets no mail for now: it refused the account, or could not be reached."),
  "provider.up": kind(provider, "A provider takes mail again."),
  "webhook.disabled": kind(
    z.object({ endpoint_id: z.string(), reason: z.enum(["gone", "failing"]) }),
    "A webhook endpoint answered 410 (`gone`), or has only failed for five days (`failing`), and gets nothing more.",
  ),
  "webhook.test": kind(
    z.object({ endpoint_id: z.string() }),
    "Somebody tested the endpoint: it alone gets this, whatever its filters.",
  ),
} as const;

/** Those that the sender of a message for later is told of, and nobody else. */
export const PERSONAL_EVENTS = {
  "message.scheduled": kind(ScheduledMessageResource, "A message for later waits for its time."),
  "message.rescheduled": kind(ScheduledMessageResource, "A message for later says something else, or at another time."),
  "message.unscheduled": kind(ScheduledMessageResource, "A message for later was cancelled."),
  "message.refused": kind(ScheduledMessageResource, "The room did not take a message at its time: `reason` says why."),
} as const;
export type PersonalEventType = keyof typeof PERSONAL_EVENTS;
export const PERSONAL_EVENT_TYPES = Object.keys(PERSONAL_EVENTS) as PersonalEventType[];

const hiddenMessage = z
  .object({ id: z.string(), hidden: z.literal(true) })
  .meta({ id: "HiddenMessage", description: "Of a message from before the member joined, where the room hides those" });
/** What the `data` of an event may be as a user is told of it. */
export function dataForUsers(type: RoomEventType | PersonalEventType): z.ZodType {
  const { data } = { ...ROOM_EVENTS, ...PERSONAL_EVENTS }[type];
  return type in ROOM_EVENTS && /^(message|reaction)\./.test(type) ? z.union([data, hiddenMessage]) : data;
}

export const PUBLIC_EVENTS = { ...ROOM_EVENTS, ...OTHER_EVENTS } as const;
export type PublicEventType = keyof typeof PUBLIC_EVENTS;
export const PUBLIC_EVENT_TYPES = Object.keys(PUBLIC_EVENTS) as readonly PublicEventType[];

export type PublicActor = z.infer<typeof actor>;

/** What all public events have, beside `type` and `data`. */
export const eventMembers = {
  id: z.string().describe("The same wherever the event is told, and however often"),
  room_id: z.string().nullable().describe("null for what happens in no room"),
  seq: z.int().nullable().describe("Where it is among the events of its room"),
  at: time,
  position: z.string(),
  actor,
};
export type PublicEvent = z.infer<z.ZodObject<typeof eventMembers>> & {
  readonly type: PublicEventType;
  readonly data: object;
};

/** An event that one person alone is told of. */
export type PersonalEvent = Omit<PublicEvent, "type"> & { readonly type: PersonalEventType; readonly room_id: string };

/** The body of a webhook to an endpoint. */
export const webhookBody = (type: PublicEventType) => {
  const { at, ...members } = eventMembers;
  return z
    .object({
      type: z.literal(type),
      timestamp: at.describe("When it happened"),
      ...members,
      data: PUBLIC_EVENTS[type].data,
    })
    .describe(PUBLIC_EVENTS[type].meaning);
};
