// What a search costs in many messages of one client, in ten languages, with row-level security on.
import pg from "pg";
import { type ClientId, messageId, type Subject as Person, type RoomId } from "../../src/contract/ids.ts";
import { parseQuery } from "../../src/domain/search-query.ts";
import { vectorOf } from "../../src/domain/search-vector.ts";
import { type MessageSearch, messageSearch, searchMessages } from "../../src/projections/models/message-search.ts";
import { messages } from "../../src/projections/models/messages.ts";
import { members, rooms } from "../../src/projections/models/rooms.ts";
import { tableName } from "../../src/projections/projection.ts";
import type { ReadAs } from "../../src/projections/read-as.ts";
import { copyRows } from "../../src/projections/row-store.ts";
import { createIndexes } from "../../src/projections/tables.ts";
import { median, quantile } from "../harness/measure.ts";
import { type Goal, rowOf, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { openReadModels, roomName } from "../support/log.ts";
import { processorMs } from "../support/processor-time.ts";
import { LANGUAGES, type Language, seeded } from "../support/texts.ts";

const atMost = { direction: "at most", unit: "ms", goal: 50 } as const;
const byKey: Goal = { ...atMost, name: "16 search by a client key, 10⁶ messages, p95" };
const byUser: Goal = { ...atMost, name: "16 search by a user in 50 rooms, 10⁶ messages, p95" };

const ROOMS = 1_000;
const READERS_ROOMS = 50;
const READER: Person = "sub_reader";
const FIRST_AT = 1_767_225_600_000;
const CHUNK = 5_000;
const PAGE = 20;

const ownMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};

const languageOf = (n: number): Language => LANGUAGES[n % LANGUAGES.length] as Language; // below the length
const textOf = (n: number): string => languageOf(n).sentence(seeded(n * 7_919));

/** What people look for in messages of a language: text of one message, by words as they come. */
function queriesFor(n: number): readonly string[] {
  const text = textOf(n);
  const words = text
    .replace(/[.、]/g, " ")
    .split(" ")
    .filter((word) => word !== "");
  const [first = "", second = first] = words;
  const longest = words.toSorted((one, other) => other.length - one.length)[0] ?? first;
  const characters = [...longest];
  return text.includes(" ")
    ? [
        first,
        longest,
        `${first} ${longest}`,
        `"${first} ${second}"`,
        `${longest} -${first}`,
        `${characters.slice(0, -2).join("")}*`,
      ]
    : [
        characters[0] ?? "",
        characters.slice(0, 2).join(""),
        characters.slice(2, 6).join(""),
        longest,
        `${first} ${second}`,
        `${longest} -${second}`,
      ];
}

type Filled = { readonly read: ReadAs; readonly superuserUrl: string };

async function filled({ postgres, events: count, say }: Bench, open: AsyncDisposableStack): Promise<Filled> {
  say(`${shown(count)} messages`);
  const { database, log, client, readSide } = await openReadModels(postgres, open);
  const connection = await log.pool.connect();
  using _released = { [Symbol.dispose]: () => connection.release() };
  const search = `read.${tableName(messageSearch)}`;
  for (const index of messageSearch.indexes.keys()) await connection.query(`drop index ${search}_i${index}`);
  await connection.query("set synchronous_commit = off");
  const numbers = Array.from({ length: ROOMS }, (_, n) => n);
  const about = {
    position: "bench.0000000000000001",
    activity_position: "bench.0000000000000001",
    settings_seq: 1,
    seq: 1,
  };
  const counted = { ordinal: 0, member_count: 1, message_count: 1, created_at: FIRST_AT, updated_at: FIRST_AT };
  const settings = { name_key: "", kind: "private", join_role: "member", posting: "everyone", meta: {}, active: true };
  await copyRows(
    connection,
    rooms,
    tableName(rooms),
    numbers.map((n) => ({ ...about, ...counted, ...settings, client, deleted: false, room_id: roomName(n) })),
  );
  const member = {
    subject: READER,
    role: "member",
    meta: {},
    joined_at: FIRST_AT,
    joined_seq: 0,
    join_index: 0,
    client,
    position: about.position,
  };
  await copyRows(
    connection,
    members,
    tableName(members),
    numbers.slice(0, READERS_ROOMS).map((n) => ({ ...member, room_id: roomName(n) })),
  );
  for (let from = 0; from < count; from += CHUNK) {
    const chunk = Array.from({ length: Math.min(CHUNK, count - from) }, (_, nth) =>
      messageOf(client, from + nth, count),
    );
    await copyRows(
      connection,
      messages,
      tableName(messages),
      chunk.map(({ message }) => message),
    );
    await copyRows(
      connection,
      messageSearch,
      tableName(messageSearch),
      chunk.map(({ entry }) => entry),
    );
  }
  say("indexes");
  await connection.query("set maintenance_work_mem = '256MB'");
  for (const statement of createIndexes(messageSearch, tableName(messageSearch))) await connection.query(statement);
  await log.pool.query("vacuum analyze");
  const { rows } = await log.pool.query(
    `select pg_size_pretty(pg_total_relation_size('${search}')) as all, pg_size_pretty(pg_relation_size('${search}_i0')) as words`,
  );
  say(`the index with its table: ${rows[0].all}, of it the words: ${rows[0].words}`);
  return { read: readSide.readAs(client), superuserUrl: database.superuserUrl };
}

/** Rooms are unlike: a few have most of the messages. */
function messageOf(client: ClientId, n: number, count: number) {
  const room: RoomId = roomName(Math.floor(ROOMS ** seeded(n * 31 + 7)()) - 1);
  const key = { room_id: room, seq: n + 2, client };
  const sender: Person = `sub_${n % 500}`;
  const created_at = FIRST_AT + Math.floor((n * 180 * 86_400_000) / count);
  const content = textOf(n);
  const facets = { rooms: [room], senders: [sender], types: ["text"], mentioned: [] };
  const rest = { meta: {}, content_seq: n + 2, change_seq: n + 2, ordinal: n + 1, state: "complete" };
  return {
    message: { ...key, ...rest, id: messageId(room, n + 2, created_at), sender, type: "text", content, created_at },
    entry: {
      ...key,
      sender,
      type: "text",
      created_at,
      deleted: false,
      growing: false,
      document: vectorOf(client, content, facets),
    },
  };
}

/** What PostgreSQL does within the function, statement by statement, as its log has it. */
async function plansOf(
  { superuserUrl, read }: Filled,
  query: string,
  more: Partial<MessageSearch>,
): Promise<readonly string[]> {
  let call: { readonly text: string; readonly values: unknown[] } | undefined;
  const capturing: ReadAs = {
    ...read,
    rows(built) {
      const { sql, parameters } = built.compile();
      call ??= { text: sql, values: [...parameters] };
      return read.rows(built);
    },
  };
  await searchMessages(capturing, { terms: parseQuery(query), limit: PAGE, ...more });
  const client = new pg.Client({ connectionString: superuserUrl });
  await client.connect();
  const plans: string[] = [];
  client.on("notice", ({ message = "" }) => plans.push(message.replaceAll(/^(.{200}).*$/gm, "$1…")));
  await client.query("load 'auto_explain'");
  for (const [name, value] of Object.entries(AUTO_EXPLAIN)) await client.query(`set ${name} = ${value}`);
  await client.query("begin");
  await client.query("select set_config('chatapi.client', $1, true)", [read.client]);
  for (const setting of ["role = pg_database_owner", "enable_seqscan = off", "enable_bitmapscan = off"]) {
    await client.query(`set local ${setting}`);
  }
  if (call !== undefined) await client.query(call);
  await client.end();
  return plans.filter((plan) => plan.includes("message_search"));
}

const AUTO_EXPLAIN = {
  "auto_explain.log_min_duration": "0",
  "auto_explain.log_nested_statements": "on",
  "auto_explain.log_analyze": "on",
  "auto_explain.log_timing": "off",
  "auto_explain.log_parameter_max_length": "0",
  client_min_messages: "log",
};

export const search: Subject = {
  name: "search",
  about: "searching the messages of one client, in ten languages",
  goals: [byKey, byUser],
  async run(bench) {
    await using open = new AsyncDisposableStack();
    const filling = await filled(bench, open);
    const { read } = filling;
    const asked = LANGUAGES.flatMap((_, language) =>
      [0, 1, 2, 3].flatMap((part) =>
        queriesFor(Math.floor((bench.events / 4 / LANGUAGES.length) * (part + 0.5)) * LANGUAGES.length + language),
      ),
    );
    const row = async (goal: Goal, more: Partial<MessageSearch>) => {
      const quantiles: Record<"half" | "most" | "worst", number[]> = { half: [], most: [], worst: [] };
      const spent: number[] = [];
      const slowest = { ms: 0, query: "" };
      let found = 0;
      for (let round = 0; round <= bench.rounds; round += 1) {
        const took: number[] = [];
        const before = processorMs(bench.postgres.pid()) + ownMs();
        for (const query of asked) {
          const start = performance.now();
          const { rows } = await searchMessages(read, { terms: parseQuery(query), limit: PAGE, ...more });
          const ms = performance.now() - start;
          took.push(ms);
          found += rows.length;
          if (round > 0 && ms > slowest.ms) Object.assign(slowest, { ms, query });
        }
        if (round === 0) continue; // warms up
        spent.push((processorMs(bench.postgres.pid()) + ownMs() - before) / asked.length);
        quantiles.half.push(quantile(took, 0.5));
        quantiles.most.push(quantile(took, 0.95));
        quantiles.worst.push(quantile(took, 1));
      }
      if (found === 0) throw new Error("nothing was found");
      for (const query of [slowest.query, asked[1] ?? ""]) {
        bench.say(`${goal.name}: ${query}\n${(await plansOf(filling, query, more)).join("\n")}`);
      }
      const [half, worst] = [quantile(quantiles.half, 0.5), quantile(quantiles.worst, 0.5)];
      const figures = `p50 ${shown(half)} ms, worst ${shown(worst)} ms, processor ${shown(median(spent))} ms a search`;
      return rowOf(goal, quantiles.most, { baseline: `${shown(asked.length)} queries`, ours: figures });
    };
    return [await row(byKey, {}), await row(byUser, { viewer: READER })];
  },
};
