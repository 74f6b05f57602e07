// domain/preferences.ts: what a user wants to receive on which channel, and when not.
import { z } from "zod";
import type { Channel, Priority } from "../contract/deliveries.ts";
import { type Subject, SubjectSchema } from "../contract/ids.ts";
import { sameJson } from "../contract/json.ts";
import { EVERY_CATEGORY, WeekdaySchema } from "../contract/preferences.ts";
import type { Instant } from "../contract/time.ts";
import {
  type Decider,
  type EventContext,
  type IfMatch,
  requireMatch,
  requireNew,
  type TimedCommand,
} from "./decider.ts";
import type { Gate } from "./delivery.ts";
import { type EventsOf, event, seal, sealed, sealOrNull } from "./event.ts";
import { quietUntil } from "./quiet-hours.ts";

export const preferencesStream = (subject: Subject) => `preferences-${subject}`;

const category = z.object({
  name: z.string(),
  /** Null: as the entry for all says, and without one, yes. */
  email: z.boolean().nullable(),
  websocket: z.boolean().nullable(),
});
const quietHours = z.object({
  from: z.string(),
  to: z.string(),
  days: z.array(WeekdaySchema),
  /** Null: the user's own. */
  timezone: z.string().nullable(),
});
const choices = z.object({ categories: z.array(category), quietHours: quietHours.nullable() });
/** A user's choices in the open. */
export type Choices = z.infer<typeof choices>;
const NO_CHOICES: Choices = { categories: [], quietHours: null };

// Events. A storage format.
export const preferencesEvents = {
  /** The choices as they are from now on, all of them. */
  PreferencesSet: event({
    data: z.object({
      subject: SubjectSchema,
      categories: sealed(z.array(category)),
      quietHours: sealed(quietHours).nullable(),
    }),
    seals: { categories: "subject", quietHours: "subject" },
  }),
} as const;
export type PreferencesEvent = EventsOf<typeof preferencesEvents>;

// State. `seq`: of the last change, the ETag; 0: nothing was ever chosen.
export type UserPreferences = { readonly choices: Choices; readonly seq: number };

const evolve = (_state: UserPreferences, { data }: PreferencesEvent, { seq }: EventContext): UserPreferences => ({
  choices: openChoices(data),
  seq,
});

/** The choices of an event; what was erased is absent. */
export const openChoices = ({ categories, quietHours }: PreferencesEvent["data"]): Choices => ({
  categories: "open" in categories ? categories.open : [],
  quietHours: quietHours !== null && "open" in quietHours ? quietHours.open : null,
});

// Commands, and what each means now.
export type PreferencesCommand = TimedCommand & {
  type: "Put";
  subject: Subject;
  choices: Choices;
  ifMatch?: IfMatch;
  onlyNew?: boolean;
};

function decide(state: UserPreferences, command: PreferencesCommand): readonly PreferencesEvent[] {
  const { subject, choices } = command;
  requireNew(command.onlyNew, state.seq > 0);
  requireMatch(command.ifMatch ?? null, state.seq);
  if (sameJson(state.choices, choices)) return [];
  const { categories, quietHours } = choices;
  const data = { subject, categories: seal([...categories]), quietHours: sealOrNull(quietHours) };
  return [{ type: "PreferencesSet", data }];
}

export const preferencesDecider: Decider<UserPreferences, PreferencesEvent, PreferencesCommand> = {
  name: "preferences",
  events: preferencesEvents,
  initial: { choices: NO_CHOICES, seq: 0 },
  weigh: ({ choices }) => choices.categories.length / 10,
  evolve,
  decide,
};

// What they mean for a delivery.

/** What a delivery is, as far as choices ask. */
export type Chosen = { readonly channel: Channel; readonly category: string | null; readonly priority: Priority };

/**
 * What a user's choices say against a delivery at a moment. `timezone`: the user's own. What is critical goes through,
 * and so does a webhook, which goes to no person.
 */
export function choiceGate(
  { categories, quietHours }: Choices,
  { channel, category, priority }: Chosen,
  { at, timezone }: { readonly at: Instant; readonly timezone: string | null },
): Gate {
  // fence: critical-goes-through
  if (priority === "critical" || channel === "webhook") return null;
  const wanted = [category, EVERY_CATEGORY]
    .map((name) => categories.find((one) => one.name === name)?.[channel] ?? null)
    .find((choice) => choice !== null);
  // fence: preference
  if (wanted === false) return { suppress: "preference" };
  if (quietHours === null) return null;
  const until = quietUntil(quietHours, quietHours.timezone ?? timezone ?? "UTC", at);
  return until === null ? null : { holdUntil: until };
}
