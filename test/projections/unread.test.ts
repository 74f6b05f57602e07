// What is unread, after random histories: in each room, in all of them and by mentions, as if it were counted one by one.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cursor } from "../../src/contract/fields.ts";
import type { Subject } from "../../src/contract/ids.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { listReads, roomsOfUser, unreadOf } from "../../src/projections/models/reads.ts";
import type { ReadSide } from "../../src/projections/read-side.ts";
import { rebuild } from "../../src/projections/rebuild.ts";
import { seeded } from "../faults/support/random.ts";
import { seed } from "../support/seed.ts";
import { sized } from "../support/size.ts";
import * as events from "./log.ts";
import { type Setting, setting } from "./setting.ts";
import { type Unread, UnreadHistory } from "./unread-history.ts";

const { ANNA, BEN, CLIENT, EVE, OTHER } = events;

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

test("what began before one's joining and grew until after it is not unread where the room hides it", async () => {
  const room = "room_hidden0001";
  const write = (...all: DomainEvent[]) => given.write(`room-${room}`, all);
  const about = { room, mentions: [BEN], everyone: true, growing: true } as const;
  const ended = events.grown("MessageCompleted", ANNA, 2, "grown", { ordinal: 1, mentions: [BEN] });
  await write(
    events.roomCreated(
      [ANNA].map((one) => events.member(one)),
      { history: "from_join" },
    ),
  );
  await write(events.posted(ANNA, 2, 0, about), events.joined(BEN), ended);
  await write(events.posted(ANNA, 5, 2, { room, mentions: [BEN] }));
  const unread = async () => {
    await readSide.caughtUp();
    return unreadOf(readSide.readAs(CLIENT), room, BEN);
  };
  expect(await unread()).toMatchObject({ read_seq: 3, unread_count: 1, mention_count: 1 });
  expect(await listed(BEN)).toEqual({ rooms: [{ room, unread_count: 1, mention_count: 1 }], total: 1 });
  await write(events.roomUpdated({ history: "all" }));
  expect(await unread()).toMatchObject({ read_seq: 3, unread_count: 2, mention_count: 2 });
  await write({ type: "RoomDeleted", data: {} });
});

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
