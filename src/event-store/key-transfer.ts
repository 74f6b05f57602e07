// Data keys on the move to another database: they stay wrapped all the way.
import type pg from "pg";
import { z } from "zod";
import { inTransaction } from "../platform/postgres.ts";
import { insertKeys, type KeyRow, MAC_KEY, PAGE, type WrappingRing } from "./wrapped-keys.ts";

/** A data key as an export carries it: JSON, the key itself in base64, wrapped by the key `kek` of the ring it comes from. */
export const WrappedKeySchema = z.object({
  id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  owner: z.string().min(1).max(256),
  client: z.string().nullable(),
  wrapped: z.base64(),
  kek: z.string(),
  created_at: z.iso.datetime(),
});
export type WrappedKey = z.infer<typeof WrappedKeySchema>;

/** `present`: those that were here already; secrets of the server's own stay as they are here. */
export type ImportedKeys = { readonly imported: number; readonly present: number };

/** An owner has another key here already: what the imported one sealed could not be read. Nothing was imported. */
export class KeyConflict extends Error {
  override readonly name = "KeyConflict";
  readonly owner: string;
  constructor(owner: string) {
    super(`${owner} already has another data key here: import into a database without this client's data`);
    this.owner = owner;
  }
}

/** All keys, by id, but those for MACs, which are each log's own. A key made meanwhile may be missing, one destroyed meanwhile may be among them. */
export async function* exportKeys(pool: pg.Pool): AsyncGenerator<WrappedKey> {
  let after = "";
  for (;;) {
    const { rows } = await pool.query<KeyRow & { createdAt: Date }>(
      `SELECT id, owner, client, wrapped, kek, created_at AS "createdAt" FROM keys.data_keys
        WHERE id > $1 AND NOT starts_with(owner, $3) ORDER BY id LIMIT $2`,
      [after, PAGE, MAC_KEY],
    );
    for (const { id, owner, client, wrapped, kek, createdAt } of rows) {
      const key = Buffer.from(wrapped).toString("base64");
      yield { id, owner, client, wrapped: key, kek, created_at: createdAt.toISOString() };
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE) return;
    after = last.id;
  }
}

/** Takes over exported keys in one transaction, wrapped by the ring's newest key. Throws WrongEncryptionKeys, KeyConflict. */
export function importKeys(
  pool: pg.Pool,
  ring: WrappingRing,
  keys: AsyncIterable<WrappedKey> | Iterable<WrappedKey>,
): Promise<ImportedKeys> {
  const work = async (client: pg.PoolClient) => {
    let imported = 0;
    let present = 0;
    for await (const rows of pages(keys, (key) => rewrapped(ring, key))) {
      const inserted = await insertKeys(client, rows);
      const rest = rows.filter((row) => !inserted.has(row.id));
      await refuseConflicts(client, rest);
      imported += inserted.size;
      present += rest.length;
    }
    return { imported, present };
  };
  // The file that the keys come from may be slow.
  return inTransaction(pool, work, { silenceMs: 0 });
}

async function* pages(
  keys: AsyncIterable<WrappedKey> | Iterable<WrappedKey>,
  rowOf: (key: WrappedKey) => KeyRow,
): AsyncGenerator<readonly KeyRow[]> {
  let page: KeyRow[] = [];
  for await (const key of keys) {
    page.push(rowOf(key));
    if (page.length < PAGE) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}

function rewrapped(ring: WrappingRing, { id, owner, client, wrapped, kek, created_at }: WrappedKey): KeyRow {
  const key = ring.unwrap({ id, owner }, { wrapped: Buffer.from(wrapped, "base64"), kek });
  return { id, owner, client, createdAt: new Date(created_at), ...ring.wrap({ id, owner }, key) };
}

async function refuseConflicts(client: pg.PoolClient, rows: readonly KeyRow[]): Promise<void> {
  const data = rows.filter((row) => !row.owner.startsWith("server:"));
  if (data.length === 0) return;
  const { rows: other } = await client.query<{ owner: string }>(
    `SELECT owner FROM unnest($1::text[], $2::text[]) AS given (id, owner)
      WHERE NOT EXISTS (SELECT FROM keys.data_keys AS k WHERE k.owner = given.owner AND k.id = given.id) LIMIT 1`,
    [data.map((row) => row.id), data.map((row) => row.owner)],
  );
  if (other[0] !== undefined) throw new KeyConflict(other[0].owner);
}
