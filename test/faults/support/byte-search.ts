// Finds secrets in bytes: their heads and tails, in each of the ways in which text and keys are written down.

/** What of a secret is looked for at either end: one that was cut short, or has something in front, is found too. */
const WINDOW = 12;
const MIN_LENGTH = 8;

type Needle = { readonly name: string; readonly bytes: Buffer };

export type Search = {
  /** The names of the secrets that stand in these bytes. */
  find(bytes: Buffer): ReadonlySet<string>;
};

/** Prepares a search for secrets by name; several may share one. Texts are looked for as text and as bytes. */
export function searchFor(secrets: Iterable<readonly [name: string, secret: string | Uint8Array]>): Search {
  const byStart = new Map<number, Needle[]>();
  // By the hash of four bytes: whether a needle may begin with them. Nearly every place is told apart by that.
  const mayStart = new Uint8Array(1 << HASH_BITS);
  for (const [name, secret] of secrets) {
    if (secret.length < MIN_LENGTH) throw new RangeError(`${name} is too short to be told from chance`);
    for (const bytes of ends(secret).flatMap(formsOf)) {
      const start = bytes.readInt32LE(0);
      byStart.set(start, [...(byStart.get(start) ?? []), { name, bytes }]);
      mayStart[hashOf(start)] = 1;
    }
  }
  return {
    find(bytes) {
      const found = new Set<string>();
      let start = 0;
      for (let end = 0; end < bytes.length; end += 1) {
        start = (start >>> 8) | ((bytes[end] ?? 0) << 24);
        if (mayStart[hashOf(start)] === 0) continue;
        const at = end - 3;
        for (const needle of byStart.get(start) ?? []) {
          if (bytes.subarray(at, at + needle.bytes.length).equals(needle.bytes)) found.add(needle.name);
        }
      }
      return found;
    },
  };
}

const HASH_BITS = 20;
const hashOf = (start: number): number => Math.imul(start, 0x9e3779b1) >>> (32 - HASH_BITS);

function ends(secret: string | Uint8Array): readonly (string | Buffer)[] {
  if (typeof secret === "string")
    return [secret.slice(0, WINDOW), secret.slice(-WINDOW)].map((end) => end.toWellFormed());
  return [Buffer.from(secret.subarray(0, WINDOW)), Buffer.from(secret.subarray(-WINDOW))];
}

/** Every way of writing it. */
export function formsOf(plain: string | Buffer): readonly Buffer[] {
  const bytes = Buffer.from(plain);
  const hex = bytes.toString("hex");
  const coded = [hex, hex.toUpperCase(), ...[0, 1, 2].flatMap((before) => inBase64(bytes, before))];
  const written = typeof plain === "string" ? asText(plain) : [];
  const forms = [bytes, ...[...coded, ...written].map((text) => Buffer.from(text))];
  return [...new Map(forms.map((form) => [form.toString("latin1"), form])).values()];
}

/** Of bytes that others stand before and behind: only the characters that are theirs alone. */
function inBase64(bytes: Buffer, before: number): readonly string[] {
  const whole = Buffer.concat([Buffer.alloc(before), bytes]);
  const own = whole.toString("base64").slice(Math.ceil((before * 8) / 6), Math.floor((whole.length * 8) / 6));
  return [own, own.replaceAll("+", "-").replaceAll("/", "_")];
}

function asText(text: string): readonly string[] {
  const json = JSON.stringify(text).slice(1, -1);
  const ascii = json.replaceAll(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const everyByte = Buffer.from(text).toString("hex").replaceAll(/../g, "%$&");
  const percent = [encodeURIComponent(text), everyByte, everyByte.toUpperCase()];
  return [json, ascii, JSON.stringify(json).slice(1, -1), ...percent];
}
