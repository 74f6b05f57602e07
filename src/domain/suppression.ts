// domain/suppression.ts: an address that a client's mails no longer go to: returned, reported, unsubscribed, or put there.
import { z } from "zod";
import { type DeliveryId, DeliveryIdSchema, type Subject, SubjectSchema } from "../contract/ids.ts";
import { type SuppressionReason, SuppressionReasonSchema } from "../contract/preferences.ts";
import type { Instant } from "../contract/time.ts";
import { type Decider, DomainError, type EventContext, requireNew, type TimedCommand } from "./decider.ts";
import { type EventsOf, event, type Sealed, seal, sealed } from "./event.ts";

/** By the subject of the address in lower case, which holds the client too. */
export const suppressionStream = (subject: Subject) => `suppression-${subject}`;

// Events. A storage format.
export const suppressionEvents = {
  AddressSuppressed: event({
    data: z.object({
      subject: SubjectSchema,
      address: sealed(z.string()),
      reason: SuppressionReasonSchema,
      /** What was unsubscribed from; null: all. */
      category: z.string().nullable(),
      /** The mail that led to it. */
      delivery: DeliveryIdSchema.nullable(),
    }),
    seals: { address: "subject" },
  }),
  /** It is taken off the list, whatever it was there for. */
  AddressUnsuppressed: event({ data: z.object({ subject: SubjectSchema, categories: z.array(z.string()) }) }),
} as const;
export type SuppressionEvent = EventsOf<typeof suppressionEvents>;

// State: why mails do not go there, and the categories that were unsubscribed from.
export type SuppressionEntry = {
  readonly address: Sealed<string>;
  readonly reason: SuppressionReason;
  readonly category: string | null;
  readonly delivery: DeliveryId | null;
  readonly createdAt: Instant;
};
export type Suppression = {
  readonly entry: SuppressionEntry | null;
  readonly categories: ReadonlyMap<string, SuppressionEntry>;
};

/** Max categories that one address unsubscribes from one by one: beyond them it unsubscribes from all. */
const MAX_CATEGORIES = 100;

function evolve(state: Suppression, event: SuppressionEvent, { at }: EventContext): Suppression {
  if (event.type === "AddressUnsuppressed") return NOTHING;
  const { address, reason, category, delivery } = event.data;
  const entry = { address, reason, category, delivery, createdAt: at };
  if (category === null) return { ...state, entry };
  return { ...state, categories: new Map(state.categories).set(category, entry) };
}
const NOTHING: Suppression = { entry: null, categories: new Map() };

/** The entry that says most of an address; null when it is not on the list. */
export const shownEntry = ({ entry, categories }: Suppression): SuppressionEntry | null =>
  entry ?? [...categories.values()].at(-1) ?? null;

/** Why a mail to the address is not sent: the error of its delivery. Null: it may go. */
export function suppressionOf(
  { entry, categories }: Suppression,
  mail: { readonly category: string | null; readonly critical: boolean },
): "suppressed" | "unsubscribed" | null {
  // fence: suppressed-critical
  if (entry !== null && entry.reason !== "unsubscribed") return "suppressed";
  const isOff = entry !== null || (mail.category !== null && categories.has(mail.category));
  return isOff && !mail.critical ? "unsubscribed" : null;
}

// Commands, and what each means now.
type Suppress = {
  readonly subject: Subject;
  readonly address: string;
  readonly reason: SuppressionReason;
  readonly category: string | null;
  readonly delivery: DeliveryId | null;
  /** Only an address that is not on the list. */
  readonly onlyNew?: boolean;
};
export type SuppressionCommand = TimedCommand &
  (({ type: "Suppress" } & Suppress) | { type: "Unsuppress"; readonly subject: Subject });

function decide(state: Suppression, command: SuppressionCommand): readonly SuppressionEvent[] {
  const { entry, categories } = state;
  if (command.type === "Unsuppress") {
    if (shownEntry(state) === null) throw new DomainError("not_found");
    return [{ type: "AddressUnsuppressed", data: { subject: command.subject, categories: [...categories.keys()] } }];
  }
  const { subject, address, reason, delivery } = command;
  requireNew(command.onlyNew, shownEntry(state) !== null);
  const category = categories.size >= MAX_CATEGORIES ? null : command.category;
  const isManual = reason === "manual";
  // What is there for a graver reason stays; a client's own word replaces all else.
  const holds =
    category === null
      ? entry !== null &&
        (isManual ? entry.reason === reason : entry.reason !== "unsubscribed" || reason === entry.reason)
      : categories.has(category);
  if (holds) return [];
  return [{ type: "AddressSuppressed", data: { subject, address: seal(address), reason, category, delivery } }];
}

export const suppressionDecider: Decider<Suppression, SuppressionEvent, SuppressionCommand> = {
  name: "suppression",
  events: suppressionEvents,
  initial: NOTHING,
  evolve,
  decide,
};
