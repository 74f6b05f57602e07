// API keys: `ck_`, 43 base62 characters of 32 random bytes, 6 of the CRC-32 of what precedes. Only a hash is kept.
import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { KeyId } from "../contract/ids.ts";
import type { KeyData } from "../domain/client.ts";

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BODY_WIDTH = 43;
const CHECK_WIDTH = 6;
const SHAPE = /^ck_[0-9A-Za-z]{49}$/;
/** Random bytes that a key is made of. */
export const KEY_BYTES = 32;

function base62(value: bigint, width: number): string {
  let rest = value;
  let text = "";
  while (text.length < width) {
    text = DIGITS.charAt(Number(rest % 62n)) + text;
    rest /= 62n;
  }
  return text;
}

/** The CRC-32 in base62; in plain numbers, because it is asked for with every request. */
function checksum(body: string): string {
  let rest = crc32(body);
  let text = "";
  while (text.length < CHECK_WIDTH) {
    text = DIGITS.charAt(rest % 62) + text;
    rest = Math.floor(rest / 62);
  }
  return text;
}

/** The key that KEY_BYTES random bytes make. */
export function makeApiKey(random: Uint8Array): string {
  const body = `ck_${base62(BigInt(`0x${Buffer.from(random).toString("hex")}`), BODY_WIDTH)}`;
  return body + checksum(body);
}

/** Whether text is a key as we make them; a typing error is found without a look-up. */
export const isApiKey = (text: string): boolean =>
  SHAPE.test(text) && checksum(text.slice(0, -CHECK_WIDTH)) === text.slice(-CHECK_WIDTH);

/** What is kept of a key: SHA-256, hex. */
export const hashApiKey = (key: string): string => hash("sha256", key, "hex");

/** A key's record for the log. */
export const keyData = (id: KeyId, name: string, key: string): KeyData => ({
  id,
  name,
  hash: hashApiKey(key),
  last4: key.slice(-4),
});
