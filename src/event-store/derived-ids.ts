// Ids that follow from other ids: the same command leads to the same ids, however often it comes. All are storage formats.
import { createHmac, hash } from "node:crypto";
import type { Channel } from "../contract/deliveries.ts";
import {
  BASE32_DIGITS,
  type DeliveryId,
  type EndpointId,
  type EventId,
  type NotificationId,
  type Subject,
} from "../contract/ids.ts";
import { keyObjectOf } from "../platform/secrets.ts";

/** Our namespace for UUID v5 (RFC 9562). */
const NAMESPACE = Buffer.from("8f0c6c3e7d0b5a7e9b396a0d5f1c2e4b", "hex");
/** The digits that begin with the variant's bits. */
const VARIANT = "89ab";
const TAIL_DIGITS = 26;

/** UUID v5 of the parts, each told apart from the next. In one call of the crypto library: a package takes eight times as long. */
export function deriveUuid(...parts: readonly (string | number)[]): string {
  const hex = hash("sha1", Buffer.concat([NAMESPACE, Buffer.from(JSON.stringify(parts))]), "hex");
  const variant = VARIANT.charAt(Number.parseInt(hex.charAt(16), 16) & 3);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/**
 * The id of a command's index-th event on a stream, as one process decides it. `writerId` names the process, because two
 * that decide the same command at the same moment come to different events: under one id the log would take the second
 * append for the first one sent again, and its process would answer with events that are not in the log.
 */
export const eventId = (stream: string, commandId: string, index: number, writerId: string | undefined): string =>
  deriveUuid("event", stream, commandId, index, ...(writerId === undefined ? [] : [writerId]));

/** The delivery of a notification to one recipient on one channel: requesting it twice meets the same stream. */
export const deliveryId = (notification: NotificationId, recipient: Subject, channel: Channel): DeliveryId =>
  `dlv_${deriveTail("delivery", notification, recipient, channel)}`;

/**
 * The mail that a notification falls back to. `recipient` is the subject of the address, so that all deliveries that
 * fall back to one address share one mail; the user's own where there is no address.
 */
export const fallbackMailId = (notification: NotificationId, recipient: Subject): DeliveryId =>
  `dlv_${deriveTail("fallback", notification, recipient)}`;

/** The public event of a stored one. `nth`: where one is told as several, from 0. */
export const publicEventId = (storedId: string, nth = 0): EventId =>
  `evt_${storedId.replaceAll("-", "")}${nth === 0 ? "" : `r${nth}`}`;

/** The delivery of a public event to an endpoint that was rewound so often. */
export const endpointDeliveryId = (endpoint: EndpointId, event: EventId, generation: number): DeliveryId =>
  `dlv_${deriveTail("endpoint", endpoint, event, generation)}`;

/** The tail of an id: 26 digits of lower-case Crockford base32 from 130 bits of a SHA-256 over the parts. */
export function deriveTail(...parts: readonly (string | number)[]): string {
  return toBase32(hash("sha256", JSON.stringify(parts), "buffer"));
}

/** As `deriveTail`, but only for those who know the secret: from an HMAC. */
export function deriveSecretTail(secret: Uint8Array, ...parts: readonly string[]): string {
  return toBase32(createHmac("sha256", keyObjectOf(secret)).update(JSON.stringify(parts)).digest());
}

function toBase32(bytes: Uint8Array): string {
  let bits = 0;
  let value = 0;
  let text = "";
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5 && text.length < TAIL_DIGITS) {
      bits -= 5;
      text += BASE32_DIGITS.charAt((value >>> bits) & 31);
      value &= (1 << bits) - 1;
    }
  }
  return text;
}
