// Queries about rooms on a real database: what is seen, by whom, in which order, and what is unread.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Cursor } from "../../src/contract/fields.ts";
import type { RoomId, Subject } from "../../src/contract/ids.ts";
import { listMessages } from "../../src/projections/models/messages.ts";
import { listReads, roomsOfUser, unreadOf } from "../../src/projections/models/reads.ts";
import { listMembers, listRooms } from "../../src/projections/models/rooms.ts";
import { listUsers, revokedGenerations, userBySubject } from "../../src/projections/models/users.ts";
import { InvalidCursor, type Page } from "../../src/projections/page.ts";
import type { ReadAs, ReadSide } from "../../src/projections/read-side.ts";
import {
  ANNA,
  BEN,
  CLIENT,
  EVE,
  edited,
  joined,
  left,
  marked,
  member,
  OTHER,
  posted,
  ROOM,
  registered,
  removed,
  restored,
  roomCreated,
} from "./log.ts";
import { memberOf, membersPage, messageById, roomByExternalId, roomById } from "./lookups.ts";
import { type Setting, setting } from "./setting.ts";

const STREAM = `room-${ROOM}`;
const DIRECT: RoomId = "room_direct";
const PUBLIC: RoomId = "room_public";
const THEIRS: RoomId = "room_theirs";

/** All pages of a list, one row at a time. */
async function paged<R>(list: (cursor: Cursor | undefined) => Promise<Page<R>>): Promise<R[]> {
  const rows: R[] = [];
  let cursor: Cursor | undefined;
  do {
    const page = await list(cursor);
    rows.push(...page.rows);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
  return rows;
}
const next = (cursor: Cursor | undefined) => (cursor === undefined ? { limit: 1 } : { limit: 1, cursor });

let given: Setting;
let readSide: ReadSide;
let read: ReadAs;
let theirs: ReadAs;
beforeAll(async () => {
  given = await setting();
  const { write } = given;
  readSide = await given.open();
  read = readSide.readAs(CLIENT);
  theirs = readSide.readAs(OTHER);
  await write(`user-${ANNA}`, [registered(ANNA, "Anna A.")]);
  await write(`user-${BEN}`, [registered(BEN), { type: "TokensRevoked", data: { subject: BEN, generation: 2 } }]);
  const people = [member(ANNA, "owner"), member(BEN, "member", "Benny")];
  await write(STREAM, [roomCreated(people, { name: "beta", externalId: "ext-1" })]);
  await write(STREAM, [posted(ANNA, 2, 1), posted(BEN, 3, 2), posted(ANNA, 4, 2, { type: "system" })]);
  await write(STREAM, [posted(ANNA, 5, 3), posted(ANNA, 6, 4), removed(5), edited(ANNA, 6, "edited")]);
  await write(`room-${DIRECT}`, [roomCreated([member(ANNA), member(EVE)], { name: "Alpha", kind: "direct" })]);
  await write(`room-${PUBLIC}`, [roomCreated([], { name: "Gamma", kind: "public" })]);
  await write(`room-${THEIRS}`, [roomCreated([member(ANNA)], { name: "theirs", externalId: "ext-1" })], {
    client: OTHER,
  });
  await write(`room-${THEIRS}`, [posted(ANNA, 2, 1, { room: THEIRS })], { client: OTHER });
  await readSide.caughtUp();
});
afterAll(() => given[Symbol.asyncDispose]());

describe("one client sees nothing of another's", () => {
  test("by id, by external id, in lists", async () => {
    expect(await roomById(read, THEIRS)).toBeUndefined();
    expect(await roomById(theirs, ROOM)).toBeUndefined();
    expect((await roomByExternalId(read, "ext-1"))?.room_id).toBe(ROOM);
    expect((await roomByExternalId(theirs, "ext-1"))?.room_id).toBe(THEIRS);
    expect(await memberOf(theirs, ROOM, ANNA)).toBeUndefined();
    expect(await userBySubject(theirs, ANNA)).toBeUndefined();
    expect(await unreadOf(theirs, ROOM, ANNA)).toBeUndefined();
    const ours = await listRooms(theirs, { sort: "name", limit: 10 });
    expect(ours.rows.map((room) => room.room_id)).toEqual([THEIRS]);
    expect((await roomsOfUser(theirs, ANNA, { limit: 10 })).rows.map(({ room }) => room.room_id)).toEqual([THEIRS]);
    expect((await listMessages(theirs, ROOM, { order: "asc", includeDeleted: true, limit: 9 })).rows).toEqual([]);
    expect((await listUsers(theirs, { limit: 10 })).rows).toEqual([]);
  });

  test("the operator's handle sees all", async () => {
    const all = await membersPage(readSide.operator(), THEIRS, null, 10);
    expect(all.map((row) => row.subject)).toEqual([ANNA]);
    expect(await revokedGenerations(readSide.operator())).toEqual([{ client: CLIENT, subject: BEN, generation: 2 }]);
  });
});

describe("lists of rooms", () => {
  const names = async (list: Partial<Parameters<typeof listRooms>[1]>) => {
    const rows = await paged((cursor) => listRooms(read, { sort: "-created_at", ...list, ...next(cursor) }));
    return rows.map((room) => room.name);
  };
  test("newest or oldest first, or by name in any case, a page at a time", async () => {
    expect(await names({})).toEqual(["Gamma", "Alpha", "beta"]);
    expect(await names({ sort: "created_at" })).toEqual(["beta", "Alpha", "Gamma"]);
    expect(await names({ sort: "name" })).toEqual(["Alpha", "beta", "Gamma"]);
  });
  test("what a user may see: its own and public ones, each once", async () => {
    expect(await names({ visibleTo: BEN })).toEqual(["Gamma", "beta"]);
    expect(await names({ visibleTo: EVE, sort: "name" })).toEqual(["Alpha", "Gamma"]);
    expect(await names({ visibleTo: EVE, members: [ANNA] })).toEqual(["Alpha"]);
  });
  test("filters", async () => {
    expect(await names({ members: [ANNA] })).toEqual(["Alpha", "beta"]);
    expect(await names({ search: "ALPH" })).toEqual(["Alpha"]);
    expect(await names({ search: "%" })).toEqual([]);
    expect(await names({ externalIds: ["ext-1", "none"] })).toEqual(["beta"]);
    expect(await names({ active: false })).toEqual([]);
    expect(await names({ from: 1_001 })).toEqual([]);
    expect(await names({ from: 1_000, to: 1_001 })).toHaveLength(3);
  });
  test("a cursor of another shape is refused", async () => {
    const wrong = { sort: "name", limit: 1, cursor: ["just one"] } as const;
    await expect(listRooms(read, wrong)).rejects.toThrow(InvalidCursor);
    await expect(
      listMessages(read, ROOM, { order: "asc", includeDeleted: true, limit: 1, cursor: [2 ** 40] }),
    ).rejects.toThrow(InvalidCursor);
  });
});

describe("members", () => {
  test("by name in the room, else the user's own", async () => {
    expect(await memberOf(read, ROOM, ANNA)).toMatchObject({ name: "Anna A.", role: "owner", user_id: "anna" });
    expect(await memberOf(read, ROOM, BEN)).toMatchObject({ name: "Benny" });
  });
  test("paging, newest first, tells those apart that came with the room", async () => {
    const rows = await paged((cursor) => listMembers(read, ROOM, next(cursor)));
    expect(rows.map((row) => row.subject)).toEqual([BEN, ANNA]);
  });
});

describe("messages", () => {
  const seqs = async (list: Partial<Parameters<typeof listMessages>[2]>) => {
    const wanted = { order: "asc", includeDeleted: false, ...list } as const;
    const rows = await paged((cursor) => listMessages(read, ROOM, { ...wanted, ...next(cursor) }));
    return rows.map((row) => row.seq);
  };
  test("bounds are exclusive, filters and order as asked", async () => {
    expect(await seqs({})).toEqual([2, 3, 4, 6]);
    expect(await seqs({ order: "desc" })).toEqual([6, 4, 3, 2]);
    expect(await seqs({ afterSeq: 2, beforeSeq: 6 })).toEqual([3, 4]);
    expect(await seqs({ afterSeq: 2 ** 40 })).toEqual([]);
    expect(await seqs({ senders: [BEN] })).toEqual([3]);
    expect(await seqs({ types: ["system", "image"] })).toEqual([4]);
  });
  test("a deleted message shows that it was, and nothing of what it said", async () => {
    expect(await seqs({ includeDeleted: true })).toEqual([2, 3, 4, 5, 6]);
    const rows = (await listMessages(read, ROOM, { order: "asc", includeDeleted: true, limit: 10 })).rows;
    const gone = rows.find((row) => row.seq === 5);
    expect(gone).toMatchObject({ content: null, meta: {}, deleted_at: 1_000, change_seq: 7, user_id: "anna" });
    expect(await messageById(read, ROOM, gone?.id ?? "")).toEqual(gone);
    expect(JSON.stringify(await roomsOfUser(read, ANNA, { limit: 10 }))).not.toContain("message 5");
  });
  test("by id: only that very message of that room", async () => {
    const [row] = (await listMessages(read, ROOM, { order: "asc", includeDeleted: true, limit: 1 })).rows;
    const id = row?.id ?? "";
    expect(await messageById(read, ROOM, id)).toMatchObject({ seq: 2, content: "message 2" });
    expect(await messageById(read, DIRECT, id)).toBeUndefined();
    expect(await messageById(theirs, ROOM, id)).toBeUndefined();
    expect(await messageById(read, ROOM, "msg_nonsense")).toBeUndefined();
  });
});

test("unread: others' messages after the marker, without deleted and system ones", async () => {
  const { write } = given;
  const unread = async (subject: Subject) => {
    await readSide.caughtUp();
    return unreadOf(read, ROOM, subject);
  };
  // Anna's own last message is 6; Ben's is 3, after it come 4 (system), 5 (deleted), 6.
  expect(await unread(ANNA)).toEqual({ read_seq: 6, delivered_seq: 6, unread_count: 0, mention_count: 0 });
  expect(await unread(BEN)).toEqual({ read_seq: 3, delivered_seq: 3, unread_count: 1, mention_count: 0 });
  await write(STREAM, [restored(5)]);
  expect(await unread(BEN)).toEqual({ read_seq: 3, delivered_seq: 3, unread_count: 2, mention_count: 0 });
  await write(`reads-${ROOM}`, [marked(BEN, 5)]);
  expect(await unread(BEN)).toEqual({ read_seq: 5, delivered_seq: 5, unread_count: 1, mention_count: 0 });
  await write(STREAM, [removed(5), removed(6)]);
  expect(await unread(BEN)).toEqual({ read_seq: 5, delivered_seq: 5, unread_count: 0, mention_count: 0 });
  await write(STREAM, [joined(EVE), posted(ANNA, 13, 5), posted(ANNA, 14, 6)]);
  expect(await unread(EVE)).toEqual({ read_seq: 12, delivered_seq: 12, unread_count: 2, mention_count: 0 });
  expect(await unread(BEN)).toEqual({ read_seq: 5, delivered_seq: 5, unread_count: 2, mention_count: 0 });
  expect((await roomsOfUser(read, EVE, { limit: 1 })).unreadTotal).toBe(2);
  await write(STREAM, [left(EVE)]);
  expect(await unread(EVE)).toBeUndefined();
  const rows = await paged((cursor) => listReads(read, ROOM, next(cursor)));
  expect(rows).toMatchObject([
    { subject: BEN, user_id: "ben", read_seq: 5, unread_count: 2, mention_count: 0, at: 1_000 },
    { subject: ANNA, read_seq: 14, unread_count: 0, mention_count: 0, at: null },
  ]);
});

test("a user's rooms: newest activity first, with the last message that still is one", async () => {
  await given.write(STREAM, [removed(14)]);
  await readSide.caughtUp();
  const rows = await paged((cursor) => roomsOfUser(read, ANNA, next(cursor)));
  expect(rows).toMatchObject([
    { room: { room_id: ROOM, name: "beta" }, role: "owner", unread_count: 0, last_message: { seq: 13 } },
    { room: { room_id: DIRECT }, role: "member", read_seq: 0, unread_count: 0, last_message: null },
  ]);
});

test("a deleted room is gone, and so is all that was in it", async () => {
  await given.write(STREAM, [{ type: "RoomDeleted", data: {} }]);
  await readSide.caughtUp();
  expect(await roomById(read, ROOM)).toBeUndefined();
  expect(await roomByExternalId(read, "ext-1")).toBeUndefined();
  expect(await memberOf(read, ROOM, ANNA)).toBeUndefined();
  expect(await unreadOf(read, ROOM, ANNA)).toBeUndefined();
  expect((await listMembers(read, ROOM, { limit: 5 })).rows).toEqual([]);
  expect((await listMessages(read, ROOM, { order: "asc", includeDeleted: true, limit: 5 })).rows).toEqual([]);
  expect((await roomsOfUser(read, ANNA, { limit: 5 })).rows.map(({ room }) => room.room_id)).toEqual([DIRECT]);
  expect((await listRooms(read, { sort: "name", visibleTo: ANNA, limit: 5 })).rows.map((room) => room.name)).toEqual([
    "Alpha",
    "Gamma",
  ]);
});
