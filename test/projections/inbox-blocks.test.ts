// What is unread in a long inbox: the counts by blocks of positions say what counting one by one would.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { DeliveryId, Subject } from "../../src/contract/ids.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import { inboxStream } from "../../src/domain/inbox.ts";
import { notificationStream } from "../../src/domain/notification.ts";
import { positionOf } from "../../src/event-store/event-store.ts";
import { type InboxRow, inbox, inboxMarks } from "../../src/projections/models/inbox.ts";
import { countInboxes, inboxBlocks } from "../../src/projections/models/inbox-list.ts";
import { type Row, type RowMove, tableName } from "../../src/projections/projection.ts";
import type { ReadAs, ReadSide } from "../../src/projections/read-side.ts";
import { rebuild } from "../../src/projections/rebuild.ts";
import { copyRows } from "../../src/projections/row-store.ts";
import { pick, seeded } from "../faults/support/random.ts";
import { ANNA, BEN, CLIENT, deliveryRequested, EVE, NOTIFICATION, requestedNotification } from "./log.ts";
import { type Setting, setting } from "./setting.ts";

let given: Setting;
let readSide: ReadSide;
let read: ReadAs;
const draw = seeded(3);
/** Positions of a small and of a large block. */
const [SMALL, LARGE] = [2 ** 14, 2 ** 26];

/** Items of a log as long as the largest there are, many of them at the ends of blocks. */
const numbers = [
  ...Array.from({ length: 300 }, () => Math.floor(draw() ** 3 * 2 ** 44)),
  ...[0, 1, SMALL, LARGE, LARGE + SMALL, 5 * LARGE].flatMap((edge) => [edge - 1, edge, edge + 1]),
  ...Array.from({ length: 200 }, () => 5 * LARGE + Math.floor(draw() * 3 * SMALL)),
].filter((number) => number >= 0);
const itemOf = (number: number, index: number): InboxRow => ({
  ...{ id: `dlv_${index}`, client: CLIENT, subject: BEN, notification_id: NOTIFICATION },
  item: pick(draw, ["new", "new", "new", "read", "archived"] as const),
  ...{ unread_after: null, unarchived_after: null, seen_at: null, read_at: null, archived_at: null },
  ...{ created_at: 1_000 + number, position: positionOf("test", BigInt(number)) },
});
const items = [...new Set(numbers)].sort((a, b) => a - b).map(itemOf);

/** The rows of blocks that these moves lead to, from nothing. */
function blocksOf(moves: readonly RowMove[]): readonly Row[] {
  const changes = inboxBlocks.derived?.changes(moves) ?? [];
  return changes.flatMap((one) => {
    const body = (one.kind === "upsert" ? one.fold(undefined) : undefined) ?? undefined;
    const [client = "", subject = "", width = 0, block = 0] = one.key;
    return body === undefined ? [] : [{ ...body, client, subject, width, block }];
  });
}

beforeAll(async () => {
  given = await setting();
  readSide = await given.open();
  read = readSide.readAs(CLIENT);
  const client = await given.database.pool.connect();
  await copyRows(client, inbox, tableName(inbox), items);
  const moves = items.map((after) => ({ before: undefined, after, beside: undefined }));
  await copyRows(client, inboxBlocks, tableName(inboxBlocks), blocksOf(moves));
  client.release();
});
afterAll(() => given[Symbol.asyncDispose]());

/** As if all up to this number were read, and all up to another seen. */
async function markUpTo(readTo: number | null, seenTo: number | null): Promise<void> {
  const { pool } = given.database;
  await pool.query(`delete from read.${tableName(inboxMarks)}`);
  const marks = [
    [2, readTo],
    [1, seenTo],
  ] as const;
  for (const [level, number] of marks) {
    if (number === null) continue;
    await pool.query(
      `insert into read.${tableName(inboxMarks)} (subject, revision, client, level, at, acknowledged, position)
        values ($1, $2, $3, $2, 1, true, $4)`,
      [BEN, level, CLIENT, positionOf("test", BigInt(number))],
    );
  }
}

test("after any position", async () => {
  const edges = [0, SMALL - 1, SMALL, LARGE - 1, LARGE, LARGE + SMALL, 5 * LARGE + 2 * SMALL, 2 ** 45];
  const newAfter = (number: number) =>
    items.filter(({ item, position }) => item === "new" && position > positionOf("test", BigInt(number))).length;
  for (let n = 0; n < 60; n += 1) {
    const readTo = edges[n] ?? pick(draw, numbers) - Math.floor(draw() * 2);
    const seenTo = Math.max(readTo, pick(draw, [readTo, pick(draw, numbers), ...edges]));
    await markUpTo(Math.max(0, readTo), seenTo);
    expect(await countInboxes(read, [BEN])).toEqual([
      { subject: BEN, unread_count: newAfter(Math.max(0, readTo)), unseen_count: newAfter(seenTo) },
    ]);
  }
  await markUpTo(null, null);
  const all = items.filter(({ item }) => item === "new").length;
  expect(await countInboxes(read, [BEN])).toEqual([{ subject: BEN, unread_count: all, unseen_count: all }]);
});

test("what comes and goes in one batch or in several, and a rebuild, leave the same blocks", async () => {
  await given.write(notificationStream(NOTIFICATION), [requestedNotification("websocket", [ANNA])]);
  const base = { notification: NOTIFICATION, recipient: ANNA, from: "pending", to: "pending" } as const;
  const cancelled = { type: "DeliveryCancelled", data: { ...base, to: "cancelled" } } as const;
  const ids: readonly DeliveryId[] = ["dlv_a", "dlv_b", "dlv_c", "dlv_d", "dlv_e"];
  for (const id of ids) await given.write(deliveryStream(id), [deliveryRequested(ANNA, "websocket")]);
  await given.write(deliveryStream("dlv_eve"), [deliveryRequested(EVE, "websocket")]);
  await given.write(deliveryStream("dlv_a"), [cancelled]);
  await readSide.caughtUp();
  await given.write(deliveryStream("dlv_b"), [cancelled]);
  await given.write(deliveryStream("dlv_eve"), [{ ...cancelled, data: { ...cancelled.data, recipient: EVE } }]);
  await given.write(deliveryStream("dlv_c"), [{ type: "DeliveryMarked", data: { ...base, as: "read" } }]);
  await given.write(deliveryStream("dlv_d"), [
    { type: "DeliverySuppressed", data: { ...base, to: "suppressed", reason: "preference" } },
  ]);
  await readSide.caughtUp();
  const unread = async (subject: Subject) => (await countInboxes(read, [subject]))[0];
  expect(await unread(ANNA)).toEqual({ subject: ANNA, unread_count: 1, unseen_count: 1 });
  await given.database.pool.query(`delete from read.${tableName(inbox)} where subject = $1`, [BEN]);
  await given.database.pool.query(`delete from read.${tableName(inboxBlocks)} where subject = $1`, [BEN]);
  // Nothing is left of one that was alone in its block.
  const rows = await given.database.pool.query(`select from read.${tableName(inboxBlocks)} where subject = $1`, [EVE]);
  expect(rows.rowCount).toBe(0);
  const built = await rebuild(given.parts, { names: ["inbox_blocks"], verify: true });
  expect(built.differences).toEqual([]);
  await given.write(inboxStream(ANNA), [{ type: "InboxMarked", data: { as: "read", beforeAt: null } }]);
  await readSide.caughtUp();
  expect(await unread(ANNA)).toEqual({ subject: ANNA, unread_count: 0, unseen_count: 0 });
});
