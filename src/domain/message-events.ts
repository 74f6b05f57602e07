// The events of a room's messages: posted, ended growing, edited, deleted, restored, reacted to. A storage format.
import { z } from "zod";
import { MessageIdSchema, SubjectSchema } from "../contract/ids.ts";
import { type JsonObject, JsonObjectSchema } from "../contract/json.ts";
import { event, sealed } from "./event.ts";

const content = {
  content: sealed(z.string()),
  meta: sealed(JsonObjectSchema),
  /** Everybody whom the message mentions, each once. */
  mentions: z.array(z.object({ subject: SubjectSchema, user: sealed(z.string()) })),
  /** Whether it mentions all members, whoever they are. */
  everyone: z.boolean(),
};
const ofMentioned = { "mentions.*.user": "mentions.*.subject" };
const nobody = { mentions: [], everyone: false };

const posted = z.object({
  id: MessageIdSchema,
  sender: SubjectSchema,
  user: sealed(z.string()),
  senderName: sealed(z.string()).nullable(),
  type: z.string(),
  ...content,
  replyTo: MessageIdSchema.nullable(),
  /** The message whose thread it is in, and the seq of that one's posting. */
  thread: z.object({ id: MessageIdSchema, seq: z.number() }).nullable(),
  /**
   * Which of the room's messages it is, from 1; `system` ones and those that grow repeat the last number. Unread is a
   * difference of these.
   */
  ordinal: z.number(),
  /** Whether its text grows until it is completed or cancelled: its content is then what it began with. */
  growing: z.boolean(),
});

const about = { id: MessageIdSchema, messageSeq: z.number() };
/** The seq of the message in whose thread a reply is, and the reply's sender. */
const reply = z.object({ to: z.number(), sender: SubjectSchema });
export type Reply = z.infer<typeof reply>;
/** What a posting is in a thread; null in none. */
export const replyOf = ({ thread, sender }: Pick<z.infer<typeof posted>, "thread" | "sender">): Reply | null =>
  thread === null ? null : { to: thread.seq, sender };
/** `reply`: null when the message is in no thread. `endSeq`: the seq of the end of one that grew, else null. */
const changed = z.object({ ...about, reply: reply.nullable(), endSeq: z.number().nullable() });
/** Who deleted a message: its sender, another member of the room, or the client by a key. */
const DeletedBy = z.enum(["sender", "moderator", "backend"]);
export type DeletedBy = z.infer<typeof DeletedBy>;
const changedUpcasts = {
  1: (data: JsonObject) => ({ ...data, reply: null }),
  // Until version 2 no message grew.
  2: (data: JsonObject) => ({ ...data, endSeq: null }),
};

/** The whole content of a message that grows no more. Its ordinal counts from here: until now nobody had it unread. */
const ended = event({
  data: z.object({ ...about, sender: SubjectSchema, ...content, ordinal: z.number() }),
  seals: { content: "sender", meta: "sender", ...ofMentioned },
});

const reaction = z.object({ ...about, emoji: z.string(), subject: SubjectSchema, user: sealed(z.string()) });
export type ReactionData = z.infer<typeof reaction>;

export const messageEvents = {
  MessagePosted: event({
    v: 3,
    data: posted,
    seals: { user: "sender", senderName: "sender", content: "sender", meta: "sender", ...ofMentioned },
    upcasts: {
      // Version 1 knew neither threads nor mentions.
      1: (data) => ({ ...data, ...nobody, thread: null }),
      2: (data) => ({ ...data, growing: false }),
    },
  }),
  MessageCompleted: ended,
  /** Its writer gave it up, was silent for too long, or somebody deleted it: its content is what there was. */
  MessageCancelled: ended,
  /** The content as it is from now on, all of it. */
  MessageEdited: event({
    v: 2,
    data: z.object({
      ...about,
      sender: SubjectSchema,
      ...content,
      /** Whom it mentioned before, and mentions no more. */
      unmentioned: z.array(SubjectSchema),
    }),
    seals: { content: "sender", meta: "sender", ...ofMentioned },
    upcasts: { 1: (data) => ({ ...data, ...nobody, unmentioned: [] }) },
  }),
  MessageDeleted: event({
    v: 4,
    data: changed.extend({ by: DeletedBy.nullable() }),
    // Until version 3 nobody asked who it was.
    upcasts: { ...changedUpcasts, 3: (data) => ({ ...data, by: null }) },
  }),
  MessageRestored: event({ v: 3, data: changed, upcasts: changedUpcasts }),
  ReactionAdded: event({ data: reaction, seals: { user: "subject" } }),
  ReactionRemoved: event({ data: reaction, seals: { user: "subject" } }),
} as const;
