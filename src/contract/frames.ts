// Frames of sockets, one JSON object a message: what clients may send, checked like a request's body, and what the server
// sends, with the public events among it.

import { z } from "zod";
import { PrioritySchema } from "./deliveries.ts";
import { FAULT_CODES, type FieldFault, SOCKET_ERROR_CODES, type SocketErrorCode } from "./errors.ts";
import { idempotencyKey, refuse, type Scope, time, userId } from "./fields.ts";
import { InboxCounts } from "./inbox.ts";
import { bodyPath, faultsText, toFaults } from "./issues.ts";
import { isObject, JsonObjectSchema, JsonValueSchema, parseJson } from "./json.ts";
import { AppendInput, CompleteInput, emoji, MessagePatch, NewMessage, ReactionInput } from "./messages.ts";
import { eventMembers, PERSONAL_EVENT_TYPES, ROOM_EVENTS, type RoomEventType } from "./public-events.ts";
import { PresenceResource, UserRoomResource } from "./users.ts";

// Frames by which users do over a socket what requests do to messages: the fields of those requests, and where they go.

/** Comes back with the answer. */
const ref = z.union([z.string().max(200), z.number()]).optional();
const roomId = z.string().min(1).max(300);

const head = { ref, room_id: roomId };
const ofMessage = { ...head, message_id: z.string().min(1).max(128) };
/** A request under the same key, to the same path and with the same body, is the same command. */
const keyed = { idempotency_key: idempotencyKey.optional() };
// The frame's own type is in the place of the message's.
const { type: message_type, ...posted } = NewMessage.shape;

const reaction = { ...ofMessage, emoji, ...ReactionInput.shape };

/** By type. A key is taken where the request takes one: it is a POST. */
const COMMAND_FRAMES = {
  post: z.strictObject({ type: z.literal("post"), ...head, ...keyed, message_type, ...posted }),
  edit: z.strictObject({ type: z.literal("edit"), ...ofMessage, ...MessagePatch.shape }),
  delete: z.strictObject({ type: z.literal("delete"), ...ofMessage }),
  restore: z.strictObject({ type: z.literal("restore"), ...ofMessage, ...keyed }),
  append: z.strictObject({ type: z.literal("append"), ...ofMessage, ...keyed, ...AppendInput.shape }),
  complete: z.strictObject({ type: z.literal("complete"), ...ofMessage, ...keyed, ...CompleteInput.shape }),
  cancel: z.strictObject({ type: z.literal("cancel"), ...ofMessage, ...keyed }),
  react: z.strictObject({ type: z.literal("react"), ...reaction }),
  unreact: z.strictObject({ type: z.literal("unreact"), ...reaction }),
} as const;

export type CommandFrame = z.output<(typeof COMMAND_FRAMES)[keyof typeof COMMAND_FRAMES]>;
type CommandType = CommandFrame["type"];

const COMMAND_SCOPES: Readonly<Record<CommandType, Scope>> = {
  post: "messages:write",
  edit: "messages:write",
  delete: "messages:write",
  restore: "messages:write",
  append: "messages:write",
  complete: "messages:write",
  cancel: "messages:write",
  react: "messages:write",
  unreact: "messages:write",
};

export const isCommandType = (type: string): type is CommandType => Object.hasOwn(COMMAND_FRAMES, type);

/** Fields of frames that are no part of the request's body. */
const FRAME_FIELDS: ReadonlySet<string> = new Set(["type", "ref", "room_id", "message_id", "idempotency_key"]);

/** The body that the request has in place of a frame as it was sent. */
const bodyOf = (frame: object): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    Object.entries(frame).flatMap(([name, value]) =>
      name === "message_type" ? [["type", value]] : FRAME_FIELDS.has(name) ? [] : [[name, value]],
    ),
  );

/** The path of a field of the request's body as the frame has it. */
function framePath(type: string, path: string): string {
  if (type === "post" && path === "type") return "message_type";
  return type === "delivered" && path === "delivered_seq" ? "seq" : path;
}

/** The request's path below `/api/v1`, as far as its idempotency key belongs to it. */
export const commandPath = (frame: CommandFrame): string => {
  const messages = `/rooms/${frame.room_id}/messages`;
  return frame.type === "post" ? messages : `${messages}/${frame.message_id}/${frame.type}`;
};

/** Comes back with the answer. */
export type Ref = string | number;
const seq = z.int().min(0);
/** Max rooms that one frame subscribes to. */
const MAX_BATCH = 100;

/** One room to subscribe to. */
const wantedRoom = z.strictObject({ room_id: roomId, after_seq: seq.optional() });
export type WantedRoom = z.output<typeof wantedRoom>;

/** One room, or several in `rooms`; what is read has `rooms` in both cases. */
const subscribe = z
  .strictObject({
    type: z.literal("subscribe"),
    ref,
    room_id: roomId.optional(),
    after_seq: seq.optional(),
    rooms: z.array(wantedRoom).min(1).max(MAX_BATCH).optional(),
  })
  .superRefine(({ room_id, after_seq, rooms }, context) => {
    if (rooms === undefined && room_id === undefined) refuse(context, "required", "is required", ["room_id"]);
    for (const [name, value] of Object.entries({ room_id, after_seq }))
      if (rooms !== undefined && value !== undefined) refuse(context, "not_allowed", "does not go with rooms", [name]);
  })
  .transform(({ room_id = "", after_seq, rooms, ...head }) => ({ ...head, rooms: rooms ?? [{ room_id, after_seq }] }));

// What clients send

/** By type. */
export const CLIENT_FRAMES = {
  auth: z.strictObject({ type: z.literal("auth"), ref, token: z.string().max(8_192), user_id: userId.optional() }),
  subscribe,
  unsubscribe: z.strictObject({ type: z.literal("unsubscribe"), ref, room_id: roomId }),
  follow: z.strictObject({
    type: z.literal("follow"),
    ref,
    after: z.string().max(200).optional(),
    limit: z.int().min(1).max(100).default(50),
  }),
  unfollow: z.strictObject({ type: z.literal("unfollow"), ref }),
  read: z.strictObject({ type: z.literal("read"), ref, room_id: roomId, seq }),
  delivered: z.strictObject({ type: z.literal("delivered"), ref, room_id: roomId, seq }),
  ack: z.strictObject({ type: z.literal("ack"), ref, delivery_id: z.string().max(200) }),
  ping: z.strictObject({ type: z.literal("ping"), ref }),
  typing: z.strictObject({ type: z.literal("typing"), ref, room_id: roomId, active: z.boolean() }),
  presence: z.strictObject({ type: z.literal("presence"), ref, room_id: roomId, active: z.boolean() }),
  ...COMMAND_FRAMES,
} as const;

export type ClientFrame = z.output<(typeof CLIENT_FRAMES)[keyof typeof CLIENT_FRAMES]>;
export type FrameOf<T extends ClientFrame["type"]> = Extract<ClientFrame, { type: T }>;

/** The scopes that the credential of a connection needs; null: none. */
const FRAME_SCOPES: Readonly<Record<ClientFrame["type"], Scope | null>> = {
  auth: null,
  subscribe: "messages:read",
  unsubscribe: null,
  follow: "messages:read",
  unfollow: null,
  read: "messages:read",
  delivered: "messages:read",
  ack: "notifications:read",
  ping: null,
  typing: "messages:write",
  presence: "rooms:read",
  ...COMMAND_SCOPES,
};
const scopes: Readonly<Record<string, Scope | null>> = FRAME_SCOPES;
/** The scope that a frame needs, null: none. */
export const scopeOfFrame = (type: string): Scope | null =>
  Object.hasOwn(scopes, type) ? (scopes[type] ?? null) : null;
/** The scope that a user's connection needs to be sent notifications. */
export const NOTIFICATION_SCOPE: Scope = "notifications:read";

/** Why a frame cannot be carried out. */
type FrameFault = {
  readonly code: SocketErrorCode;
  readonly message: string;
  readonly errors?: FieldFault[];
};

/** A frame, one that cannot be carried out, or nothing that could be answered. */
export type ParsedFrame =
  | {
      readonly kind: "frame";
      readonly frame: ClientFrame;
      /** Under an idempotency key: the request's body, as it was sent. */
      readonly body: unknown;
    }
  | { readonly kind: "wrong"; readonly type: string; readonly ref: Ref | undefined; readonly fault: FrameFault }
  | { readonly kind: "malformed" };

/** Finds what no schema sees in the body of a command. */
type FurtherFaults = (type: string, body: object, text: string) => readonly FieldFault[] | FrameFault;

/** What every frame has. */
const HEAD = z.looseObject({ type: z.string(), ref: z.unknown().optional() });
const known: Readonly<Record<string, z.ZodType<ClientFrame>>> = Object.assign(Object.create(null), CLIENT_FRAMES);

/** Faults that an error frame lists, and the length of their paths: it waits for its turn in memory. */
const MAX_LISTED = 100;
const MAX_PATH_LENGTH = 200;

/** Reads a message. Malformed: not JSON, no object, or without a `type`. */
export function parseFrame(text: string, further: FurtherFaults = () => []): ParsedFrame {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    return { kind: "malformed" };
  }
  const head = HEAD.safeParse(value);
  if (!head.success || !isObject(value)) return { kind: "malformed" };
  const { type, ref: sent } = head.data;
  // A number of many digits comes back as a client that parses it has it.
  const given = JSON.isRawJSON(sent) ? { ...value, ref: Number(JSON.stringify(sent)) } : value;
  const refs = ref.safeParse(given.ref);
  // It waits for its turn: no more of it is kept than is asked for.
  const wrong = { kind: "wrong", type: shorten(type), ref: refs.data } as const;
  const schema = known[type];
  if (schema === undefined)
    return { ...wrong, fault: { code: "unknown_type", message: `there is no frame of type ${shorten(type)}` } };
  const body = isCommandType(type) ? bodyOf(given) : {};
  const found = isCommandType(type) ? further(type, body, text) : [];
  if ("code" in found) return { ...wrong, fault: found };
  const parsed = schema.safeParse(given, { reportInput: true });
  if (parsed.success && found.length === 0) {
    const { data } = parsed;
    const keyed = "idempotency_key" in data && data.idempotency_key !== undefined;
    return { kind: "frame", frame: data, body: keyed ? body : undefined };
  }
  const ofSchema = parsed.success ? [] : toFaults(schema, parsed.error.issues, bodyPath);
  return { ...wrong, fault: invalidFrame(type, [...found, ...ofSchema]) };
}

/** What tells of faults in the body of a frame; of each field the first counts. */
export function invalidFrame(type: string, faults: readonly FieldFault[]): FrameFault {
  const byPath = new Map<string, FieldFault>();
  for (const fault of faults) {
    const named = framePath(type, fault.path);
    const path = named.length > MAX_PATH_LENGTH ? shorten(named, MAX_PATH_LENGTH) : named;
    if (byPath.size < MAX_LISTED && !byPath.has(path)) byPath.set(path, { ...fault, path });
  }
  const errors = [...byPath.values()];
  return { code: "validation_failed", message: shorten(faultsText(errors), 1_000), errors };
}

const shorten = (text: string, max = 64): string =>
  (text.length > max ? `${text.slice(0, max)}…` : text).toWellFormed();

// What the server sends

const frame = <T extends string, S extends z.ZodRawShape>(type: T, shape: S) =>
  z.strictObject({ type: z.literal(type), ...shape });
const atSeq = { room_id: z.string(), seq: z.int() };
/** Where the client is once it has had the frame; those of a follower alone have it. */
const cursor = z.string();
const followed = { cursor: cursor.optional() };
/** Sockets are told what happens in rooms. */
const roomEventTypes = Object.keys(ROOM_EVENTS) as RoomEventType[];

/** Why a subscription ended: `asked` by the client, or for what became of the membership or the room. */
const EndReasonSchema = z.enum(["asked", "left", "removed", "banned", "room_deleted"]);
export type EndReason = Exclude<z.infer<typeof EndReasonSchema>, "asked">;

/** Every frame of the server. Answers carry the `ref` of what they answer. */
export const ServerFrameSchema = z.discriminatedUnion("type", [
  frame("welcome", { connection_id: z.string(), user_id: z.string().nullable(), heartbeat_seconds: z.int(), ref }),
  frame("authenticated", { expires_at: time.nullable(), ref }),
  frame("subscribed", { ...atSeq, ref }),
  // Of a room, or, with a cursor, of a follower.
  frame("caught_up", { room_id: z.string().optional(), seq: z.int().optional(), ...followed }),
  frame("unsubscribed", { room_id: z.string(), reason: EndReasonSchema, ref, ...followed }),
  frame("event", {
    ...eventMembers,
    room_id: z.string(),
    seq: z.int().nullable().describe("null of events that are the user's alone"),
    event: z.enum([...roomEventTypes, ...PERSONAL_EVENT_TYPES]),
    data: JsonObjectSchema,
    ...followed,
  }),
  frame("growing", {
    ...atSeq,
    id: z.string(),
    text: z.string(),
    offset: z.int().describe("Where the text goes, in code points; what the client has from there on is replaced"),
  }),
  frame("read", { ...atSeq, user_id: z.string().nullable(), at: time, ...followed }),
  frame("delivered", { ...atSeq, user_id: z.string().nullable(), at: time }),
  frame("inbox", {
    rooms: z.array(UserRoomResource),
    unread_total: z.int(),
    cursor,
    next_cursor: z.string().nullable(),
    reset: z.literal(true).optional(),
    ref,
  }),
  frame("following", { cursor, ref }),
  frame("room", { room: UserRoomResource, cursor }),
  frame("unfollowed", { ref }),
  frame("notification", {
    delivery_id: z.string(),
    notification_id: z.string(),
    subject: z.string().nullable(),
    content: JsonValueSchema,
    meta: JsonObjectSchema,
    priority: PrioritySchema,
    category: z.string().nullable(),
    room_id: z.string().nullable(),
    at: time,
    fell_back: z.boolean(),
    ...followed,
  }),
  frame("acked", { delivery_id: z.string() }),
  frame("inbox_counts", InboxCounts.shape),
  frame("ok", {
    room_id: z.string().optional(),
    seq: z.int().optional(),
    message_id: z.string().optional(),
    scheduled_id: z.string().optional(),
    position: z.string().optional(),
    ref,
  }),
  frame("pong", { ref }),
  frame("typing", { room_id: z.string(), user_id: z.string(), active: z.boolean() }),
  frame("presence", { room_id: z.string(), users: z.array(PresenceResource), ref }),
  frame("heartbeat", {}),
  frame("error", {
    room_id: z.string().optional(),
    code: z.enum(SOCKET_ERROR_CODES),
    message: z.string(),
    errors: z.array(z.object({ path: z.string(), code: z.enum(FAULT_CODES), message: z.string() })).optional(),
    max_bytes: z.union([z.string(), z.number()]).optional(),
    expected: z
      .union([z.string(), z.number()])
      .optional()
      .describe("With `offset_mismatch`: the length of the message"),
    retry_after_seconds: z.int().optional(),
    ref,
  }),
]);
export type ServerFrame = z.infer<typeof ServerFrameSchema>;
