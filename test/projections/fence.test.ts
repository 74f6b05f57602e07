// Two fences around each client's rows, the query's own condition and PostgreSQL's policies: each holds without the other.
import { CompiledQuery } from "kysely";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { SharedSlots } from "../../src/platform/bounded.ts";
import { isDatabaseAway } from "../../src/platform/postgres.ts";
import { queryAsClient } from "../../src/projections/fence.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { listRooms, rooms } from "../../src/projections/models/rooms.ts";
import { tableName } from "../../src/projections/projection.ts";
import { readAs } from "../../src/projections/read-as.ts";
import { rebuild } from "../../src/projections/rebuild.ts";
import { poolOf, superuserUrl } from "../support/postgres.ts";
import { until } from "../support/until.ts";
import { CLIENT, OTHER, roomCreated } from "./log.ts";
import { type Setting, setting } from "./setting.ts";

let given: Setting;
let pool: pg.Pool;
beforeAll(async () => {
  given = await setting();
  ({ pool } = given.database);
  await given.write("room-room_ours", [roomCreated()]);
  await given.write("room-room_theirs", [roomCreated()], { client: OTHER });
  await using readSide = await given.open();
  await readSide.caughtUp();
});
afterAll(() => given[Symbol.asyncDispose]());

const table = `read.${tableName(rooms)}`;
const all = { text: `select room_id from ${table}`, values: [] };
const seen = async (from = pool) => (await queryAsClient<{ room_id: string }>(from, CLIENT, all)).map((r) => r.room_id);
const query = async () => {
  const read = readAs(pool, CLIENT);
  return (await read.rows(read.over({ r: rooms }).selectFrom("r").selectAll())).map((row) => row.room_id);
};
/** What PostgreSQL says to a client's query. */
const refusal = (text: string) =>
  queryAsClient(pool, CLIENT, { text, values: [] }).then(
    () => "carried out",
    (error: pg.DatabaseError) => error.code,
  );
const DENIED = "42501";

/** Does something without the policies. */
async function unfenced<T>(work: () => Promise<T>): Promise<T> {
  await pool.query(`alter table ${table} disable row level security`);
  try {
    return await work();
  } finally {
    await pool.query(`alter table ${table} enable row level security`);
  }
}

describe("a client sees its own rows alone", () => {
  test("by the query's own condition, without the policies", async () => {
    expect(await unfenced(query)).toEqual(["room_ours"]);
  });

  test("by the policies, without a condition", async () => {
    expect(await seen()).toEqual(["room_ours"]);
  });

  test("without both it would see all", async () => {
    expect(await unfenced(seen)).toEqual(["room_ours", "room_theirs"]);
  });

  test("and who reads for no client sees none", async () => {
    const connection = await pool.connect();
    await connection.query("set role pg_database_owner");
    expect((await connection.query(all)).rows).toEqual([]);
    await connection.query("set chatapi.client = ''");
    expect((await connection.query(all)).rows).toEqual([]);
    connection.release(true);
  });

  test("also where the server connects as a superuser", async () => {
    await using superuser = poolOf(superuserUrl(given.database));
    expect((await superuser.query(all)).rowCount).toBe(2);
    expect(await seen(superuser)).toEqual(["room_ours"]);
  });
});

describe("a client's query", () => {
  test("reaches read models alone: no checkpoint, no log, no keys, and no writing", async () => {
    await pool.query("create schema log; create table log.events ()");
    expect(await refusal("select from read.groups")).toBe(DENIED);
    expect(await refusal("select from log.events")).toBe(DENIED);
    expect(await refusal(`delete from ${table}`)).toBe(DENIED);
    expect(await refusal(`update ${table} set name = 'theirs'`)).toBe(DENIED);
  });

  test("leaves nothing on its connection", async () => {
    await using one = poolOf(given.database.url, 1);
    const who = async () =>
      (await one.query("select current_user as name, nullif(current_setting('chatapi.client', true), '') as client"))
        .rows[0];
    const before = await who();
    expect(before).toEqual({ name: "chatapi", client: null });
    expect(await seen(one)).toEqual(["room_ours"]);
    expect(await who()).toEqual(before);
    expect((await one.query(all)).rowCount).toBe(2);
  });

  test("is not carried out when what confines it failed", async () => {
    const make = (client: typeof CLIENT) =>
      queryAsClient(pool, client, { text: "create table public.made ()", values: [] });
    const made = async () => (await pool.query("select to_regclass('public.made') as made")).rows[0].made;
    await expect(make("cli_\0")).rejects.toThrow(pg.DatabaseError);
    expect(await made()).toBeNull();
    await make(CLIENT);
    expect(await made()).toBe("made");
  });

  test("that fails says so, and so does one whose connection is lost", async () => {
    await expect(queryAsClient(pool, CLIENT, { text: "select 1 / $1::int", values: [0] })).rejects.toThrow("by zero");
    const lost = { text: "select pg_terminate_backend(pg_backend_pid())", values: [] };
    await expect(queryAsClient(pool, CLIENT, lost)).rejects.toThrow(/terminat/);
    expect(await seen()).toEqual(["room_ours"]);
  });

  test("with a name is planned once for each connection, and gives each client its own rows", async () => {
    await using one = poolOf(given.database.url, 1);
    const named = { ...all, name: "all rooms" };
    const ids = async (client: typeof CLIENT) => (await queryAsClient(one, client, named)).map((row) => ({ ...row }));
    expect(await ids(CLIENT)).toEqual([{ room_id: "room_ours" }]);
    expect(await ids(OTHER)).toEqual([{ room_id: "room_theirs" }]);
    await seen(one);
    const plans = "select generic_plans::int, custom_plans::int from pg_prepared_statements where name = $1";
    expect((await one.query(plans, [named.name])).rows).toEqual([{ generic_plans: 2, custom_plans: 0 }]);
  });

  const SLEEP = { text: "select pg_sleep(60)", values: [] };
  /** How many such queries PostgreSQL works on. */
  const sleeping = async () => {
    const { rows } = await pool.query<{ count: number }>(
      "select count(*)::int from pg_stat_activity where state = 'active' and query = $1 and datname = current_database()",
      [SLEEP.text],
    );
    return rows[0]?.count;
  };

  test("whose reader is gone is cancelled in PostgreSQL, and its connection goes on", async () => {
    await using two = poolOf(given.database.url, 2);
    const gone = new AbortController();
    const slow = queryAsClient(two, CLIENT, SLEEP, { signal: gone.signal });
    await until(async () => (await sleeping()) === 1);
    const begun = performance.now();
    gone.abort(new Error("the reader is gone"));
    await expect(slow).rejects.toThrow("the reader is gone");
    expect(performance.now() - begun).toBeLessThan(5_000);
    await until(async () => (await sleeping()) === 0);
    expect(two.totalCount).toBe(2);
    expect(await seen(two)).toEqual(["room_ours"]);
    await expect(queryAsClient(two, CLIENT, SLEEP, { signal: gone.signal })).rejects.toThrow("the reader is gone");
  });

  test("of one client leaves connections for those of another", async () => {
    const slots = new SharedSlots({ total: 3, perKey: 2, maxWaiting: 10 });
    await using four = poolOf(given.database.url, 4);
    const gone = new AbortController();
    const greedy = readAs(four, OTHER, { slots, signal: gone.signal });
    const slow = Array.from({ length: 6 }, () => greedy.rows({ compile: () => CompiledQuery.raw(SLEEP.text) }));
    const ended = Promise.allSettled(slow);
    await until(async () => Number(await sleeping()) >= 2);
    expect(await sleeping()).toBe(2);
    const read = readAs(four, CLIENT, { slots });
    expect(await read.rows(read.over({ r: rooms }).selectFrom("r").select("room_id"))).toEqual([
      { room_id: "room_ours" },
    ]);
    gone.abort(new Error("the reader is gone"));
    expect((await ended).every(({ status }) => status === "rejected")).toBe(true);
  });

  test("that is not answered in time is cancelled in PostgreSQL", async () => {
    await using one = poolOf(given.database.url, 1);
    const slow = queryAsClient(one, CLIENT, SLEEP, { answerMs: 50 });
    expect(isDatabaseAway(await slow.catch((error: unknown) => error))).toBe(true);
    await until(async () => (await sleeping()) === 0);
    expect(await seen(one)).toEqual(["room_ours"]);
  });
});

test("a client's query with a name gives its connection up when it is cancelled", async () => {
  await using one = poolOf(given.database.url, 1);
  const slow = queryAsClient(
    one,
    CLIENT,
    { name: "a long sleep", text: "select pg_sleep(60)", values: [] },
    { answerMs: 50 },
  );
  expect(isDatabaseAway(await slow.catch((error: unknown) => error))).toBe(true);
  expect(one.totalCount).toBe(0);
  expect(await seen(one)).toEqual(["room_ours"]);
});

describe("a search", () => {
  test("finds rooms of its own client alone, in any case and script, by one character too", async () => {
    await using own = await setting();
    await using readSide = await own.open();
    const ids = async (part: string, as = CLIENT) => {
      const { rows } = await listRooms(readSide.readAs(as), { sort: "name", search: part, limit: 50 });
      return rows.map((row) => row.room_id);
    };
    await own.write("room-room_ours", [roomCreated()]);
    await own.write("room-room_theirs", [roomCreated()], { client: OTHER });
    const named = [
      ["room_tokyo", "東京オフィス"],
      ["room_kyoto", "京都の会議 und Ärger"],
      ["room_odd", "50% _off_ \\ 'quoted'"],
    ] as const;
    for (const [id, name] of named) await own.write(`room-${id}`, [roomCreated([], { name })]);
    await readSide.caughtUp();
    expect([await ids("GENERAL"), await ids("GENERAL", OTHER)]).toEqual([["room_ours"], ["room_theirs"]]);
    expect([await ids("京"), await ids("東京"), await ids("京東")]).toEqual([
      ["room_kyoto", "room_tokyo"],
      ["room_tokyo"],
      [],
    ]);
    expect([await ids("äRGER"), await ids("% _OFF_ \\ 'q"), await ids("_")]).toEqual([
      ["room_kyoto"],
      ["room_odd"],
      ["room_odd"],
    ]);
    expect(await ids("東京", OTHER)).toEqual([]);
  });

  test("gives a client's query no id of another, and nobody else any", async () => {
    const grams = (await pool.query("select grams from read.room_search_v1 where room_id = 'room_theirs'")).rows[0]
      .grams;
    const query = { text: "select read.search_rooms_v1($1, $2, 10) as id", values: ["general", grams] };
    expect(await queryAsClient(pool, OTHER, query)).toEqual([{ id: "room_theirs" }]);
    expect(await queryAsClient(pool, CLIENT, query)).toEqual([]);
    expect((await pool.query(query)).rows).toEqual([]);
    const { rows } = await pool.query(
      "select has_function_privilege('public', 'read.search_rooms_v1(text, integer[], integer)', 'execute') as open",
    );
    expect(rows).toEqual([{ open: false }]);
  });
});

describe("every table of read models has the fence", () => {
  const fenced = async () => {
    const { rows } = await pool.query<{ name: string }>(
      `select tablename as name from pg_tables join pg_policies using (schemaname, tablename)
       where schemaname = 'read' and rowsecurity order by 1`,
    );
    return rows.map(({ name }) => name);
  };
  const every = storedProjections.map(tableName).toSorted();
  beforeEach(async () => void (await rebuild(given.parts, { names: "all", verify: false })));

  test("and a rebuilt one too", async () => {
    expect(await fenced()).toEqual(every);
  });

  test("one that an older version made without it is built anew", async () => {
    await pool.query(`drop policy client on ${table}; alter table ${table} disable row level security`);
    expect(await fenced()).not.toEqual(every);
    await using _readSide = await given.open();
    expect(await fenced()).toEqual(every);
    expect(await seen()).toEqual(["room_ours"]);
  });
});
