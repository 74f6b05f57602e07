// Data keys as they are kept: wrapped by ENCRYPTION_KEYS, in the schema `keys`.
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import type pg from "pg";
import { LOCKS, setUpInTransaction } from "../platform/locks.ts";
import { keyObjectOf } from "../platform/secrets.ts";

/** The length of data keys, and of the keys that wrap them. */
const KEY_BYTES = 32;
const ID_BYTES = 12;
/** Format 1 was written before events had MACs. */
const FORMATS = [1, 2] as const;
const FORMAT = 2;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const ENTRY = /^(?:(?<id>[A-Za-z0-9_.-]{1,64}):)?(?<key>[A-Za-z0-9+/]{43}=?)$/;

// The ring: the keys that wrap data keys by AES-256-GCM. What it makes is a storage format.

/** The data keys in the database were wrapped by keys that this ring does not hold; it must not be used with it. */
export class WrongEncryptionKeys extends Error {
  override readonly name = "WrongEncryptionKeys";
  /** The id of the wrapping key that is missing, or that has this id but is another key. */
  readonly kek: string;
  constructor(kek: string, why: string, options?: ErrorOptions) {
    super(`ENCRYPTION_KEYS: does not fit this database: ${why}`, options);
    this.kek = kek;
  }
}

/** ENCRYPTION_KEYS is no ring of keys. The message names entries by their number and never shows one. */
export class InvalidEncryptionKeys extends Error {
  override readonly name = "InvalidEncryptionKeys";
}

/** Whose key it is, bound into the wrapping: a wrapped key moved to another row no longer opens. */
type Label = { readonly id: string; readonly owner: string };
type Wrapped = { readonly wrapped: Uint8Array; readonly kek: string };

export type WrappingRing = {
  /** The id of the newest key. */
  readonly newest: string;
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
    newest: kek,
    wrap: (label, key) => ({ kek, wrapped: encrypt(wrapper, label, key) }),
    unwrap(label, { wrapped, kek: used }) {
      const key = keys.get(used);
      if (key === undefined) throw new WrongEncryptionKeys(used, `it lacks the key ${used}, which wraps data keys`);
      try {
        return decrypt(key, label, wrapped);
      } catch (cause) {
        const why = `its key ${used} does not open the data key ${label.id}: another key, or a damaged row`;
        throw new WrongEncryptionKeys(used, why, { cause });
      }
    },
  };
}

function aad({ owner, id }: Label, format: number): Buffer {
  // fence: key-wrapping-row
  const row = [owner, id];
  return Buffer.from(JSON.stringify(format === 1 ? row : [format, ...row]));
}

function encrypt(wrapper: Uint8Array, label: Label, key: Uint8Array): Uint8Array {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", keyObjectOf(wrapper), iv).setAAD(aad(label, FORMAT));
  const text = Buffer.concat([cipher.update(key), cipher.final()]);
  return Buffer.concat([Buffer.of(FORMAT), iv, text, cipher.getAuthTag()]);
}

function decrypt(wrapper: Uint8Array, label: Label, wrapped: Uint8Array): Uint8Array {
  const bytes = Buffer.from(wrapped);
  const format = FORMATS.find((known) => known === bytes[0]);
  if (bytes.length !== 1 + IV_BYTES + KEY_BYTES + TAG_BYTES || format === undefined) {
    throw new Error("not a wrapped key of a known format");
  }
  const decipher = createDecipheriv("aes-256-gcm", keyObjectOf(wrapper), bytes.subarray(1, 1 + IV_BYTES), {
    authTagLength: TAG_BYTES,
  })
    .setAAD(aad(label, format))
    .setAuthTag(bytes.subarray(-TAG_BYTES));
  // In memory of its own: a piece of the buffers' pool would keep all 64 KB of it for as long as the key is cached.
  const key = new Uint8Array(KEY_BYTES);
  key.set(decipher.update(bytes.subarray(1 + IV_BYTES, -TAG_BYTES)));
  decipher.final();
  return key;
}

// The table: its loss is erasure.

/** A data key as it is kept. */
export type KeyRow = Wrapped & {
  readonly id: string;
  /** What it seals for: a key reference, or what the server keeps for itself (`pepper:…`, `server:…`). */
  readonly owner: string;
  readonly client: string | null;
  /** Default: now. */
  readonly createdAt?: Date;
};

// Storage format. The index by wrapping key finds one row of each at start.
const SCHEMA = `
CREATE SCHEMA IF NOT EXISTS keys;
CREATE TABLE IF NOT EXISTS keys.data_keys (
  id text COLLATE "C" PRIMARY KEY,
  owner text COLLATE "C" NOT NULL UNIQUE,
  client text COLLATE "C",
  wrapped bytea NOT NULL,
  kek text COLLATE "C" NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS data_keys_kek ON keys.data_keys (kek, id);
-- What was destroyed, so that a key that is missing is not taken for one. The proof is an HMAC over the id.
CREATE TABLE IF NOT EXISTS keys.destroyed_keys (
  id text COLLATE "C" PRIMARY KEY,
  proof bytea NOT NULL,
  destroyed_at timestamptz(3) NOT NULL DEFAULT now()
);
`;

/** The owner of the key that makes a log's MACs: this, and the position up to which the log's events have none. */
export const MAC_KEY = "server:event-mac:";

/** Rows read or written at once. */
export const PAGE = 1_000;

/** Makes the schema unless it is there. Needs no right to create anything when it is. */
export async function createKeyTable(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ exists: boolean }>(
    "SELECT to_regclass('keys.destroyed_keys') IS NOT NULL AS exists",
  );
  if (rows[0]?.exists === true) return;
  await setUpInTransaction(pool, LOCKS.keyTable, (client) => client.query(SCHEMA));
}

/** A new data key of this owner, not yet in the table. */
export function newKeyRow(ring: WrappingRing, owner: string, client: string | null): KeyRow {
  const id = randomBytes(ID_BYTES).toString("base64url");
  return { id, owner, client, ...ring.wrap({ id, owner }, randomBytes(KEY_BYTES)) };
}

/** One row for each wrapping key in use. */
export async function selectOnePerKek(pool: pg.Pool): Promise<readonly KeyRow[]> {
  const { rows } = await pool.query<KeyRow>(`
    WITH RECURSIVE one AS (
      (SELECT id, owner, client, wrapped, kek FROM keys.data_keys ORDER BY kek, id LIMIT 1)
      UNION ALL
      SELECT next.* FROM one CROSS JOIN LATERAL (
        SELECT id, owner, client, wrapped, kek FROM keys.data_keys WHERE kek > one.kek ORDER BY kek, id LIMIT 1
      ) AS next
    ) SELECT * FROM one`);
  return rows;
}

export async function selectByOwner(pool: pg.Pool, owners: readonly string[]): Promise<readonly KeyRow[]> {
  const { rows } = await pool.query<KeyRow>({
    name: "keys_by_owner",
    text: "SELECT id, owner, client, wrapped, kek FROM keys.data_keys WHERE owner = ANY($1)",
    values: [owners],
  });
  return rows;
}

export async function selectById(pool: pg.Pool, ids: readonly string[]): Promise<readonly KeyRow[]> {
  const { rows } = await pool.query<KeyRow>({
    name: "keys_by_id",
    text: "SELECT id, owner, client, wrapped, kek FROM keys.data_keys WHERE id = ANY($1)",
    values: [ids],
  });
  return rows;
}

/**
 * Inserts the rows whose owner has none yet; gives the ids of those that were inserted. One statement, in the owners'
 * order, so that two processes that make the same keys wait for each other and never deadlock. Committed when it
 * returns, unless `client` is in a transaction.
 */
export async function insertKeys(client: Queryable, rows: readonly KeyRow[]): Promise<ReadonlySet<string>> {
  const now = new Date();
  const inserted = await client.query<{ id: string }>({
    text: `INSERT INTO keys.data_keys (id, owner, client, wrapped, kek, created_at)
      SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::timestamptz[]) AS new (id, owner)
      ORDER BY new.owner COLLATE "C" ON CONFLICT (owner) DO NOTHING RETURNING id`,
    values: [
      rows.map((row) => row.id),
      rows.map((row) => row.owner),
      rows.map((row) => row.client),
      rows.map((row) => Buffer.from(row.wrapped)),
      rows.map((row) => row.kek),
      rows.map((row) => row.createdAt ?? now),
    ],
  });
  return new Set(inserted.rows.map((row) => row.id));
}

/** Destroys an owner's key and records that it was; gives its id, undefined when there was none. */
export async function deleteKey(
  pool: pg.Pool,
  owner: string,
  proofOf: (id: string) => Promise<Uint8Array>,
): Promise<string | undefined> {
  const [row] = await selectByOwner(pool, [owner]);
  if (row === undefined) return undefined;
  const { rowCount } = await pool.query(
    `WITH gone AS (DELETE FROM keys.data_keys WHERE id = $1 RETURNING id)
     INSERT INTO keys.destroyed_keys (id, proof) SELECT id, $2 FROM gone ON CONFLICT (id) DO NOTHING`,
    [row.id, await proofOf(row.id)],
  );
  return rowCount === 0 ? undefined : row.id;
}

/** Records keys as destroyed that are not here. */
export async function insertDestroyed(pool: pg.Pool, records: ReadonlyMap<string, Uint8Array>): Promise<void> {
  await pool.query(
    `INSERT INTO keys.destroyed_keys (id, proof) SELECT * FROM unnest($1::text[], $2::bytea[]) AS new (id, proof)
     WHERE NOT EXISTS (SELECT FROM keys.data_keys AS k WHERE k.id = new.id) ON CONFLICT (id) DO NOTHING`,
    [[...records.keys()], Array.from(records.values(), (proof) => Buffer.from(proof))],
  );
}

/** The records of these destroyed keys: proofs by id. */
export async function selectDestroyed(
  pool: pg.Pool,
  ids: readonly string[],
): Promise<readonly { readonly id: string; readonly proof: Uint8Array }[]> {
  const { rows } = await pool.query("SELECT id, proof FROM keys.destroyed_keys WHERE id = ANY($1)", [ids]);
  return rows;
}

/** Wraps every data key that another key wraps with the ring's newest; gives how many. May be cut short and run again. */
export async function rewrapKeys(pool: pg.Pool, ring: WrappingRing): Promise<number> {
  for (let rewrapped = 0; ; ) {
    const { rows } = await pool.query<KeyRow>(
      "SELECT id, owner, client, wrapped, kek FROM keys.data_keys WHERE kek <> $1 ORDER BY kek, id LIMIT $2",
      [ring.newest, PAGE],
    );
    if (rows.length === 0) return rewrapped;
    const now = rows.map((row) => ring.wrap(row, ring.unwrap(row, row)));
    const { rowCount } = await pool.query(
      `UPDATE keys.data_keys AS k SET wrapped = new.wrapped, kek = $1
       FROM unnest($2::text[], $3::text[], $4::bytea[]) AS new (id, kek, wrapped) WHERE k.id = new.id AND k.kek = new.kek`,
      [
        ring.newest,
        rows.map(({ id }) => id),
        rows.map(({ kek }) => kek),
        now.map(({ wrapped }) => Buffer.from(wrapped)),
      ],
    );
    rewrapped += rowCount ?? 0;
  }
}

/** Rows whose owner begins with a text. */
export async function selectByPrefix(client: Queryable, prefix: string): Promise<readonly KeyRow[]> {
  const { rows } = await client.query<KeyRow>(
    "SELECT id, owner, client, wrapped, kek FROM keys.data_keys WHERE starts_with(owner, $1) ORDER BY owner",
    [prefix],
  );
  return rows;
}

/** Whether there are data keys besides those of this kind of owner, and whether any was made since events have MACs. */
export async function keysBesides(
  client: Queryable,
  prefix: string,
): Promise<{ readonly any: boolean; readonly sinceMacs: boolean }> {
  const { rows } = await client.query<{ any: boolean; sinceMacs: boolean }>(
    `SELECT count(*) > 0 AS any, coalesce(bool_or(get_byte(wrapped, 0) > 1), false) AS "sinceMacs"
     FROM keys.data_keys WHERE NOT starts_with(owner, $1)`,
    [prefix],
  );
  return rows[0] ?? { any: false, sinceMacs: false };
}

type Queryable = Pick<pg.ClientBase, "query">;
