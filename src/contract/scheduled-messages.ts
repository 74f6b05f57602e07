// Messages for later: what requests send and answers show.
import { z } from "zod";
import { anyObject, commaSeparated, input, instant, paging, patched, time } from "./fields.ts";
import { MessagePatch } from "./messages.ts";
import { RoomParams } from "./rooms.ts";

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
