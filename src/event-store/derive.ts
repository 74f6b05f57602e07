// Ids that follow from other ids: the same command leads to the same ids, however often it comes.
import { createHash, createHmac } from "node:crypto";
import { v5 } from "uuid";
import { keyObjectOf } from "./key-object.ts";

/** Our namespace for UUID v5 (RFC 9562). Part of the storage format. */
const NAMESPACE = "8f0c6c3e-7d0b-5a7e-9b39-6a0d5f1c2e4b";
const DIGITS = "0123456789abcdefghjkmnpqrstvwxyz";

/** UUID v5 of the parts, each told apart from the next. */
export const deriveUuid = (...parts: readonly (string | number)[]): string => v5(JSON.stringify(parts), NAMESPACE);

/**
 * The id of a command's index-th event on a stream, as one writer decides it. The writer is part of it because two nodes
 * that decide the same command at the same moment come to different events: under one id the log would take the
 * second append for the first one sent again, and its node would answer with events that are not in the log.
 */
export const eventId = (stream: string, commandId: string, index: number, writer: string | undefined): string =>
  deriveUuid("event", stream, commandId, index, ...(writer === undefined ? [] : [writer]));

/** 26 digits of lower-case Crockford base32 from 130 bits of a SHA-256 over the parts: the tail of an id. */
export function deriveTail(...parts: readonly (string | number)[]): string {
  return toBase32(createHash("sha256").update(JSON.stringify(parts)).digest(), 26);
}

/** As `deriveTail`, but only for those who know the secret. */
export function deriveSecretTail(secret: Uint8Array, ...parts: readonly string[]): string {
  return toBase32(createHmac("sha256", keyObjectOf(secret)).update(JSON.stringify(parts)).digest(), 26);
}

function toBase32(bytes: Uint8Array, width: number): string {
  let bits = 0;
  let value = 0;
  let text = "";
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5 && text.length < width) {
      bits -= 5;
      text += DIGITS.charAt((value >>> bits) & 31);
      value &= (1 << bits) - 1;
    }
  }
  return text;
}
