// Faults of the database while it has rows of people in its hands: what is said of them must not hold the rows.
import { setTimeout as sleep } from "node:timers/promises";
import { messages } from "../../../src/projections/models/messages.ts";
import { members } from "../../../src/projections/models/rooms.ts";
import { tableName } from "../../../src/projections/projection.ts";
import type { Kept } from "./secrets-kept.ts";
import type { Used } from "./secrets-run.ts";
import { connection } from "./secrets-stores.ts";
import type { Talk } from "./secrets-talk.ts";

const TIMEOUT_MS = 60_000;

type Trouble = {
  readonly talk: Talk;
  readonly kept: Kept;
  readonly used: Used;
  readonly databaseUrl: string;
  /** Of the rule that refuses the rows, for PostgreSQL to say. */
  readonly name: string;
  /** What the server has printed. */
  readonly output: () => string;
};

/** A request that fails by a fault of the server, and a batch of a read model that is refused for its rows. */
export async function makeTrouble({ talk, kept, used, databaseUrl, name, output }: Trouble): Promise<void> {
  await using database = await connection(databaseUrl);
  const { client } = database;
  const [table, membersTable] = [`read.${tableName(messages)}`, tableName(members)];
  await client.query(`alter table read.${membersTable} rename to members_away`);
  await talk.call("GET", `/users/${encodeURIComponent(used.user)}/rooms`, { as: used.key, status: 500 });
  await client.query(`alter table read.members_away rename to ${membersTable}`);

  const rule = client.escapeIdentifier(name);
  await client.query(`alter table ${table} add constraint ${rule} check (sender is null) not valid`);
  const body = { sender_id: used.user, content: kept.text("message") };
  const { id } = await talk.call("POST", `/rooms/${used.room}/messages`, { as: used.key, body });
  for (const deadline = performance.now() + TIMEOUT_MS; !output().includes(name); await sleep(20)) {
    if (performance.now() > deadline) throw new Error("the server did not say that it is in trouble");
  }
  await client.query(`alter table ${table} drop constraint ${rule}`);
  const path = `/rooms/${used.room}/messages?limit=1`;
  await talk.once(path, used.key, ({ data }) => data[0]?.id === id);
}
