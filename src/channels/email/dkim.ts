// channels/email/dkim.ts: signs mails by DKIM (RFC 6376), with RSA or Ed25519 (RFC 8463).

import { createHash, createPrivateKey, type KeyObject, sign } from "node:crypto";
import { LRUCache } from "lru-cache";
import { DELIVERY_HEADER } from "../../contract/providers.ts";
import { type Instant, SECOND_MS } from "../../contract/time.ts";

/** The key's public half is published at `<selector>._domainkey.<domain>`. */
export type DkimSettings = {
  readonly domain: string;
  readonly selector: string;
  /** PEM. */
  readonly private_key: string;
};

const MIN_RSA_BITS = 1_024;
const MAX_RSA_BITS = 4_096;

/** The signed headers, where a mail has them. `From` is signed once more, so that none can be added. */
const SIGNED: readonly string[] = [
  ...["from", "from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "mime-version"],
  ...["content-type", "content-transfer-encoding", "in-reply-to", "references", "auto-submitted"],
  ...["list-id", "list-unsubscribe", "list-unsubscribe-post", DELIVERY_HEADER.toLowerCase()],
];

const MAX_KEYS = 200;
const keys = new LRUCache<string, KeyObject>({ max: MAX_KEYS });

function privateKey(pem: string): KeyObject {
  const key = keys.get(pem) ?? createPrivateKey(pem);
  keys.set(pem, key);
  return key;
}

/** Why a key cannot sign. Null: it can. Says nothing of the key itself. */
export function dkimKeyFault(pem: string): string | null {
  try {
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = createPrivateKey(pem);
    if (type === "ed25519") return null;
    if (type !== "rsa") return "must be an RSA or Ed25519 key";
    const bits = details?.modulusLength ?? 0;
    const fine = bits >= MIN_RSA_BITS && bits <= MAX_RSA_BITS;
    return fine ? null : `must have ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits`;
  } catch {
    return "must be a private key in PEM, without a passphrase";
  }
}

/** The mail with its signature as the first header. Its other bytes stay as they are. */
export function withSignature(message: Buffer, dkim: DkimSettings, at: Instant): Buffer {
  const end = message.indexOf("\r\n\r\n");
  const head = message.toString("latin1", 0, end);
  const key = privateKey(dkim.private_key);
  const algorithm = key.asymmetricKeyType === "ed25519" ? "ed25519" : "rsa";
  const headers = new Map(head.split(/\r\n(?![ \t])/).map((line) => [nameOf(line), line]));
  const names = SIGNED.filter((name) => headers.has(name));
  const bodyHash = createHash("sha256")
    .update(relaxedBody(message.subarray(end + 4)))
    .digest("base64");
  const tags = [
    ...["v=1", `a=${algorithm}-sha256`, "c=relaxed/relaxed", `d=${dkim.domain}`, `s=${dkim.selector}`],
    ...[`t=${Math.floor(at / SECOND_MS)}`, `h=${names.join(":\r\n ")}`, `bh=${bodyHash}`, "b="],
  ];
  const unsigned = `DKIM-Signature: ${tags.join(";\r\n ")}`;
  // A name's second mention is of a header that is not there, and adds nothing.
  const lines = [...new Set(names)].map((name) => `${relaxedHeader(headers.get(name) ?? "")}\r\n`);
  const data = Buffer.from(lines.join("") + relaxedHeader(unsigned), "latin1");
  const signature = signatureOf(key, data).toString("base64");
  const folded = signature.replace(/.{1,72}/g, (part, from: number) => (from === 0 ? part : `\r\n ${part}`));
  return Buffer.concat([Buffer.from(`${unsigned}${folded}\r\n`, "latin1"), message]);
}

/** Ed25519 signs the hash (RFC 8463, 3), RSA hashes by itself. */
const signatureOf = (key: KeyObject, data: Buffer): Buffer =>
  key.asymmetricKeyType === "ed25519"
    ? sign(null, createHash("sha256").update(data).digest(), key)
    : sign("sha256", data, key);

const nameOf = (line: string): string => line.slice(0, line.indexOf(":")).trim().toLowerCase();

/** RFC 6376, 3.4.2. */
function relaxedHeader(line: string): string {
  const value = line.slice(line.indexOf(":") + 1).replaceAll("\r\n", "");
  return `${nameOf(line)}:${value.replace(/[ \t]+/g, " ").trim()}`;
}

/** RFC 6376, 3.4.4. Every line ends as it does on its way. */
function relaxedBody(body: Buffer): Buffer {
  const text = body
    .toString("latin1")
    .replace(/\r?\n/g, "\r\n")
    .replace(/[ \t]+/g, " ")
    .replaceAll(" \r\n", "\r\n");
  const complete = text.endsWith(" ") ? text.slice(0, -1) : text;
  let end = complete.length;
  while (complete.startsWith("\r\n", end - 2) && end >= 2) end -= 2;
  return Buffer.from(end === 0 ? "" : `${complete.slice(0, end)}\r\n`, "latin1");
}
