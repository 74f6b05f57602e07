// Secrets in memory: keys as the crypto library takes them, and comparing in a time that says nothing about what is compared.

import { createSecretKey, hash, type KeyObject, timingSafeEqual } from "node:crypto";

// Handing over raw bytes makes such an object each time, which costs several times what the cipher or the HMAC does.
const keyObjects = new WeakMap<Uint8Array, KeyObject>();

/** The key as the crypto library takes it. The same object for the same array, whose bytes must not change. */
export function keyObjectOf(key: Uint8Array): KeyObject {
  const known = keyObjects.get(key);
  if (known !== undefined) return known;
  const made = createSecretKey(key);
  keyObjects.set(key, made);
  return made;
}

/** Whether a given text is the secret. Their hashes are compared, since texts of any length may be given. */
export const isSameSecret = (given: string, secret: string): boolean => timingSafeEqual(digest(given), digest(secret));

const digest = (text: string): Buffer => hash("sha256", text, "buffer");
