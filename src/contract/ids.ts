// The shapes of our ids. How they are derived from commands is the caller's affair: ids arrive inside commands.
import { z } from "zod";

export type ClientId = `cli_${string}`;
export type KeyId = `key_${string}`;
export type RoomId = `room_${string}`;
export type MessageId = `msg_${string}`;
export type NotificationId = `ntf_${string}`;
export type DeliveryId = `dlv_${string}`;
/** A message for later. */
export type ScheduledMessageId = `sch_${string}`;
export type RedriveId = `rdr_${string}`;
export type EndpointId = `whk_${string}`;
/** A public event, as receivers know it. */
export type EventId = `evt_${string}`;
/** A person as events, states and stream names know them: an HMAC of the user id or address under the client's pepper. */
export type Subject = `sub_${string}`;
/** Names a data key: a person's, a client's, or a notification's own. */
export type KeyRef = Subject | ClientId | NotificationId;

const TAIL = "[0-9a-z]{1,64}";
const id = <P extends string>(prefix: P) => {
  const shape = new RegExp(`^${prefix}_${TAIL}$`);
  return z.custom<`${P}_${string}`>((value) => typeof value === "string" && shape.test(value));
};

export const ClientIdSchema = id("cli");
export const KeyIdSchema = id("key");
export const RoomIdSchema = id("room");
export const MessageIdSchema = id("msg");
export const NotificationIdSchema = id("ntf");
export const DeliveryIdSchema = id("dlv");
export const ScheduledMessageIdSchema = id("sch");
export const RedriveIdSchema = id("rdr");
export const EndpointIdSchema = id("whk");
export const EventIdSchema = id("evt");
export const SubjectSchema = id("sub");
export const KeyRefSchema = z.custom<KeyRef>(
  (value) => typeof value === "string" && /^(sub|cli|ntf)_[0-9a-z]{1,64}$/.test(value),
);

/** Crockford base32, lower case. Part of the storage format. */
export const BASE32_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz";

/** Base32, most significant digit first, padded to `width` digits. */
function base32(value: number, width: number): string {
  let rest = value;
  let text = "";
  while (text.length < width) {
    text = BASE32_DIGITS.charAt(rest % 32) + text;
    rest = Math.floor(rest / 32);
  }
  return text;
}

function fromBase32(text: string): number {
  let value = 0;
  for (const digit of text) {
    const at = BASE32_DIGITS.indexOf(digit);
    if (at < 0) return Number.NaN;
    value = value * 32 + at;
  }
  return value;
}

const TIME_WIDTH = 9;
const TAG_WIDTH = 6;
const SEQ_WIDTH = 7;

const roomTag = (room: RoomId): string => room.slice(-TAG_WIDTH).padStart(TAG_WIDTH, "0");

/** The id of the message posted at `seq` of `room`: time, a tag of the room, seq. Finding it is one read of the stream. */
export const messageId = (room: RoomId, seq: number, at: number): MessageId =>
  `msg_${base32(at, TIME_WIDTH)}${roomTag(room)}${base32(seq, SEQ_WIDTH)}`;

/** The seq that a message id of `room` encodes; undefined when the id is damaged or of another room. */
export function seqOfMessage(room: RoomId, id: string): number | undefined {
  if (id.length !== 4 + TIME_WIDTH + TAG_WIDTH + SEQ_WIDTH || !id.startsWith("msg_")) return undefined;
  if (id.slice(4 + TIME_WIDTH, -SEQ_WIDTH) !== roomTag(room)) return undefined;
  const seq = fromBase32(id.slice(-SEQ_WIDTH));
  return Number.isSafeInteger(seq) && seq >= 1 ? seq : undefined;
}
