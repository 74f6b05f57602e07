// Data keys in PostgreSQL: the schema `keys`, whose loss is erasure.
import type pg from "pg";
import { LOCKS, lockInTransaction } from "../platform/locks.ts";
import { inTransaction } from "../platform/postgres.ts";
import type { Wrapped } from "./keyring-wrapping.ts";

/** A data key as it is kept. */
export type KeyRow = Wrapped & {
  readonly id: string;
  /** What it seals for: a key reference, or what the server keeps for itself (`pepper:…`, `server:…`). */
  readonly owner: string;
  readonly client: string | null;
};
export type DatedKeyRow = KeyRow & { readonly createdAt: Date };

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
`;

/** How long the second waits for the first. */
const LOCK_TIMEOUT_MS = 30_000;

/** Makes the schema unless it is there. Needs no right to create anything when it is. */
export async function createKeyTable(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ there: boolean }>(
    "SELECT to_regclass('keys.data_keys_kek') IS NOT NULL AS there",
  );
  if (rows[0]?.there === true) return;
  await inTransaction(pool, async (client) => {
    await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
    await lockInTransaction(client, LOCKS.keyTable);
    await client.query(SCHEMA);
  });
}

/** One row for each wrapping key in use. */
export async function oneOfEachKek(pool: pg.Pool): Promise<readonly KeyRow[]> {
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
export async function insertKeys(
  client: Pick<pg.ClientBase, "query">,
  rows: readonly (KeyRow & { createdAt?: Date })[],
): Promise<ReadonlySet<string>> {
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

/** Destroys an owner's key; gives its id, undefined when there was none. */
export async function deleteKey(pool: pg.Pool, owner: string): Promise<string | undefined> {
  const { rows } = await pool.query<{ id: string }>("DELETE FROM keys.data_keys WHERE owner = $1 RETURNING id", [
    owner,
  ]);
  return rows[0]?.id;
}

/** All rows, by id, in pages. A row made meanwhile may be missing, one destroyed meanwhile may be there. */
export async function* allKeys(pool: pg.Pool, pageSize: number): AsyncGenerator<DatedKeyRow> {
  let after = "";
  while (true) {
    const { rows } = await pool.query<DatedKeyRow>(
      `SELECT id, owner, client, wrapped, kek, created_at AS "createdAt" FROM keys.data_keys
        WHERE id > $1 ORDER BY id LIMIT $2`,
      [after, pageSize],
    );
    yield* rows;
    const last = rows.at(-1);
    if (last === undefined || rows.length < pageSize) return;
    after = last.id;
  }
}
