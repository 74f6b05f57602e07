// Message DB: its table, indexes and `write_message`, from the package's own SQL files.
import { readFile } from "node:fs/promises";
import type pg from "pg";
import { rivalFile } from "../support/rival.ts";

// In the order of its install scripts. Its role and pgcrypto need a superuser and are left out: the functions used here
// need neither, `gen_random_uuid` is PostgreSQL's own by now.
const FILES = [
  ...["schema/message-store", "tables/messages", "types/message"],
  ...["functions/hash-64", "functions/acquire-lock", "functions/category", "functions/is-category"],
  ...["functions/id", "functions/cardinal-id", "functions/stream-version", "functions/write-message"],
  ...["indexes/messages-id", "indexes/messages-stream", "indexes/messages-category"],
];

/** Makes its schema. Connections that write need `message_store` in their search path. */
export async function installMessageDb(client: pg.ClientBase): Promise<void> {
  await client.query("create schema if not exists message_store; set search_path to message_store, public");
  for (const file of FILES) {
    const sql = await readFile(rivalFile(`@eventide/message-db/database/${file}.sql`), "utf8");
    await client.query(
      sql
        .replaceAll("CREATE UNIQUE INDEX CONCURRENTLY", "CREATE UNIQUE INDEX")
        .replaceAll("CREATE INDEX CONCURRENTLY", "CREATE INDEX"),
    );
  }
}

/** Appends one event to a stream that has `count` already. */
export async function writeMessage(
  pool: pg.Pool,
  stream: string,
  count: number,
  event: { id: string; type: string; data: string; metadata: string },
): Promise<void> {
  const values = [event.id, stream, event.type, event.data, event.metadata, count - 1];
  await pool.query({ name: "write", text: "select write_message($1, $2, $3, $4, $5, $6)", values });
}
