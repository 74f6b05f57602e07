// Public events that requests ask for: filters by type and content, lists, streams and the tickets for them.

import { z } from "zod";
import type { FaultCode } from "./errors.ts";
import { commaSeparated, input, paging, queryInteger, refuse, text, time, userId } from "./fields.ts";
import { isObject, JsonObjectSchema } from "./json.ts";
import type { MessageResource } from "./messages.ts";
import { eventMembers, PUBLIC_EVENT_TYPES } from "./public-events.ts";

const PREFIXES: ReadonlySet<string> = new Set(PUBLIC_EVENT_TYPES.map((type) => `${type.split(".", 1)[0]}.*`));
const NAMES: ReadonlySet<string> = new Set(PUBLIC_EVENT_TYPES);

/** A type of event, or all of a kind. */
export const eventPattern = z.string().superRefine((value, context) => {
  if (!NAMES.has(value) && !PREFIXES.has(value)) {
    refuse(context, "not_allowed", "must be a type of event, or all of a kind such as message.*");
  }
});

const MAX_BYTES = 4 * 1024;
const MAX_DEPTH = 8;
const MAX_PATH = 200;

type FilterFault = { readonly path: readonly string[]; readonly code: FaultCode; readonly message: string };

/** What each operator compares with. */
const OPERANDS: Readonly<Record<string, "scalar" | "scalars" | "comparable" | "text" | "boolean">> = {
  ...{ $eq: "scalar", $ne: "scalar", $in: "scalars", $nin: "scalars" },
  ...{ $gt: "comparable", $gte: "comparable", $lt: "comparable", $lte: "comparable" },
  ...{ $startsWith: "text", $exists: "boolean" },
};

/** Everything that is wrong with a filter. */
export function filterFaults(value: unknown): readonly FilterFault[] {
  if (!isObject(value)) return [{ path: [], code: "wrong_type", message: "must be an object" }];
  if (Buffer.byteLength(JSON.stringify(value)) > MAX_BYTES)
    return [{ path: [], code: "too_long", message: `must have at most ${MAX_BYTES} bytes as JSON` }];
  return faultsIn(value, [], 1);
}

function faultsIn(filter: unknown, path: readonly string[], depth: number): readonly FilterFault[] {
  const fault = (code: FaultCode, message: string, at = path) => [{ path: at, code, message }];
  if (!isObject(filter)) return fault("wrong_type", "must be an object");
  if (depth > MAX_DEPTH) return fault("too_large", `must be at most ${MAX_DEPTH} filters deep`);
  return Object.entries(filter).flatMap(([name, value]): readonly FilterFault[] => {
    const at = [...path, name];
    if (name === "$not") return faultsIn(value, at, depth + 1);
    if (name === "$and" || name === "$or") {
      if (!Array.isArray(value)) return fault("wrong_type", "must be an array", at);
      if (value.length === 0) return fault("too_short", "must have at least 1 filter", at);
      return value.flatMap((one, index) => faultsIn(one, [...at, String(index)], depth + 1));
    }
    if (name.startsWith("$")) return fault("unknown_field", "is no operator", at);
    if (name === "" || name.length > MAX_PATH) return fault("invalid_format", "must be the path of a field", at);
    return conditionFaults(value, at);
  });
}

function conditionFaults(condition: unknown, path: readonly string[]): readonly FilterFault[] {
  if (isScalar(condition)) return [];
  if (!isObject(condition))
    return [{ path, code: "wrong_type", message: "must be a string, number, boolean, null, or operators" }];
  const operators = Object.entries(condition);
  if (operators.length === 0) return [{ path, code: "too_short", message: "must have at least 1 operator" }];
  return operators.flatMap(([operator, operand]): readonly FilterFault[] => {
    const at = [...path, operator];
    const kind = Object.hasOwn(OPERANDS, operator) ? OPERANDS[operator] : undefined;
    if (kind === undefined) return [{ path: at, code: "unknown_field", message: "is no operator" }];
    const wanted = unfit(kind, operand);
    return wanted === undefined ? [] : [{ path: at, code: "wrong_type", message: `must be ${wanted}` }];
  });
}

const isScalar = (value: unknown): boolean =>
  value === null || typeof value === "string" || typeof value === "number" || typeof value === "boolean";

/** What an operand must be, when it is not. */
function unfit(kind: (typeof OPERANDS)[string], operand: unknown): string | undefined {
  switch (kind) {
    case "scalar":
      return isScalar(operand) ? undefined : "a string, number, boolean or null";
    case "scalars":
      return Array.isArray(operand) && operand.every(isScalar)
        ? undefined
        : "an array of strings, numbers, booleans or nulls";
    case "comparable":
      return typeof operand === "number" || typeof operand === "string" ? undefined : "a number or a string";
    case "text":
      return typeof operand === "string" ? undefined : "a string";
    case "boolean":
      return typeof operand === "boolean" ? undefined : "a boolean";
  }
}

// Public events by pull and as streams, and tickets for streams: what requests send and answers show.

const [FIRST = "message.posted", ...OTHERS] = PUBLIC_EVENT_TYPES;

export const PublicEventResource = z
  .object({ ...eventMembers, type: z.enum([FIRST, ...OTHERS]), data: JsonObjectSchema })
  .meta({ id: "PublicEvent" });

/** A message that was posted. */
export const publicEventExample = (id: string, message: MessageResource): object => ({
  ...{ id, type: "message.posted", room_id: message.room_id, seq: message.seq, at: message.created_at },
  ...{ position: "Zm9yLXRoZS1leGFtcGxlLQ", actor: { type: "user", id: message.sender_id }, data: message },
});

const ticket = text(1, 100)
  .optional()
  .meta({ description: "Of `POST /tickets`, in place of a header, where a stream is accepted" });

export const EventsQuery = input({
  ...paging,
  ticket,
  after: text(1, 100)
    .optional()
    .meta({ description: "A position, or the `id` of a message of the stream: only events after it" }),
  types: commaSeparated(eventPattern)
    .optional()
    .meta({ description: "Types of events, or all of a kind such as `message.*`" }),
  room_id: commaSeparated(text(1, 128)).optional().meta({ description: "Events of these rooms" }),
});
export type EventsQuery = z.output<typeof EventsQuery>;

export const RoomEventsQuery = input({
  ...paging,
  ticket,
  after_seq: queryInteger(0, 2 ** 31 - 1)
    .optional()
    .meta({ description: "Only events after this `seq`" }),
});
export type RoomEventsQuery = z.output<typeof RoomEventsQuery>;

export const UserEventsQuery = input({
  ticket,
  after: z.string().max(200).optional().meta({ description: "The `id` of the last message that was had" }),
  limit: queryInteger(1, 100).default(50).meta({ description: "Rooms of the first window" }),
});
export type UserEventsQuery = z.output<typeof UserEventsQuery>;

export const NewTicket = input({ user_id: userId.optional().describe("The user that a key's ticket is for") });
export type NewTicket = z.output<typeof NewTicket>;

export const TicketResource = z
  .object({ ticket: z.string().describe("Good once, as `?ticket=`"), expires_at: time })
  .meta({ id: "Ticket" });
export type TicketResource = z.infer<typeof TicketResource>;
