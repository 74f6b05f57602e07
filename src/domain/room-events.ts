// What happens in a room: a storage format, read for as long as logs live.
import { z } from "zod";
import { MessageIdSchema, SubjectSchema } from "../contract/ids.ts";
import { JsonObjectSchema } from "../contract/json.ts";
import { RoleSchema, RoomKindSchema } from "../contract/resources.ts";
import { type EventsOf, event, sealed } from "./event.ts";

const member = z.object({
  subject: SubjectSchema,
  /** The client's own id of the user. */
  user: sealed(z.string()),
  role: RoleSchema,
  name: sealed(z.string()).nullable(),
  meta: sealed(JsonObjectSchema),
});
const settings = z.object({
  name: z.string(),
  description: z.string().nullable(),
  kind: RoomKindSchema,
  meta: JsonObjectSchema,
});
const content = { content: sealed(z.string()), meta: sealed(JsonObjectSchema) };
const forSubject = { user: "subject", name: "subject", meta: "subject" };
const forSender = { user: "sender", senderName: "sender", content: "sender", meta: "sender" };

export const roomEvents = {
  RoomCreated: event({
    data: settings.extend({ externalId: z.string().nullable(), members: z.array(member) }),
    seals: {
      "members.*.user": "members.*.subject",
      "members.*.name": "members.*.subject",
      "members.*.meta": "members.*.subject",
    },
  }),
  /** The settings as they are from now on, all of them. */
  RoomUpdated: event({ data: settings }),
  RoomDeactivated: event({ data: z.object({}) }),
  RoomActivated: event({ data: z.object({}) }),
  RoomDeleted: event({ data: z.object({}) }),
  MemberJoined: event({ data: member, seals: forSubject }),
  MemberUpdated: event({ data: member, seals: forSubject }),
  MemberLeft: event({
    data: z.object({ subject: SubjectSchema, user: sealed(z.string()), reason: z.enum(["left", "removed"]) }),
    seals: { user: "subject" },
  }),
  MessagePosted: event({
    data: z.object({
      id: MessageIdSchema,
      sender: SubjectSchema,
      user: sealed(z.string()),
      senderName: sealed(z.string()).nullable(),
      type: z.string(),
      ...content,
      replyTo: MessageIdSchema.nullable(),
      /** Which of the room's messages it is, from 1; `system` ones repeat the last number. Unread is a difference of these. */
      ordinal: z.number(),
    }),
    seals: forSender,
  }),
  MessageEdited: event({
    data: z.object({ id: MessageIdSchema, messageSeq: z.number(), sender: SubjectSchema, ...content }),
    seals: { content: "sender", meta: "sender" },
  }),
  MessageDeleted: event({ data: z.object({ id: MessageIdSchema, messageSeq: z.number() }) }),
  MessageRestored: event({ data: z.object({ id: MessageIdSchema, messageSeq: z.number() }) }),
} as const;

export type RoomEvent = EventsOf<typeof roomEvents>;
export type MemberData = z.infer<typeof member>;
export type RoomSettings = z.infer<typeof settings>;
