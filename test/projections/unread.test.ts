// What is unread, after random histories: in each room, in all of them and by mentions, as if it were counted one by one.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cursor } from "../../src/contract/fields.ts";
import type { Subject } from "../../src/contract/ids.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { listReads, roomsOfUser, unreadOf } from "../../src/projections/models/reads.ts";
import type { ReadSide } from "../../src/projections/read-side.ts";
import { rebuild } from "../../src/projections/rebuild.ts";
import { seeded } from "../faults/support/random.ts";
import { seed } from "../support/seed.ts";
import { sized } from "../support/size.ts";
import { ANNA, BEN, CLIENT, EVE, OTHER } from "./log.ts";
import { type Setting, setting } from "./setting.ts";
import { type Unread, UnreadHistory } from "./unread-history.ts";

const LOOKS = sized(8, 200);
const STEPS = 150;
const PEOPLE: readonly Subject[] = [ANNA, BEN, EVE, "sub_joe"];

let given: Setting;
let readSide: ReadSide;
beforeAll(async () => {
  given = await setting();
  readSide = await given.open();
});
afterAll(() => given[Symbol.asyncDispose]());

/** What the read models say of a user's rooms, in pages. */
async function listed(subject: Subject): Promise<{ readonly rooms: readonly Unread[]; readonly total: number }> {
  const read = readSide.readAs(CLIENT);
  const rooms: Unread[] = [];
  for (let cursor: Cursor | undefined; ; ) {
    const page = await roomsOfUser(read, subject, { limit: 5, ...(cursor === undefined ? {} : { cursor }) });
    rooms.push(
      ...page.rows.map(({ room, unread_count, mention_count }) => ({
        room: room.room_id,
        unread_count,
        mention_count,
      })),
    );
    if (page.next === null) return { rooms, total: page.unreadTotal };
    cursor = page.next;
  }
}

async function expectCounted(history: UnreadHistory): Promise<void> {
  await readSide.caughtUp();
  for (const subject of PEOPLE) {
    const rooms = history.of(subject);
    const total = rooms.reduce((sum, { unread_count }) => sum + unread_count, 0);
    expect(await listed(subject), subject).toEqual({ rooms, total });
  }
}

test("it is what counting says, before and after a rebuild", async () => {
  const draw = seeded(seed);
  const history = new UnreadHistory(given.write, draw, CLIENT, PEOPLE);
  const theirs = new UnreadHistory(given.write, draw, OTHER, PEOPLE);
  for (let look = 0; look < LOOKS; look += 1) {
    for (let step = 0; step < STEPS; step += 1) await (draw() < 0.9 ? history : theirs).step();
    await expectCounted(history);
  }
  const read = readSide.readAs(CLIENT);
  for (const subject of PEOPLE) {
    for (const { room, unread_count, mention_count } of history.of(subject)) {
      expect(await unreadOf(read, room, subject)).toMatchObject({ unread_count, mention_count });
      const { rows } = await listReads(read, room, { limit: 10 });
      expect(rows.find((row) => row.subject === subject)).toMatchObject({ unread_count, mention_count });
    }
  }
  const { differences } = await rebuild(given.parts, { names: "all", verify: true });
  expect(differences).toEqual([]);
  await expectCounted(history);
  // Whose words are erased has read what it had read.
  for (const subject of PEOPLE) await given.parts.keyring.destroy(subject);
  await rebuild(given.parts, { names: storedProjections.map(({ name }) => name), verify: false });
  await expectCounted(history);
}, 300_000);
