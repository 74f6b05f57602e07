// channels/webhook-signature.ts: the headers by which a receiver knows that a webhook is ours (Standard Webhooks).

import { createHmac, createSecretKey, type KeyObject } from "node:crypto";
import { LRUCache } from "lru-cache";
import { type Instant, SECOND_MS } from "../domain/time.ts";

const PREFIX = "whsec_";

// Making the key anew costs more than the signature.
const keys = new LRUCache<string, KeyObject>({ max: 1_000 });

function keyOf(secret: string): KeyObject {
  const known = keys.get(secret);
  if (known !== undefined) return known;
  const bytes = Buffer.from(secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret, "base64");
  const made = createSecretKey(bytes);
  keys.set(secret, made);
  return made;
}

type SignedHeaders = {
  readonly "webhook-id": string;
  readonly "webhook-timestamp": string;
  readonly "webhook-signature": string;
};

/**
 * Signs `id.timestamp.body` with every secret, newest first, so that receivers that know any one of them can verify.
 * Secrets are `whsec_` and base64. Throws a RangeError when there is none: an unsigned webhook must not leave.
 */
export function signWebhook(id: string, at: Instant, body: string, secrets: readonly string[]): SignedHeaders {
  if (secrets.length === 0) throw new RangeError("a webhook needs a secret to be signed with");
  const timestamp = Math.floor(at / SECOND_MS).toString();
  const content = `${id}.${timestamp}.${body}`;
  const signatures = secrets.map(
    (secret) =>
      `v1,${createHmac("sha256", keyOf(secret)).update(/* fence: webhook-signature */ content).digest("base64")}`,
  );
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures.join(" ") };
}
