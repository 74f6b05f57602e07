// What people receive of what is sent to them: what a user wants, and when; and the addresses that a client's mails do not
// go to.

import { z } from "zod";
import { commaSeparated, input, mailAddress, orNull, paging, pattern, refuse, text, time, timezone } from "./fields.ts";
import { category } from "./notification-options.ts";

/** Categories that one user may have a choice for. */
const MAX_CATEGORIES = 200;
/** The name that stands for every category without a choice of its own, and for notifications without a category. */
export const EVERY_CATEGORY = "*";

export const WeekdaySchema = z.enum(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
export type Weekday = z.infer<typeof WeekdaySchema>;

const choice = z.boolean().nullable().describe("null: as `*` says, and where that says nothing, yes");
const timeOfDay = pattern(/^(?:[01]\d|2[0-3]):[0-5]\d$/, "a time of day as HH:MM, from 00:00 to 23:59", 1, 5);

export const PreferencesResource = z
  .object({
    categories: z.record(z.string(), z.object({ email: choice, websocket: choice })),
    quiet_hours: z
      .object({
        from: z.string(),
        to: z.string(),
        days: z.array(WeekdaySchema).describe("The days on which they begin"),
        timezone: z.string().nullable().describe("null: the user's own, and without that UTC"),
      })
      .nullable(),
  })
  .meta({ id: "Preferences" });
export type PreferencesResource = z.infer<typeof PreferencesResource>;

const channels = input({ email: orNull(z.boolean()), websocket: orNull(z.boolean()) });
const categories = z.record(z.string(), channels).superRefine((given, context) => {
  const names = Object.keys(given);
  if (names.length > MAX_CATEGORIES) refuse(context, "too_long", `must have at most ${MAX_CATEGORIES} categories`);
  for (const name of names) {
    if (name === EVERY_CATEGORY || category.safeParse(name).success) continue;
    refuse(context, "not_allowed", "must be named as the `category` of a notification, or `*`", [name]);
  }
});
const quietHours = input({
  from: timeOfDay,
  to: timeOfDay,
  days: orNull(z.array(WeekdaySchema).min(1).max(7)).meta({ description: "On which they begin; all when left out." }),
  timezone: orNull(timezone),
}).superRefine(({ from, to, days }, context) => {
  const always = from === to && (days === null || new Set(days).size === 7);
  // They would never end, and nothing would ever be sent.
  if (/* fence: quiet-hours-end */ always)
    refuse(context, "not_allowed", "must differ from `from`, unless `days` leaves out a day", ["to"]);
});

/** Replaces what was there; what is left out is cleared. */
export const Preferences = input({
  categories: categories.default({}).meta({ description: "By the name of a category, or `*` for all others." }),
  quiet_hours: orNull(quietHours),
});
export type Preferences = z.output<typeof Preferences>;

// The addresses that a client's mails do not go to.

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
