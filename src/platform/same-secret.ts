// Compares secrets in a time that says nothing about them.
import { hash, timingSafeEqual } from "node:crypto";

/** Whether a given text is the secret. Their hashes are compared, since texts of any length may be given. */
export const isSameSecret = (given: string, secret: string): boolean => timingSafeEqual(digest(given), digest(secret));

const digest = (text: string): Buffer => hash("sha256", text, "buffer");
