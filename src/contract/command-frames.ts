// Frames by which users do over a socket what requests do to messages: the fields of those requests, and where they go.
import { z } from "zod";
import { emoji } from "./emoji.ts";
import { idempotencyKey, type Scope } from "./fields.ts";
import { AppendInput, CompleteInput, MessagePatch, NewMessage, ReactionInput } from "./messages.ts";

/** Comes back with the answer. */
export const ref = z.union([z.string().max(200), z.number()]).optional();
export const roomId = z.string().min(1).max(300);

const head = { ref, room_id: roomId };
const ofMessage = { ...head, message_id: z.string().min(1).max(128) };
/** A request under the same key, to the same path and with the same body, is the same command. */
const keyed = { idempotency_key: idempotencyKey.optional() };
// The frame's own type is in the place of the message's.
const { type: message_type, ...posted } = NewMessage.shape;

const reaction = { ...ofMessage, emoji, ...ReactionInput.shape };

/** By type. A key is taken where the request takes one: it is a POST. */
export const COMMAND_FRAMES = {
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

export const COMMAND_SCOPES: Readonly<Record<CommandType, Scope>> = {
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
const HEAD: ReadonlySet<string> = new Set(["type", "ref", "room_id", "message_id", "idempotency_key"]);

/** The body that the request has in place of a frame as it was sent. */
export const bodyOf = (frame: object): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    Object.entries(frame).flatMap(([name, value]) =>
      name === "message_type" ? [["type", value]] : HEAD.has(name) ? [] : [[name, value]],
    ),
  );

/** The path of a field of the request's body as the frame has it. */
export function framePath(type: string, path: string): string {
  if (type === "post" && path === "type") return "message_type";
  return type === "delivered" && path === "delivered_seq" ? "seq" : path;
}

/** The request's path below `/api/v1`, as far as its idempotency key belongs to it. */
export const commandPath = (frame: CommandFrame): string => {
  const messages = `/rooms/${frame.room_id}/messages`;
  return frame.type === "post" ? messages : `${messages}/${frame.message_id}/${frame.type}`;
};
