// Where secrets may have come to lie: every table of a database, files, what programs print and are started with.
import { execFile } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { readRing } from "../../../src/event-store/wrapped-keys.ts";

const BYTEA = 17;

/** Every table of a database, by schema: each value as PostgreSQL writes it, bytes as they are. */
export async function tablesOf(url: string): Promise<ReadonlyMap<string, Buffer>> {
  await using database = await connection(url);
  const { client } = database;
  const { rows: tables } = await client.query<[schema: string, name: string]>({
    rowMode: "array",
    text: `select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relkind in ('r', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`,
  });
  const schemas = new Map<string, Buffer[]>();
  for (const [schema, name] of tables) {
    const text = `select * from ${client.escapeIdentifier(schema)}.${client.escapeIdentifier(name)}`;
    const { rows, fields } = await client.query<(string | null)[]>({ rowMode: "array", text });
    const values = rows.flatMap((row) =>
      row.map((value, column) =>
        fields[column]?.dataTypeID === BYTEA && value !== null
          ? Buffer.from(value.slice(2), "hex")
          : Buffer.from(value ?? ""),
      ),
    );
    schemas.set(schema, [...(schemas.get(schema) ?? []), ...values.flatMap((value) => [value, NEW_LINE])]);
  }
  return new Map([...schemas].map(([schema, values]) => [schema, Buffer.concat(values)]));
}

const NEW_LINE = Buffer.from("\n");

/** The statements that PostgreSQL shows to whoever may look at its sessions; this one, with `marker`, is among them. */
export async function statementsOf(url: string, marker: string): Promise<Buffer> {
  await using database = await connection(url);
  const { client } = database;
  const text = `select ${client.escapeLiteral(marker)}, query from pg_stat_activity where datname = current_database()`;
  const { rows } = await client.query<{ query: string }>(text);
  return Buffer.from(rows.map((row) => row.query).join("\n"));
}

/** The files of a table, with its indexes and what it keeps apart, below the cluster's folder. */
export async function filesOfTable(url: string, table: string): Promise<readonly string[]> {
  await using database = await connection(url);
  const { rows } = await database.client.query<{ path: string }>(
    `with own as (select oid, reltoastrelid as toast from pg_class where oid = $1::regclass)
     select pg_relation_filepath(c.oid) as path from pg_class c, own
     where c.oid in (own.oid, own.toast)
        or c.oid in (select indexrelid from pg_index where indrelid in (own.oid, own.toast))`,
    [table],
  );
  return rows.map(({ path }) => path);
}

/** Data keys, peppers and the server's own secrets, in the open. */
export async function openedKeys(url: string, ring: readonly string[]): Promise<readonly Uint8Array[]> {
  await using database = await connection(url);
  const sql = "select id, owner, kek, encode(wrapped, 'hex') as hex from keys.data_keys";
  const { rows } = await database.client.query<{ id: string; owner: string; kek: string; hex: string }>(sql);
  const { unwrap } = readRing(ring);
  return rows.map(({ hex, kek, ...label }) => unwrap(label, { kek, wrapped: Buffer.from(hex, "hex") }));
}

/** All values come as the text that PostgreSQL sends. */
export async function connection(url: string): Promise<AsyncDisposable & { readonly client: pg.Client }> {
  const client = new pg.Client({ connectionString: url, types: { getTypeParser: () => (text: unknown) => text } });
  await client.connect();
  return { client, [Symbol.asyncDispose]: () => client.end() };
}

/** The bytes of all files below a folder, by their path in it, without the zeros to which some are made in advance. */
export async function filesBelow(folder: string): Promise<ReadonlyMap<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const path of await readdir(folder, { recursive: true })) {
    if (!(await stat(join(folder, path))).isFile()) continue;
    files.set(path, withoutZeros(await readFile(join(folder, path))));
  }
  return files;
}

const ZEROS = Buffer.alloc(0x1_0000);

function withoutZeros(bytes: Buffer): Buffer {
  let { length } = bytes;
  while (length >= ZEROS.length && bytes.subarray(length - ZEROS.length, length).equals(ZEROS)) length -= ZEROS.length;
  return bytes.subarray(0, length);
}

/** How every process of this machine was started, which all of its users may read. */
export async function commandLines(): Promise<Buffer> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-ww", "-o", "args"], { maxBuffer: 10_000_000 });
  return Buffer.from(stdout);
}
