// Rebuilding: from nothing, beside a group that goes on, with and without differences.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LOCKS, lockSession } from "../../src/platform/locks.ts";
import { readGroup } from "../../src/projections/group.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { messages } from "../../src/projections/models/messages.ts";
import { members, rooms } from "../../src/projections/models/rooms.ts";
import { tableName } from "../../src/projections/projection.ts";
import { RebuildRunning, rebuild, UnknownProjection } from "../../src/projections/rebuild.ts";
import { sized } from "../support/size.ts";
import {
  ANNA,
  BEN,
  CLIENT,
  deliveryRequested,
  edited,
  joined,
  left,
  marked,
  member,
  NOTIFICATION,
  posted,
  ROOM,
  reaction,
  registered,
  removed,
  requestedNotification,
  restored,
  roomCreated,
  scheduled,
} from "./log.ts";
import { pausing, type Setting, setting } from "./setting.ts";

const STREAM = `room-${ROOM}`;
const [first = rooms] = storedProjections;

/** Everything that the read models hold, as text. */
async function contents({ database }: Setting): Promise<Record<string, string[]>> {
  const all: Record<string, string[]> = {};
  for (const projection of storedProjections) {
    const { rows } = await database.pool.query(
      `select t::text as row from read.${tableName(projection)} t order by ${projection.key.join(", ")}`,
    );
    all[projection.name] = rows.map((row: { row: string }) => row.row);
  }
  return all;
}

async function indexes({ database }: Setting): Promise<readonly string[]> {
  const { rows } = await database.pool.query(
    "select indexdef from pg_indexes where schemaname = 'read' and tablename <> 'groups' order by 1",
  );
  return rows.map((row: { indexdef: string }) => row.indexdef);
}

async function aBitOfEverything({ write }: Setting): Promise<void> {
  const key = { id: "key_a" as const, name: "Key", hash: "0".repeat(64), last4: "abcd" };
  const client = { client: CLIENT, name: "One", description: null, key, webhookSecret: { open: "whsec" } };
  await write(`client-${CLIENT}`, [{ type: "ClientRegistered", data: client }], { fingerprint: "f", command: "cmd" });
  const settings = {
    ...{ url: { open: "https://example.com/hook" }, recipient: ANNA, events: ["message.*"], roomIds: null },
    ...{ filter: null, description: null, headers: { open: [] }, ordered: false, ratePerSecond: null },
    ...{ timeoutSeconds: 15, retrySchedule: null },
  };
  const own = { client: CLIENT, endpoint: "whk_1" as const, secret: { open: "whsec" } };
  const start = { after: null, notBefore: null };
  await write(`client-${CLIENT}`, [{ type: "EndpointCreated", data: { ...own, ...settings, start } }]);
  await write(`user-${ANNA}`, [registered(ANNA, 'An"na\\ \t\n{}, NULL')]);
  await write(STREAM, [roomCreated([member(ANNA, "owner")], { meta: { b: 1, a: [null, "\\N\n"] } }), joined(BEN)]);
  const messages = Array.from({ length: 30 }, (_, index) => posted(index % 2 ? BEN : ANNA, index + 3, index + 1));
  await write(STREAM, messages, { fingerprint: "g" });
  await write(STREAM, [removed(4), edited(ANNA, 3, "tab\tback\\slash\r\nnull \\N"), left(BEN), joined(BEN)]);
  const reply = { thread: 3, mentions: [ANNA], everyone: true };
  await write(STREAM, [posted(BEN, 37, 31, reply), removed(37, ROOM, { to: 3, sender: BEN })]);
  await write(STREAM, [restored(37, ROOM, { to: 3, sender: BEN }), reaction("ReactionAdded", ANNA, 3, "👍")]);
  await write(STREAM, [edited(BEN, 37, "changed", { mentions: [BEN], unmentioned: [ANNA] })]);
  const banned = { subject: "sub_carl", user: { open: "carl" }, until: null, reason: null } as const;
  await write(STREAM, [{ type: "MemberBanned", data: banned }]);
  const filter = { statuses: [], channels: null, providers: null, endpoints: null, errorCodes: null };
  const suppressed = { subject: BEN, address: { open: "ben@example.com" }, category: null, delivery: null } as const;
  await write("suppression-sub_ben", [{ type: "AddressSuppressed", data: { ...suppressed, reason: "manual" } }]);
  await write(`preferences-${ANNA}`, [
    { type: "PreferencesSet", data: { subject: ANNA, categories: { open: [] }, quietHours: null } },
  ]);
  await write(`inbox-${ANNA}`, [{ type: "InboxMarked", data: { as: "read", beforeAt: null } }]);
  await write("scheduled-sch_1", [scheduled("MessageScheduled", ANNA, "later"), { type: "MessageDue", data: {} }]);
  await write("redrive-rdr_1", [
    { type: "RedriveRequested", data: { filter: { ...filter, fromAt: null, toAt: null }, matched: 1 } },
  ]);
  await write(`reads-${ROOM}`, [marked(ANNA, 5), marked(BEN, 9)]);
  await write(`notification-${NOTIFICATION}`, [
    requestedNotification("email", [ANNA]),
    { type: "NotificationReleased", data: {} },
  ]);
  await write("delivery-dlv_2", [deliveryRequested(BEN, "websocket")]);
  await write("delivery-dlv_1", [deliveryRequested(ANNA, "email")]);
  const about = { notification: NOTIFICATION, recipient: ANNA, n: 1, provider: "smtp" } as const;
  await write("delivery-dlv_1", [
    {
      type: "DeliveryAttemptStarted",
      data: { ...about, from: "pending", to: "sending", leaseUntil: 5_000, domain: null },
    },
    {
      type: "DeliverySucceeded",
      data: { ...about, from: "sending", to: "sent", response: null, providerMessageId: "m", recipients: [] },
    },
  ]);
}

describe("rebuilding", () => {
  let given: Setting;
  beforeAll(async () => {
    given = await setting();
    await aBitOfEverything(given);
  });
  afterAll(() => given[Symbol.asyncDispose]());

  test("the live path and the build from nothing give the same rows and indexes, text for text", async () => {
    // This one builds (COPY) what is in the log already, then takes the rest row by row.
    const first = await given.open();
    expect(given.warnings.some((warning) => warning.startsWith("read models are built from the log"))).toBe(true);
    const built = await contents(given);
    const builtIndexes = await indexes(given);
    for (const [name, rows] of Object.entries(built)) expect(rows.length, name).toBeGreaterThan(0);
    await first[Symbol.asyncDispose]();

    await using another = await setting();
    await using live = await another.open();
    expect(another.warnings, "a first start has nothing to warn of").toEqual([]);
    await aBitOfEverything(another);
    await live.caughtUp();
    const names = (row: string) => row.replaceAll(another.store.logId, "LOG").replaceAll(given.store.logId, "LOG");
    const lived = await contents(another);
    for (const name of Object.keys(built)) {
      // Events' ids differ, as commands' do.
      if (name === "audit" || name === "command_ids") expect(lived[name]?.length).toBe(built[name]?.length);
      else expect(lived[name]?.map(names)).toEqual(built[name]?.map(names));
    }
    expect(await indexes(another)).toEqual(builtIndexes);
  });

  test("everything comes back when the schema is dropped", async () => {
    const before = await contents(given);
    await given.database.pool.query("drop schema read cascade");
    await using _again = await given.open();
    expect(await contents(given)).toEqual(before);
    expect(given.warnings.some((warning) => warning.startsWith("read models are built from the log"))).toBe(true);
  });

  test("a missing table is built alone, up to where the group is", async () => {
    const before = await contents(given);
    const group = await readGroup(given.database.pool);
    await given.database.pool.query(`drop table read.${tableName(members)}`);
    await using _again = await given.open();
    expect(await contents(given)).toEqual(before);
    expect(await readGroup(given.database.pool)).toMatchObject({ checkpoint: group?.checkpoint });
  });

  test("one that was not kept up is not trusted", async () => {
    const before = await contents(given);
    await given.database.pool.query("update read.groups set tables = array_remove(tables, $1)", [tableName(rooms)]);
    await given.database.pool.query(`update read.${tableName(rooms)} set seq = 1`);
    await using _again = await given.open();
    expect(await contents(given)).toEqual(before);
  });

  test("verify finds nothing when nothing is wrong, and names what is", async () => {
    await using _running = await given.open();
    const all = { names: "all", verify: true } as const;
    const fine = await rebuild(given.parts, all);
    expect(fine.differences).toEqual([]);
    expect(fine.compared).toHaveLength(storedProjections.length);
    expect(fine.compared.find(({ table }) => table === tableName(messages))).toMatchObject({ rows: 31, differing: 0 });
    expect(fine.tables).toContain(tableName(messages));

    const { pool } = given.database;
    const table = tableName(messages);
    await pool.query(`update read.${table} set content = 'forged', meta = '{"n" : 5}' where seq = 5`);
    await pool.query(`delete from read.${table} where seq = 6`);
    const copied = Object.keys(messages.columns).join().replace("seq", "99");
    await pool.query(`insert into read.${table} select ${copied} from read.${table} where seq = 7`);
    const wrong = await rebuild(given.parts, { names: ["messages"], verify: true });
    expect(wrong.compared).toEqual([{ table, rows: 31, differing: 3 }]);
    expect(new Set(wrong.differences)).toEqual(
      new Set([
        { table, key: { room_id: ROOM, seq: 5 }, kind: "different", columns: ["content", "meta"] },
        { table, key: { room_id: ROOM, seq: 6 }, kind: "missing", columns: [] },
        { table, key: { room_id: ROOM, seq: 99 }, kind: "extra", columns: [] },
      ]),
    );
    expect((await rebuild(given.parts, { names: ["messages"], verify: true })).differences).toEqual([]);
  });

  test("a name that is none, and a second rebuild at once, are refused", async () => {
    await expect(rebuild(given.parts, { names: ["nothing"], verify: false })).rejects.toThrow(UnknownProjection);
    const other = await given.database.pool.connect();
    await lockSession(other, LOCKS.build);
    await expect(rebuild(given.parts, { names: "all", verify: false })).rejects.toThrow(RebuildRunning);
    other.release(true);
  });
});

test("a rebuild beside a group that writes all the time loses nothing, and finds no difference", async () => {
  await using given = await setting();
  await aBitOfEverything(given);
  await using readSide = await given.open();
  let writing = true;
  let seq = 37;
  const writer = (async () => {
    while (writing) {
      const many = Array.from({ length: 20 }, (_, index) => posted(ANNA, seq + index + 1, seq + index - 5));
      await given.write(STREAM, many);
      seq += many.length;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  const progress: number[] = [];
  for (let round = 0; round < sized(1, 3); round += 1) {
    const onProgress = ({ done, total }: { done: number; total: number }) => progress.push(done / total);
    const { differences } = await rebuild(given.parts, { names: "all", verify: true, onProgress });
    expect(differences).toEqual([]);
  }
  writing = false;
  await writer;
  await readSide.caughtUp();
  expect(progress.every((part) => part > 0 && part <= 1)).toBe(true);
  expect((await contents(given)).messages).toHaveLength(seq - 37 + 31);
  expect((await rebuild(given.parts, { names: "all", verify: true })).differences).toEqual([]);
});

test("while tables are swapped nobody else moves the group", async () => {
  await using given = await setting();
  await aBitOfEverything(given);
  await using readSide = await given.open();
  await readSide.caughtUp();
  const moved: unknown[] = [];
  const move = async () => {
    const client = await given.database.pool.connect();
    await client.query("begin; set local lock_timeout = '200ms'");
    const update = client.query("update read.groups set checkpoint = checkpoint");
    moved.push(await update.then(() => "moved").catch((error: { code?: string }) => error.code));
    await client.query("rollback");
    client.release();
  };
  const pool = pausing(given.parts.pool, async (text) => {
    if (text === `drop table if exists read.${tableName(first)}`) await move();
  });
  await rebuild({ ...given.parts, pool }, { names: "all", verify: false });
  expect(moved).toEqual(["55P03"]);
});

test("a rebuild that fails leaves the live tables and no shadows", async () => {
  await using given = await setting();
  await aBitOfEverything(given);
  await using readSide = await given.open();
  await readSide.caughtUp();
  const before = await contents(given);
  const broken = { ...given.parts.store, readAll: async () => Promise.reject(new Error("the log is gone")) };
  const pool = pausing(given.parts.pool, async () => {});
  const parts = { ...given.parts, pool, store: broken };
  await expect(rebuild(parts, { names: "all", verify: false })).rejects.toThrow("the log is gone");
  expect(await contents(given)).toEqual(before);
  const shadows = await given.database.pool.query("select from pg_tables where tablename like '%_new'");
  expect(shadows.rowCount).toBe(0);
});
