// What clients may send: one JSON object a message, checked like a request's body.
import { z } from "zod";
import type { SocketErrorCode } from "./errors.ts";
import { userId } from "./fields.ts";
import { bodyPath, toFaults } from "./issues.ts";

/** Comes back with the answer. */
export type Ref = string | number;
const ref = z.union([z.string().max(200), z.number()]).optional();
const roomId = z.string().min(1).max(300);
const seq = z.int().min(0);

/** By type. */
export const CLIENT_FRAMES = {
  auth: z.strictObject({ type: z.literal("auth"), ref, token: z.string().max(8_192), user_id: userId.optional() }),
  subscribe: z.strictObject({ type: z.literal("subscribe"), ref, room_id: roomId, after_seq: seq.optional() }),
  unsubscribe: z.strictObject({ type: z.literal("unsubscribe"), ref, room_id: roomId }),
  read: z.strictObject({ type: z.literal("read"), ref, room_id: roomId, seq }),
  ack: z.strictObject({ type: z.literal("ack"), ref, delivery_id: z.string().max(200) }),
  ping: z.strictObject({ type: z.literal("ping"), ref }),
} as const;

export type ClientFrame = z.output<(typeof CLIENT_FRAMES)[keyof typeof CLIENT_FRAMES]>;
export type FrameOf<T extends ClientFrame["type"]> = Extract<ClientFrame, { type: T }>;

/** A frame, one that cannot be carried out, or nothing that could be answered. */
export type ParsedFrame =
  | { readonly kind: "frame"; readonly frame: ClientFrame }
  | {
      readonly kind: "wrong";
      readonly type: string;
      readonly ref: Ref | undefined;
      readonly code: SocketErrorCode;
      readonly message: string;
    }
  | { readonly kind: "malformed" };

const known: Readonly<Record<string, z.ZodType<ClientFrame>>> = Object.assign(Object.create(null), CLIENT_FRAMES);

/** Reads a message. Malformed: not JSON, no object, or without a `type`. */
export function parseFrame(text: string): ParsedFrame {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { kind: "malformed" };
  }
  const head = z.looseObject({ type: z.string(), ref: z.unknown().optional() }).safeParse(value);
  if (!head.success) return { kind: "malformed" };
  const { type } = head.data;
  const refs = ref.safeParse(head.data.ref);
  // It waits for its turn: no more of it is kept than is asked for.
  const wrong = { kind: "wrong", type: shorten(type), ref: refs.data } as const;
  const schema = known[type];
  if (schema === undefined)
    return { ...wrong, code: "unknown_type", message: `there is no frame of type ${shorten(type)}` };
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return { kind: "frame", frame: parsed.data };
  const faults = toFaults(schema, parsed.error.issues, bodyPath);
  const message = faults
    .map((fault) => (fault.path === "" ? fault.message : `${fault.path}: ${fault.message}`))
    .join("; ");
  return { ...wrong, code: "validation_failed", message: shorten(message, 1_000) };
}

const shorten = (text: string, max = 64): string =>
  (text.length > max ? `${text.slice(0, max)}…` : text).toWellFormed();
