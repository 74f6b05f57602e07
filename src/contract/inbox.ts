// The inbox of a user: what requests send and answers show.
import { z } from "zod";
import { PrioritySchema } from "./deliveries.ts";
import { anyObject, commaSeparated, input, instant, listBody, orNull, paging, text, time, userId } from "./fields.ts";
import { NotificationIdSchema } from "./ids.ts";

/** Each includes those before it: what is archived is read. */
export const InboxStatusSchema = z.enum(["unread", "read", "archived"]);
export type InboxStatus = z.infer<typeof InboxStatusSchema>;

const counts = {
  unread_count: z.int().describe("Of the whole inbox"),
  unseen_count: z.int().describe("Of the whole inbox: those that came since it was last looked at, and were not read"),
};
export const InboxCounts = z.object(counts).meta({ id: "InboxCounts" });
export type InboxCounts = z.infer<typeof InboxCounts>;

export const InboxItemResource = z
  .object({
    id: z.string().describe("The notification's id"),
    delivery_id: z.string(),
    subject: z.string().nullable(),
    content: z.string().nullable().describe("null when it was erased"),
    meta: anyObject,
    priority: PrioritySchema,
    category: z.string().nullable(),
    room_id: z.string().nullable(),
    created_at: time,
    seen_at: time.nullable(),
    read_at: time.nullable(),
    archived_at: time.nullable(),
  })
  .meta({ id: "InboxItem" });
export type InboxItemResource = z.infer<typeof InboxItemResource>;

export const InboxList = listBody(InboxItemResource).extend(counts);

/** What the list shows when nothing else is asked for. */
const UNARCHIVED: InboxStatus[] = ["unread", "read"];

export const InboxQuery = input({
  ...paging,
  status: commaSeparated(z.enum([...InboxStatusSchema.options, "all"]))
    .transform((wanted) => InboxStatusSchema.options.filter((one) => wanted.includes("all") || wanted.includes(one)))
    .default(UNARCHIVED)
    .meta({ type: "string", default: UNARCHIVED.join(), examples: ["unread", "all"] }),
  category: commaSeparated(text(1, 64)).optional(),
});
export type InboxQuery = z.output<typeof InboxQuery>;

export const InboxItemParams = z.object({ user_id: userId, notification_id: NotificationIdSchema });
export const InboxMarks = input({
  before: orNull(instant).meta({ description: "Only what came before this time; without it, all." }),
});
export type InboxMarks = z.output<typeof InboxMarks>;
