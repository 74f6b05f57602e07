// Messages: what requests send and answers show.

import { z } from "zod";
import {
  actor,
  anyObject,
  commaSeparated,
  created,
  input,
  instant,
  meta,
  name,
  orNull,
  paging,
  patched,
  pattern,
  queryBoolean,
  queryInteger,
  refuse,
  text,
  time,
  userId,
} from "./fields.ts";
import { RoomParams } from "./rooms.ts";

// Emoji of reactions: one of Unicode's recommended emoji in its fully-qualified form, or a name between colons.

/** Longer than any emoji and any name. */
const MAX_UNITS = 66;
const NAME = /^:[A-Za-z0-9_+-]{1,64}:$/;
const EMOJI = /^\p{RGI_Emoji}$/v;
const KEYCAP = /^[0-9#*]\u20e3$/;
const SHOWN_AS_TEXT = /^\P{Emoji_Presentation}$/u;
/** Variation selector 16: shows what precedes it as an emoji. */
const SELECTOR = "\ufe0f";
const JOINER = "\u200d";

/** The canonical form of an emoji, with every selector that belongs to it; undefined for anything else. */
function canonicalEmoji(text: string): string | undefined {
  if (text.length > MAX_UNITS) return undefined;
  if (NAME.test(text)) return text;
  const qualified = text.replaceAll(SELECTOR, "").split(JOINER).map(withSelector).join(JOINER);
  return EMOJI.test(qualified) ? qualified : undefined;
}

/** Of a sequence's elements, keycaps and single characters that are text by default have a selector. */
function withSelector(element: string): string {
  if (SHOWN_AS_TEXT.test(element)) return element + SELECTOR;
  return KEYCAP.test(element) ? `${element.charAt(0)}${SELECTOR}${element.slice(1)}` : element;
}

/** The most different emoji on one message. */
export const MAX_EMOJI = 50;

export const emoji = z
  .string()
  .transform((value, context) => {
    const canonical = canonicalEmoji(value);
    if (canonical !== undefined) return canonical;
    refuse(context, "invalid_format", "must be one emoji, or a name of a-z A-Z 0-9 _ + - between colons");
    return z.NEVER;
  })
  .meta({ minLength: 1, maxLength: MAX_UNITS, description: "One emoji, percent-encoded, or `:name:`" });

/** How many users are named where a message shows who did something with it. */
export const NAMED_USERS = 10;
const ReactionSummary = z.object({
  emoji: z.string(),
  count: z.int(),
  user_ids: z.array(z.string()).describe(`The first ${NAMED_USERS}, without erased ones`),
});
export type ReactionSummary = z.infer<typeof ReactionSummary>;

const ThreadSummary = z.object({
  reply_count: z.int().describe("Replies that are not deleted"),
  participant_ids: z.array(z.string()).describe(`The first ${NAMED_USERS} who replied, without erased ones`),
  last_reply_seq: z.int(),
});
export type ThreadSummary = z.infer<typeof ThreadSummary>;

export const ReactionResource = z
  .object({
    emoji: z.string(),
    user_id: z.string().nullable().describe("null when the person was erased"),
    created_at: time,
  })
  .meta({ id: "Reaction" });
export type ReactionResource = z.infer<typeof ReactionResource>;

export const MessageVersionResource = z
  .object({
    event: z.enum([
      "message.posted",
      "message.completed",
      "message.cancelled",
      "message.edited",
      "message.deleted",
      "message.restored",
    ]),
    content: z.string().nullable().describe("null of a deletion, and of a message that is deleted now"),
    meta: anyObject,
    at: time,
    actor,
  })
  .meta({ id: "MessageVersion" });
export type MessageVersionResource = z.infer<typeof MessageVersionResource>;

export const MessageResource = z
  .object({
    id: z.string(),
    room_id: z.string(),
    seq: z.int().describe("The seq of its posting"),
    sender_id: z.string().nullable().describe("null when the person was erased"),
    sender_name: z.string().nullable(),
    type: z.string(),
    content: z.string().nullable().describe("null when it was deleted or the person erased"),
    meta: anyObject,
    reply_to: z.string().nullable(),
    thread_of: z.string().nullable().describe("The message in whose thread it is"),
    mentions: z.array(z.string()).describe("Users, without erased ones, and `@everyone`; none of a deleted message"),
    thread: ThreadSummary.nullable().describe("The thread under it; null without replies"),
    reactions: z.array(ReactionSummary).describe("In the order in which the emoji came; none of a deleted message"),
    created_at: time,
    edited_at: time.nullable(),
    edited_by: actor.nullable().describe("Who edited it last: its sender, or a client key"),
    deleted_at: time.nullable(),
    state: z
      .enum(["complete", "growing", "cancelled"])
      .describe("`growing` while it is written, `cancelled` if it was given up"),
  })
  .meta({ id: "Message" });
export type MessageResource = z.infer<typeof MessageResource>;

export const FoundMessageResource = z
  .object({
    message: MessageResource,
    score: z.number().describe("How well it matches; comparable within one search"),
    highlight: z.string().describe("The content as HTML, with `<mark>` around what was found and all else escaped"),
  })
  .meta({ id: "FoundMessage" });
export type FoundMessageResource = z.infer<typeof FoundMessageResource>;

const MAX_SEQ = 2 ** 31 - 1;
/** Mentions every member. */
export const EVERYONE = "@everyone";
const mentions = z.array(userId).max(100);
const content = text(0, 10_000);
/** How long a message may grow, in code points; more than a posting or an append may say at once. */
export const MAX_GROWN = 100_000;
const messageType = pattern(/^[a-z][a-z0-9_.-]*$/, "of a-z 0-9 _ . - and begin with a letter", 1, 64);

export const MessageParams = RoomParams.extend({ message_id: z.string() });
export const ReactionParams = MessageParams.extend({ emoji });
export const ReactionInput = input({
  user_id: orNull(userId).describe("Needed with a client key; a user token's own otherwise"),
});
export const ReactionQuery = input({
  user_id: userId.optional().describe("Needed with a client key; a user token's own otherwise"),
});
export const NewMessage = input({
  sender_id: orNull(userId).describe("Needed with a client key; a user token's own otherwise"),
  sender_name: orNull(name).describe("With a client key alone; left out: the member's name, else the user's"),
  content: content.describe("May be empty with meta, except for `text` and `system`"),
  type: messageType.default("text").describe("text, image, file, system or your own"),
  meta: meta.default({}),
  reply_to: orNull(text(1, 128)),
  thread_of: orNull(text(1, 128)).describe("A message that is in no thread itself"),
  mentions: mentions.default([]).describe("Members, and `@everyone` by admins and client keys"),
  state: z
    .enum(["complete", "growing"])
    .default("complete")
    .describe("`growing`: its text follows by appends, and `content` may be empty until then"),
  send_at: orNull(instant).describe("For later, at most a year ahead; a past time is now"),
});
export type NewMessage = z.output<typeof NewMessage>;
/** What a writer adds to a growing message. */
export const AppendInput = input({
  text: text(1, 10_000),
  offset: z.int().min(0).max(MAX_GROWN).describe("Where it goes: the length of the message so far, in code points"),
});
export const CompleteInput = input({
  content: text(0, MAX_GROWN).optional().describe("The whole text anew; left out: what was appended"),
});
export const MessagePatch = input({
  content: content.optional(),
  meta: patched(meta),
  mentions: patched(mentions).describe("All whom it mentions from now on; null: nobody"),
});
export type MessagePatch = z.output<typeof MessagePatch>;
export const MessageQuery = input({
  ...paging,
  after_seq: queryInteger(0, MAX_SEQ).optional(),
  before_seq: queryInteger(0, MAX_SEQ).optional(),
  order: z.enum(["asc", "desc"]).optional().describe("Left out: asc when only after_seq is given, else desc"),
  sender_id: commaSeparated(userId).optional(),
  type: commaSeparated(messageType).optional(),
  include_deleted: queryBoolean.default(false),
  thread_of: text(1, 128).optional().meta({ description: "Replies in the thread of this message" }),
  mentions: commaSeparated(userId).optional().meta({
    description: "Messages that mention any of these users; those to everyone mention all, deleted ones nobody",
  }),
});
export type MessageQuery = z.output<typeof MessageQuery>;

/** Code points of a search. */
const MAX_SEARCH = 256;
export const MessageSearchQuery = input({
  ...paging,
  ...created,
  q: text(1, MAX_SEARCH).describe('Words, `"phrases"`, `-without`, and `beginnings*`: at most 16'),
  room_id: commaSeparated(text(1, 128)).optional(),
  sender_id: commaSeparated(userId).optional(),
  type: commaSeparated(messageType).optional(),
  mentions: commaSeparated(userId)
    .optional()
    .meta({ description: "Messages that mention any of these users; those to everyone mention all" }),
});
export type MessageSearchQuery = z.output<typeof MessageSearchQuery>;

// Messages for later: what requests send and answers show.

const ScheduledStatusSchema = z.enum(["scheduled", "posted", "refused", "cancelled"]);
export type ScheduledStatus = z.infer<typeof ScheduledStatusSchema>;

export const ScheduledMessageResource = z
  .object({
    id: z.string(),
    room_id: z.string(),
    sender_id: z.string().nullable().describe("null when the person was erased"),
    type: z.string(),
    content: z.string().nullable().describe("null when the person was erased"),
    meta: anyObject,
    reply_to: z.string().nullable(),
    thread_of: z.string().nullable(),
    mentions: z.array(z.string()),
    send_at: time,
    status: ScheduledStatusSchema,
    message_id: z.string().nullable().describe("The message that it became"),
    reason: z.string().nullable().describe("Of a refused one: the code that posting it was refused with"),
    created_at: time,
  })
  .meta({ id: "ScheduledMessage" });
export type ScheduledMessageResource = z.infer<typeof ScheduledMessageResource>;

export const ScheduledMessageParams = RoomParams.extend({ scheduled_id: z.string() });
export const ScheduledMessageQuery = input({ ...paging, status: commaSeparated(ScheduledStatusSchema).optional() });
export type ScheduledMessageQuery = z.output<typeof ScheduledMessageQuery>;
export const ScheduledMessagePatch = MessagePatch.extend({
  send_at: patched(instant).describe("At most a year ahead; a past time, or null, is now"),
});
export type ScheduledMessagePatch = z.output<typeof ScheduledMessagePatch>;
