// The ring of keys that wrap data keys: AES-256-GCM under ENCRYPTION_KEYS. What it makes is a storage format.
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";

/** Data keys and the keys that wrap them are of this length. */
export const KEY_BYTES = 32;

const FORMAT = 1;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const ENTRY = /^(?:(?<id>[A-Za-z0-9_.-]{1,64}):)?(?<key>[A-Za-z0-9+/]{43}=?)$/;

/** The data keys in the database were wrapped by keys that this ring does not hold; it must not be used with it. */
export class WrongEncryptionKeys extends Error {
  override readonly name = "WrongEncryptionKeys";
  /** The id of the wrapping key that is missing, or that has this id but is another key. */
  readonly kek: string;
  constructor(kek: string, why: string) {
    super(`ENCRYPTION_KEYS: does not fit this database: ${why}`);
    this.kek = kek;
  }
}

/** ENCRYPTION_KEYS is no ring of keys. The message names entries by their place and never shows one. */
export class InvalidEncryptionKeys extends Error {
  override readonly name = "InvalidEncryptionKeys";
}

/** Whose key it is, bound into the wrapping: a wrapped key moved to another row no longer opens. */
type Label = { readonly id: string; readonly owner: string };
export type Wrapped = { readonly wrapped: Uint8Array; readonly kek: string };

export type WrappingRing = {
  /** Wraps with the newest key. */
  wrap(label: Label, key: Uint8Array): Wrapped;
  /** Throws WrongEncryptionKeys when the ring lacks the key, or it does not open this. */
  unwrap(label: Label, wrapped: Wrapped): Uint8Array;
};

/**
 * Reads a ring. Each entry is 32 bytes in base64, or `<id>:` and that; without an id it is the first 8 hex digits of the
 * key's SHA-256. The first entry is the newest and wraps; all unwrap. Throws InvalidEncryptionKeys.
 */
export function readRing(entries: readonly string[]): WrappingRing {
  const keys = new Map<string, Uint8Array>();
  for (const [index, entry] of entries.entries()) {
    const { id, key: text = "" } = ENTRY.exec(entry.trim())?.groups ?? {};
    const key = Buffer.from(text, "base64");
    if (key.length !== KEY_BYTES) {
      throw new InvalidEncryptionKeys(`ENCRYPTION_KEYS: entry ${index + 1} is not 32 bytes in base64`);
    }
    const kek = id ?? createHash("sha256").update(key).digest("hex").slice(0, 8);
    if (keys.has(kek)) throw new InvalidEncryptionKeys(`ENCRYPTION_KEYS: entry ${index + 1} repeats the id ${kek}`);
    keys.set(kek, key);
  }
  const [newest] = keys;
  if (newest === undefined) throw new InvalidEncryptionKeys("ENCRYPTION_KEYS: holds no key");
  const [kek, wrapper] = newest;
  return {
    wrap: (label, key) => ({ kek, wrapped: encrypt(wrapper, label, key) }),
    unwrap(label, { wrapped, kek: used }) {
      const key = keys.get(used);
      if (key === undefined) throw new WrongEncryptionKeys(used, `it lacks the key ${used}, which wraps data keys`);
      try {
        return decrypt(key, label, wrapped);
      } catch (cause) {
        const why = `its key ${used} does not open the data key ${label.id}: another key, or a damaged row`;
        throw Object.assign(new WrongEncryptionKeys(used, why), { cause });
      }
    },
  };
}

const aad = ({ owner, id }: Label) => Buffer.from(JSON.stringify(/* fence: key-wrapping-row */ [owner, id]));

function encrypt(wrapper: Uint8Array, label: Label, key: Uint8Array): Uint8Array {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", wrapper, iv).setAAD(aad(label));
  const text = Buffer.concat([cipher.update(key), cipher.final()]);
  return Buffer.concat([Buffer.of(FORMAT), iv, text, cipher.getAuthTag()]);
}

function decrypt(wrapper: Uint8Array, label: Label, wrapped: Uint8Array): Uint8Array {
  const bytes = Buffer.from(wrapped);
  if (bytes.length !== 1 + IV_BYTES + KEY_BYTES + TAG_BYTES || bytes[0] !== FORMAT) {
    throw new Error("not a wrapped key of a known format");
  }
  const decipher = createDecipheriv("aes-256-gcm", wrapper, bytes.subarray(1, 1 + IV_BYTES), {
    authTagLength: TAG_BYTES,
  })
    .setAAD(aad(label))
    .setAuthTag(bytes.subarray(-TAG_BYTES));
  // In memory of its own: a piece of the buffers' pool would keep all 64 KB of it for as long as the key is remembered.
  const key = new Uint8Array(KEY_BYTES);
  key.set(decipher.update(bytes.subarray(1 + IV_BYTES, -TAG_BYTES)));
  decipher.final();
  return key;
}
