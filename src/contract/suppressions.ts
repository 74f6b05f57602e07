// The addresses that a client's mails do not go to: what requests send and answers show.
import { z } from "zod";
import { commaSeparated, input, mailAddress, paging, text, time } from "./fields.ts";

export const SuppressionReasonSchema = z.enum(["bounced", "complained", "unsubscribed", "manual"]);
export type SuppressionReason = z.infer<typeof SuppressionReasonSchema>;

export const SuppressionResource = z
  .object({
    email: z.string().nullable().describe("In lower case; null when it was erased"),
    reason: SuppressionReasonSchema,
    category: z.string().nullable().describe("What it unsubscribed from; null: all mails"),
    delivery_id: z.string().nullable().describe("The mail that led to it"),
    created_at: time,
  })
  .meta({ id: "Suppression" });
export type SuppressionResource = z.infer<typeof SuppressionResource>;

export const SuppressionParams = z.object({ email: mailAddress });
export const SuppressionInput = input({ reason: z.literal("manual").default("manual") });
export const SuppressionQuery = input({
  ...paging,
  reason: commaSeparated(SuppressionReasonSchema).optional(),
  search: text(1, 254).optional().meta({ description: "A part of the address, in any case" }),
});
export type SuppressionQuery = z.output<typeof SuppressionQuery>;
