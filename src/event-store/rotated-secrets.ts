// Secrets of the server's own that are rotated: each keeps its number, and an older one goes when nothing of its lives on.
import type pg from "pg";
import { LOCKS, lockInTransaction } from "../platform/locks.ts";
import { inTransaction } from "../platform/postgres.ts";
import { insertKeys, type KeyRow, newKeyRow, type WrappingRing } from "./wrapped-keys.ts";

/** `id` is null for the first one, which was made before secrets had ids. */
export type RotatedSecret = { readonly id: string | null; readonly key: Uint8Array };

export type RotateOptions = {
  readonly at: Date;
  /** How long an older one is kept after the next one was made. */
  readonly keepMs: number;
};

type SecretRow = KeyRow & { readonly createdAt: Date };

/** Newest first. The first has the plain owner, those that follow have their number behind a colon. */
async function rowsOf(client: Pick<pg.ClientBase, "query">, owner: string): Promise<readonly SecretRow[]> {
  const { rows } = await client.query<SecretRow>({
    name: "rotated_secrets",
    text: `SELECT id, owner, client, wrapped, kek, created_at AS "createdAt" FROM keys.data_keys
      WHERE owner = $1 OR (owner > $2 AND owner < $3)`,
    // ";" is the character after ":".
    values: [owner, `${owner}:`, `${owner};`],
  });
  return rows.toSorted((a, b) => numberOf(b) - numberOf(a));
}

/** `server:<name>` is 0, `server:<name>:<n>` is n. */
const numberOf = ({ owner }: KeyRow): number => Number(owner.split(":")[2] ?? 0);

/** All that are kept, newest first. */
export async function readRotated(pool: pg.Pool, ring: WrappingRing, owner: string): Promise<readonly RotatedSecret[]> {
  const rows = await rowsOf(pool, owner);
  return rows.map((row) => ({ id: numberOf(row) === 0 ? null : row.id, key: ring.unwrap(row, row) }));
}

/** Makes a new one and drops those that were followed by another one for longer than they are kept. */
export function rotate(
  pool: pg.Pool,
  ring: WrappingRing,
  owner: string,
  { at, keepMs }: RotateOptions,
): Promise<{ readonly id: string; readonly dropped: number }> {
  return inTransaction(pool, async (client) => {
    await lockInTransaction(client, LOCKS.keyTable);
    const there = await rowsOf(client, owner);
    const [newest] = there;
    const number = newest === undefined ? 1 : numberOf(newest) + 1;
    const made: SecretRow = { ...newKeyRow(ring, `${owner}:${number}`, null), createdAt: at };
    await insertKeys(client, [made]);
    const followed = there.map((row, index) => ({ row, since: (there[index - 1] ?? made).createdAt }));
    const over = followed.filter(({ since }) => since.getTime() + keepMs <= at.getTime());
    // fence: token-secret-over
    await client.query("DELETE FROM keys.data_keys WHERE id = ANY($1)", [over.map(({ row }) => row.id)]);
    return { id: made.id, dropped: over.length };
  });
}
