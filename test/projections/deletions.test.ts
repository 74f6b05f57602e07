// What is unread beside many deleted messages: the counts by blocks say what counting one by one would.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { listReads, unreadOf } from "../../src/projections/models/reads.ts";
import type { ReadAs } from "../../src/projections/read-as.ts";
import { ANNA, BEN, CLIENT, member, posted, ROOM, removed, restored, roomCreated } from "./log.ts";
import { type Setting, setting } from "./setting.ts";

/** More than a large block. */
const POSTED = 4_300;
const isSystem = (seq: number) => seq % 13 === 0;
/** Two runs across the ends of blocks, and every third otherwise; some come back. */
const isDeleted = (seq: number) => (seq > 50 && seq < 200) || (seq > 4_000 && seq < 4_150) || seq % 3 === 0;
const isRestored = (seq: number) => seq % 5 === 0;

let given: Setting;
let read: ReadAs;
beforeAll(async () => {
  given = await setting();
  const readSide = await given.open();
  const seqs = Array.from({ length: POSTED }, (_, index) => index + 2);
  let ordinal = 0;
  const post = (seq: number): DomainEvent => {
    if (!isSystem(seq)) ordinal += 1;
    return posted(BEN, seq, ordinal, isSystem(seq) ? { type: "system" } : {});
  };
  await given.write(`room-${ROOM}`, [roomCreated([member(ANNA), member(BEN)])]);
  const gone = seqs.filter(isDeleted);
  const events = [
    ...seqs.map(post),
    ...gone.map((seq) => removed(seq)),
    ...gone.filter(isRestored).map((seq) => restored(seq)),
  ];
  for (let from = 0; from < events.length; from += 1_000) {
    await given.write(`room-${ROOM}`, events.slice(from, from + 1_000));
  }
  await readSide.caughtUp();
  read = readSide.readAs(CLIENT);
}, 120_000);
afterAll(() => given[Symbol.asyncDispose]());

const unreadAfter = (marker: number): number => {
  let count = 0;
  for (let seq = marker + 1; seq <= POSTED + 1; seq += 1) {
    if (!isSystem(seq) && (!isDeleted(seq) || isRestored(seq))) count += 1;
  }
  return count;
};

test.each([1, 2, 63, 64, 65, 127, 128, 199, 2_000, 4_031, 4_032, 4_094, 4_095, 4_096, 4_160, 4_299, 4_301])(
  "after seq %i",
  async (marker) => {
    await given.database.pool.query("delete from read.reads_v3");
    await given.database.pool.query(
      "insert into read.reads_v3 (room_id, subject, client, seq, base, delivered_seq, at) values ($1, $2, $3, $4, 0, 0, 1) on conflict (room_id, subject) do update set seq = excluded.seq",
      [ROOM, ANNA, CLIENT, marker],
    );
    expect(await unreadOf(read, ROOM, ANNA)).toMatchObject({ read_seq: marker, unread_count: unreadAfter(marker) });
    const page = await listReads(read, ROOM, { limit: 10 });
    expect(page.rows.find((row) => row.subject === ANNA)?.unread_count).toBe(unreadAfter(marker));
  },
);
