// Finding messages: what a search means in every script, whichever way it is carried out, and what it never gives.
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ClientId, messageId, type RoomId, type Subject } from "../../src/contract/ids.ts";
import { parseQuery } from "../../src/domain/search.ts";
import { queryAsClient } from "../../src/projections/fence.ts";
import { type MessageSearch, messageSearch, searchMessages } from "../../src/projections/models/message-search.ts";
import { members } from "../../src/projections/models/rooms.ts";
import { InvalidCursor } from "../../src/projections/page.ts";
import { tableName } from "../../src/projections/projection.ts";
import type { ReadAs, ReadSide } from "../../src/projections/read-side.ts";
import * as events from "./log.ts";
import { type Setting, setting } from "./setting.ts";

const { ANNA, BEN, CLIENT, EVE, member, posted, removed, restored, roomCreated } = events;
const OTHER: ClientId = "cli_other";
const BIRDS: ClientId = "cli_birds";
const SCRIPTS: RoomId = "room_scripts";
const TEAM: RoomId = "room_theteam";
const BENS: RoomId = "room_bensown";
const GONE: RoomId = "room_deleted";
const THEIRS: RoomId = "room_theirs";
const LATE: RoomId = "room_joined";
/** One of Eve's, who is in more than a search takes into its query for. */
const EVES: RoomId = "room_evesown";

const TEXTS = {
  english: "The quick brown fox jumps over the lazy dog",
  english2: "A quick fox is not brown. Brown bears: quick, too",
  german: "Donaudampfschifffahrtsgesellschaft, große STRASSE",
  french: "Crème brûlée a\u0300 l’E\u0301lyse\u0301e",
  japanese: "東京都庁で会議が行われました。ｶﾞｲﾄﾞ",
  japanese2: "京都の紅葉は美しい",
  astral: "𠮷野家で𩸽を食べた",
  korean: "안녕하세요 회의는 내일입니다",
  thai: "สวัสดีครับ การประชุมวันพรุ่งนี้ทำงาน",
  lao: "ສະບາຍດີ ກອງປະຊຸມ",
  khmer: "សួស្តី ការប្រជុំ",
  burmese: "မင်္ဂလာပါ အစည်းအဝေး",
  arabic: "اجتمع المُدِيرُون أمس",
  hebrew: "שָׁלוֹם לכולם",
  russian: "Встреча ЗАВТРА в Ёлке",
  greek: "Ο ΣΊΣΥΦΟΣ ανεβαίνει",
  turkish: "İstanbul ışık",
  odd: "covid-19 at https://example.com/a_b?c=d 👍🏽 it's 手机app",
} as const;
type Name = keyof typeof TEXTS;

type SearchBounds = NonNullable<Parameters<typeof searchMessages>[2]>;
const MANY: SearchBounds = { scanned: 1_000, enough: 1_000, indexed: 1_000, deep: 1_000 };
/** Each way a search may be carried out. */
const WAYS: Readonly<Record<string, SearchBounds>> = {
  "among the newest": { ...MANY, indexed: 0 },
  "in the index": { ...MANY, scanned: 0 },
};

let given: Setting;
let readSide: ReadSide;
beforeAll(async () => {
  given = await setting();
  readSide = await given.open();
  const texts = (room: RoomId, all: readonly string[], sender: Subject = ANNA) =>
    all.map((content, n) => posted(sender, n + 2, n + 1, { content, room }));
  const owned = (subject: Subject) => roomCreated([member(subject, "owner")]);
  await given.write(`room-${SCRIPTS}`, [owned(ANNA), ...texts(SCRIPTS, Object.values(TEXTS))]);
  await given.write(`room-${TEAM}`, [
    roomCreated([member(ANNA, "owner"), member(BEN)]),
    ...texts(TEAM, ["penguin one", "penguin two, deleted", "penguin three, restored", "an emu"]),
    posted(BEN, 6, 5, { content: "penguin penguin five", room: TEAM, type: "note", mentions: [ANNA] }),
    removed(3, TEAM),
    removed(4, TEAM),
    restored(4, TEAM),
    events.edited(ANNA, 5, "penguin, edited", { mentions: [BEN] }),
  ]);
  await given.write(`room-${BENS}`, [owned(BEN), ...texts(BENS, ["penguin of Ben", "cassowary of Ben"], BEN)]);
  await given.write(`room-${GONE}`, [
    owned(ANNA),
    ...texts(GONE, ["penguin in a deleted room"]),
    { type: "RoomDeleted", data: {} },
  ]);
  await given.write(`room-${THEIRS}`, [owned(ANNA), ...texts(THEIRS, ["penguin of another client"])], {
    client: OTHER,
  });
  await given.write(`room-${LATE}`, [
    roomCreated([member(BEN, "owner")], { history: "from_join" }),
    posted(BEN, 2, 1, { content: "puffin before", room: LATE }),
    events.joined(ANNA),
    posted(BEN, 4, 2, { content: "puffin after", room: LATE }),
    events.edited(BEN, 2, "puffin edited"),
  ]);
  await given.write(`room-${EVES}`, [owned(EVE), ...texts(EVES, ["cassowary of Eve"], EVE)]);
  await readSide.caughtUp();
  const table = `read.${tableName(members)}`;
  await given.database.pool.query(
    `insert into ${table} select (jsonb_populate_record(m, jsonb_build_object('room_id', 'room_many' || n))).*
     from ${table} m, generate_series(1, 200) n where m.subject = $1`,
    [EVE],
  );
}, 60_000);
afterAll(() => given[Symbol.asyncDispose]());

type Asked = Partial<MessageSearch> & { readonly as?: ClientId; readonly bounds?: SearchBounds };

const page = (q: string, { as = CLIENT, bounds, ...search }: Asked = {}) =>
  searchMessages(readSide.readAs(as), { terms: parseQuery(q), limit: 50, ...search }, bounds);
const found = async (q: string, asked?: Asked) => (await page(q, asked)).rows.map(({ row }) => row.content);

describe.each(Object.entries(WAYS))("%s", (_way, bounds) => {
  test.each<[q: string, names: readonly Name[]]>([
    ["quick", ["english", "english2"]],
    ["QUICK fox", ["english", "english2"]],
    ['"quick brown"', ["english"]],
    ['"brown quick"', []],
    ["quick -lazy", ["english2"]],
    ['quick -"quick brown"', ["english2"]],
    ["qui*", ["english", "english2"]],
    ["qui", []],
    ["donaudampf*", ["german"]],
    ["grosse strasse", ["german"]],
    ["GROẞE straße", ["german"]],
    ["creme brulee", ["french"]],
    ["\u00c0 l'élysée", ["french"]],
    ["東京", ["japanese"]],
    ["京都", ["japanese", "japanese2"]],
    ["都京", []],
    ["庁で会議", ["japanese"]],
    ["ガイド", ["japanese"]],
    ["紅", ["japanese2"]],
    ["京 -東", ["japanese2"]],
    ["𩸽", ["astral"]],
    ["𠮷野", ["astral"]],
    ["회의", ["korean"]],
    ["\u1112\u116c\u110b\u1174", ["korean"]], // decomposed
    ["การประชุม", ["thai"]],
    ["พรุ่ง", ["thai"]],
    ["ທດ", []],
    ["ປະຊຸມ", ["lao"]],
    ["ប្រជុំ", ["khmer"]],
    ["စည်းအ", ["burmese"]],
    ["المديرون", ["arabic"]],
    ["امس", ["arabic"]],
    ["שלום", ["hebrew"]],
    ["завтра елке", ["russian"]],
    ["σίσυφος", ["greek"]],
    ["istanbul ISIK", ["turkish"]],
    ["covid-19", ["odd"]],
    ["example.com/a_b", ["odd"]],
    ["👍", ["odd"]],
    ["its", []],
    ["it’s 手机app", ["odd"]],
    ["机a", []],
  ])("%s finds what has it", async (q, names) => {
    const expected = names.map((name) => TEXTS[name]);
    expect((await found(q, { bounds })).toSorted()).toEqual(expected.toSorted());
    expect((await found(q, { bounds, viewer: ANNA })).toSorted()).toEqual(expected.toSorted());
  });

  test("gives nothing that is deleted, of a deleted room, or of another client", async () => {
    const own = ["penguin penguin five", "penguin of Ben", "penguin, edited", "penguin one", "penguin three, restored"];
    expect((await found("penguin", { bounds })).toSorted()).toEqual(own.toSorted());
    expect(await found("penguin", { bounds, as: OTHER })).toEqual(["penguin of another client"]);
    expect(await found("emu", { bounds })).toEqual([]);
    for (const room of [GONE, THEIRS, "room_none", "x' | 'y\\"]) {
      expect(await found("penguin", { bounds, rooms: [room] })).toEqual([]);
    }
  });

  test("gives a user only what is in rooms that it is in", async () => {
    const theirs = ["penguin penguin five", "penguin, edited", "penguin one", "penguin three, restored"];
    expect((await found("penguin", { bounds, viewer: ANNA })).toSorted()).toEqual(theirs.toSorted());
    expect(await found("penguin", { bounds, viewer: BEN })).toContain("penguin of Ben");
    expect(await found("penguin", { bounds, viewer: ANNA, rooms: [BENS] })).toEqual([]);
    expect(await found("penguin", { bounds, viewer: "sub_nobody" })).toEqual([]);
    expect(await found("penguin", { bounds, viewer: ANNA, as: OTHER })).toEqual(["penguin of another client"]);
  });

  test("gives a user of very many rooms only what is in them", async () => {
    const all = { bounds, viewer: EVE };
    expect(await found("cassowary", all)).toEqual(["cassowary of Eve"]);
    expect(await found("cassowary", { ...all, rooms: [BENS] })).toEqual([]);
    expect(await found("cassowary of Ben", all)).toEqual([]);
    expect(await found("cassowary of Ben", { ...all, viewer: BEN })).toEqual(["cassowary of Ben"]);
  });

  test("gives a user nothing from before its joining, where the room hides it", async () => {
    expect(await found("puffin", { bounds, viewer: ANNA })).toEqual(["puffin after"]);
    for (const viewer of [BEN, undefined])
      expect((await found("puffin", { bounds, ...(viewer && { viewer }) })).toSorted()).toEqual([
        "puffin after",
        "puffin edited",
      ]);
  });

  test("is narrowed by room, sender, type, mentions and time", async () => {
    expect(await found("penguin", { bounds, rooms: [BENS, SCRIPTS] })).toEqual(["penguin of Ben"]);
    expect(await found("penguin", { bounds, rooms: [TEAM], senders: [BEN] })).toEqual(["penguin penguin five"]);
    expect(await found("penguin", { bounds, types: ["note"] })).toEqual(["penguin penguin five"]);
    expect(await found("penguin", { bounds, mentioned: [ANNA, "sub_nobody"] })).toEqual(["penguin penguin five"]);
    expect(await found("penguin", { bounds, mentioned: [BEN] })).toEqual(["penguin, edited"]);
    const { row } = (await page("penguin", { types: ["note"] })).rows[0] ?? {};
    const at = row?.created_at ?? 0;
    expect(await found("penguin", { bounds, types: ["note"], from: at, to: at + 1 })).toHaveLength(1);
    expect(await found("penguin", { bounds, types: ["note"], to: at })).toEqual([]);
    expect(await found("penguin", { bounds, types: ["note"], from: at + 1 })).toEqual([]);
  });
});

test("ranks what has a word more often first, and pages by the rank without gap or double", async () => {
  const [first] = (await page("penguin")).rows;
  expect(first?.row.content).toBe("penguin penguin five");
  const all = await found("penguin");
  const seen: unknown[] = [];
  let cursor: MessageSearch["cursor"];
  do {
    const { rows, next } = await page("penguin", { limit: 2, ...(cursor === undefined ? {} : { cursor }) });
    seen.push(...rows.map(({ row }) => row.content));
    cursor = next ?? undefined;
  } while (cursor !== undefined);
  expect(seen).toEqual(all);
  for (const bad of [["x", "1", "a", 1, "1"], ["1e99", "1", "a", 1, "1"], ["1", "1.5", "a", 1, "1"], [1]]) {
    await expect(page("penguin", { cursor: bad })).rejects.toThrow(InvalidCursor);
  }
});

test("gives on later pages what is newer than all on the first, and not what came since", async () => {
  const room: RoomId = "room_pelicans";
  const texts = ["pelican pelican pelican", "pelican pelican", "pelican eats a fish"];
  const post = (content: string, n: number) =>
    given.write(`room-${room}`, [posted(ANNA, n + 2, n + 1, { content, room })], { at: 2_000 + n });
  await given.write(`room-${room}`, [roomCreated()]);
  for (const [n, content] of texts.entries()) await post(content, n);
  await readSide.caughtUp();
  const seen: unknown[] = [];
  let cursor: MessageSearch["cursor"];
  do {
    const { rows, next } = await page("pelican", { limit: 1, ...(cursor === undefined ? {} : { cursor }) });
    seen.push(...rows.map(({ row }) => row.content));
    if (cursor === undefined) {
      await post("pelican that comes late", texts.length);
      await readSide.caughtUp();
    }
    cursor = next ?? undefined;
  } while (cursor !== undefined);
  expect(seen).toEqual(texts);
});

test("gives the newest of what is in very many messages, whether or not it is known that there are so many", async () => {
  const room: RoomId = "room_flamingos";
  const contents = Array.from({ length: 60 }, (_, n) => (n % 2 === 0 ? `flamingo ${n}` : `heron ${n}`));
  await given.write(`room-${room}`, [roomCreated()]);
  for (const [n, content] of contents.entries())
    await given.write(`room-${room}`, [posted(ANNA, n + 2, n + 1, { content, room })], { at: 10_000 + n });
  await readSide.caughtUp();
  const bounds: SearchBounds = { scanned: 10, enough: 8, indexed: 2, deep: 60 };
  const newest = contents.filter((content) => content.startsWith("flamingo")).slice(-8);
  expect((await found("flamingo", { bounds })).toSorted()).toEqual(newest.toSorted());
  await given.database.pool.query("analyze read.message_search_v1");
  expect((await found("flamingo", { bounds })).toSorted()).toEqual(newest.toSorted());
});

test("looks for a word of very many messages among the newest alone, once it is known how many there are", async () => {
  const room: RoomId = "room_cranes";
  await given.write(`room-${room}`, [roomCreated()], { client: BIRDS });
  const all = Array.from({ length: 60 }, (_, n) => (n % 2 === 0 ? `crane ${n}` : `stork ${n}`));
  for (const [n, content] of all.entries())
    await given.write(`room-${room}`, [posted(ANNA, n + 2, n + 1, { content, room })], {
      at: 20_000 + n,
      client: BIRDS,
    });
  await readSide.caughtUp();
  const bounds: SearchBounds = { scanned: 10, enough: 8, indexed: 2, deep: 60 };
  const newest = all.filter((content) => content.startsWith("crane")).slice(-8);
  /** How often this connection has gone through the table or one of its indexes; within a transaction the number only grows. */
  const scans = async (read: ReadAs) => {
    const sum = sql<number>`(select sum(pg_stat_get_xact_numscans(c.oid))::int from pg_class c where c.oid in (
      select 'read.message_search_v1'::regclass union
      select indexrelid from pg_index where indrelid = 'read.message_search_v1'::regclass))`;
    return (await read.rows(read.over({}).selectNoFrom(sum.as("sum"))))[0]?.sum ?? 0;
  };
  const looks = () =>
    readSide.snapshotAs(BIRDS, async (read) => {
      const before = await scans(read);
      const { rows } = await searchMessages(read, { terms: parseQuery("crane"), limit: 50 }, bounds);
      return { found: rows.map(({ row }) => row.content).toSorted(), scans: (await scans(read)) - before };
    });
  // No statistics name the client yet.
  // The newest, the index, and more of the newest.
  expect(await looks()).toEqual({ found: newest.toSorted(), scans: 3 });
  await given.database.pool.query("analyze read.message_search_v1");
  expect(await looks()).toEqual({ found: newest.toSorted(), scans: 2 });
});

test("finds a message that grew from its end on, by all that it says", async () => {
  const room: RoomId = "room_growing";
  const text = { content: { open: "an ostrich runs" }, meta: { open: {} }, mentions: [], everyone: false };
  const ended = { id: messageId(room, 2, 1_000), messageSeq: 2, sender: ANNA, ordinal: 1, ...text };
  await given.write(`room-${room}`, [
    roomCreated([member(ANNA)]),
    posted(ANNA, 2, 0, { content: "an ostrich", room, growing: true }),
  ]);
  await readSide.caughtUp();
  for (const bounds of Object.values(WAYS)) expect(await found("ostrich", { bounds })).toEqual([]);
  await given.write(`room-${room}`, [{ type: "MessageCompleted", data: ended }]);
  await readSide.caughtUp();
  for (const bounds of Object.values(WAYS))
    expect(await found("ostrich runs", { bounds })).toEqual(["an ostrich runs"]);
});

test("has words of very long texts, of very long words the beginning, and phrases behind the last position", async () => {
  const room: RoomId = "room_longish";
  const words = Array.from({ length: 9_000 }, (_, n) => `w${n}`).join(" ");
  const ideographs = Array.from({ length: 10_000 }, (_, n) => String.fromCodePoint(0x4e00 + n)).join("");
  const long = "ﷺ".repeat(10_000);
  await given.write(`room-${room}`, [
    roomCreated(),
    ...[words, ideographs, "x".repeat(10_000), long].map((content, n) => posted(ANNA, n + 2, n + 1, { content, room })),
  ]);
  await readSide.caughtUp();
  expect(await found('"w8998 w8999"')).toEqual([words]);
  expect(await found(ideographs.slice(9_990))).toEqual([ideographs]);
  expect(await found("x".repeat(200))).toEqual(["x".repeat(10_000)]);
  expect(await found("صلى")).toEqual([long]);
});

test("gives nobody else keys, nor a client's query those of another", async () => {
  const { pool } = given.database;
  const { rows } = await pool.query(
    "select oid::regprocedure::text as name, has_function_privilege('public', oid, 'execute') as open from pg_proc where proname like 'search\\_messages\\_%'",
  );
  expect(rows).toEqual([{ name: expect.any(String), open: false }]);
  const name = String(rows[0]?.name).split("(")[0];
  // As another client's lexemes would be looked up, were their tags known.
  const lexeme = "'other' || 'penguin'";
  const text = `select room from ${name}((${lexeme})::tsquery, (${lexeme})::tsquery, (${lexeme})::tsquery,
    null, null, 0, 9e15::bigint, null, null, null, null, 10, $1, 10, $2, 10)`;
  for (const values of [
    [10, 0],
    [0, 10],
  ]) {
    expect(await queryAsClient(pool, OTHER, { text, values })).toEqual([{ room: THEIRS }]);
    expect(await queryAsClient(pool, CLIENT, { text, values })).toEqual([]);
  }
  expect((await pool.query(text, [10, 10])).rows).toEqual([]);
});

test("leaves out of the index what is deleted, and what is of nobody any more", async () => {
  expect(messageSearch.personal).toEqual(["document"]);
  const { rows } = await given.database.pool.query(
    "select count(*)::int as deleted from read.message_search_v1 where deleted",
  );
  expect(rows).toEqual([{ deleted: 1 }]);
});
