// Figures about deliveries of notifications: what requests ask for and answers show.
import { z } from "zod";
import { ChannelSchema } from "./deliveries.ts";
import { commaSeparated, created, input, text } from "./fields.ts";

const AnalyticsGroupSchema = z.enum(["hour", "day", "channel", "provider", "status", "category", "tag"]);
export type AnalyticsGroup = z.infer<typeof AnalyticsGroupSchema>;

export const AnalyticsQuery = input({
  ...created,
  type: commaSeparated(ChannelSchema).optional(),
  room_id: commaSeparated(text(1, 128)).optional(),
  category: commaSeparated(text(1, 64)).optional(),
  tag: commaSeparated(text(1, 64)).optional(),
  group_by: AnalyticsGroupSchema.default("day"),
});
export type AnalyticsQuery = z.output<typeof AnalyticsQuery>;

const count = z.int();
const seconds = z.number().nullable();
export const AnalyticsFigures = z
  .object({
    requested: count.describe("Deliveries that were made"),
    sent: count.describe("Ever taken by a provider or receiver"),
    delivered: count.describe("Ever delivered"),
    opened: count,
    bounced: count,
    complained: count,
    failed: count.describe("Exhausted or expired"),
    suppressed: count,
    fell_back: count,
    cancelled: count,
    delivery_rate: z
      .number()
      .nullable()
      .describe("Sent or delivered, of those that were neither suppressed nor cancelled; null when there are none"),
    p50_seconds: seconds.describe("From the release to the success"),
    p95_seconds: seconds,
  })
  .meta({ id: "AnalyticsFigures" });
export type AnalyticsFigures = z.infer<typeof AnalyticsFigures>;

export const AnalyticsReport = z
  .object({
    data: z
      .array(z.record(z.string(), z.union([z.string(), z.number(), z.null()])))
      .describe("For each group its name, under the name of the grouping, and its figures"),
    totals: AnalyticsFigures,
  })
  .meta({ id: "AnalyticsReport" });
export type AnalyticsReport = z.infer<typeof AnalyticsReport>;
