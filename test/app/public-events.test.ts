// Frames: what each event of a room looks like, and what they show of messages that were deleted or erased.
import { expect, test } from "vitest";
import type { FrameRun, RoomChannel } from "../../src/api/realtime/room-channel.ts";
import { RoomChannels } from "../../src/api/realtime/room-channels.ts";
import { userDecider, userStream } from "../../src/domain/user.ts";
import { contextOf, createRoom, type LiveParts, liveParts, post, roomServices } from "../support/live.ts";
import { roomCommands } from "../support/room-commands.ts";

const MAX_QUEUE_BYTES = 1024 * 1024;

const CLIENT = "cli_a";
const ROOM = "room_00000000000000000000000001";
const REACH_MS = 5_000;

/** What nobody has done with a message yet. */
const NOTHING_DONE = { thread_of: null, mentions: [], thread: null, reactions: [], state: "complete" };

const openRooms = (parts: LiveParts) => new RoomChannels(roomServices(parts), parts.feed);

type EventFrame = { readonly event: string; readonly seq: number; readonly at: string; readonly actor: object } & {
  readonly data: Readonly<Record<string, unknown>>;
};

/** Every frame of the room from a seq on, as one who catches up gets them. */
async function framesOf(room: RoomChannel, from = 1): Promise<EventFrame[]> {
  const maker = room.newMaker();
  const frames: EventFrame[] = [];
  while (from + frames.length <= room.head) {
    const page = await room.past(from + frames.length, maker, 1_000_000);
    frames.push(...page.map((frame) => JSON.parse(frame.bytes.toString())));
  }
  return frames;
}

/** Makes things happen while the room is live; gives the frames that were live, and those of who comes later. */
async function bothWays(parts: LiveParts, happen: () => Promise<number>): Promise<[EventFrame[], EventFrame[]]> {
  await using rooms = openRooms(parts);
  const live: EventFrame[] = [];
  let head: number;
  {
    using hold = await rooms.open(ROOM);
    const nothing = () => undefined;
    hold.channel.subscribe({
      subject: null,
      frames: ({ payloads }) => void live.push(...payloads.map((one) => JSON.parse(one.toString()))),
      ...{ marker: nothing, ended: nothing },
    });
    head = await happen();
    expect(await hold.channel.awaitHead(head, REACH_MS)).toBe(true);
  }
  using again = await rooms.open(ROOM);
  return [live, again.channel.state === undefined ? [] : await framesOf(again.channel)];
}

test("members: joined, renamed, removed and back, live and from the log alike", async () => {
  await using parts = await liveParts();
  await createRoom(parts, CLIENT, ROOM, { ann: "owner", bob: "member" });
  const act = roomCommands(parts, CLIENT, ROOM);
  const subject = await parts.keyring.subjectOfUser(CLIENT, "bob");
  const profile = { name: "Bob himself", email: null, timezone: null, meta: {} };
  const put = { type: "Put", at: Date.now(), subject, user: "bob", profile } as const;
  await parts.commands.execute(userDecider, userStream(subject), put, contextOf(CLIENT));
  const [live, later] = await bothWays(parts, async () => {
    await act.setMember("bob", "admin", "Bobby");
    await act.setMember("cat", null, "Cat");
    await act.remove("bob");
    await act.remove("cat", true);
    await act.setMember("bob");
    return act.setMember("bob", "reader");
  });
  expect(live).toEqual(later.slice(1));
  const joined = expect.stringMatching(/^20/);
  const bob = { user_id: "bob", meta: {}, joined_at: joined, muted_until: null };
  expect(live.map(({ event, data }) => [event, data])).toEqual([
    ["member.updated", { ...bob, name: "Bobby", role: "admin" }],
    ["member.joined", { user_id: "cat", name: "Cat", role: "member", meta: {}, joined_at: joined, muted_until: null }],
    ["member.left", { ...bob, name: "Bobby", role: "admin", reason: "removed" }],
    [
      "member.left",
      { user_id: "cat", name: "Cat", role: "member", meta: {}, joined_at: joined, muted_until: null, reason: "left" },
    ],
    ["member.joined", { ...bob, name: "Bob himself", role: "member" }],
    ["member.updated", { ...bob, name: "Bob himself", role: "reader" }],
  ]);
  const created = later[0]?.at;
  expect([live[0]?.data.joined_at, live[2]?.data.joined_at]).toEqual([created, created]);
  expect(live[5]?.data.joined_at).toBe(live[4]?.at);
  expect(live[3]?.actor).toEqual({ type: "key", id: "key_1" });
});

test("the room's own events show the room as it was then", async () => {
  await using parts = await liveParts();
  await createRoom(parts, CLIENT, ROOM, { ann: "owner", bob: "member" });
  const act = roomCommands(parts, CLIENT, ROOM);
  const [live, later] = await bothWays(parts, async () => {
    const { id } = await post(parts, CLIENT, ROOM, "ann", "one");
    await post(parts, CLIENT, ROOM, "ann", "two");
    await act.rename("New name");
    await act.delete(id);
    await act.remove("bob");
    return act.deactivate();
  });
  expect(live.slice(1)).toEqual(later.slice(2)); // the first message is deleted by now
  const rooms = later.filter(({ event }) => event.startsWith("room."));
  expect(
    rooms.map(({ event, seq, data }) => [event, seq, data.name, data.active, data.member_count, data.message_count]),
  ).toEqual([
    ["room.created", 1, "Room", true, 2, 0],
    ["room.updated", 4, "New name", true, 2, 2],
    ["room.deactivated", 7, "New name", false, 1, 1],
  ]);
  expect(rooms[1]?.data).toEqual({
    ...{
      id: ROOM,
      external_id: null,
      name: "New name",
      description: null,
      kind: "private",
      join_role: "member",
      max_members: null,
      posting: "everyone",
      history: "all",
      meta: {},
      active: true,
    },
    ...{ seq: 4, member_count: 2, message_count: 2, created_at: rooms[0]?.at, updated_at: rooms[1]?.at },
  });
});

test("messages: edited frames are whole, deleted ones keep their place, restored ones come back", async () => {
  await using parts = await liveParts();
  await createRoom(parts, CLIENT, ROOM, { ann: "owner" });
  const act = roomCommands(parts, CLIENT, ROOM);
  const { id, seq } = await post(parts, CLIENT, ROOM, "ann", "first");
  const [live] = await bothWays(parts, async () => {
    await act.edit(id, "second");
    await act.delete(id);
    return act.restore(id);
  });
  const whole = {
    id,
    room_id: ROOM,
    seq,
    sender_id: "ann",
    sender_name: null,
    type: "text",
    meta: {},
    reply_to: null,
    ...NOTHING_DONE,
  };
  const edit = { edited_at: live[0]?.at, edited_by: { type: "key", id: "key_1" } };
  expect(live.map(({ event, data }) => [event, data])).toEqual([
    ["message.edited", { ...whole, content: "second", created_at: expect.any(String), ...edit, deleted_at: null }],
    ["message.deleted", { id, seq, deleted_at: live[1]?.at }],
    ["message.restored", { ...whole, content: "second", created_at: expect.any(String), ...edit, deleted_at: null }],
  ]);
  const [[deleted], later] = await bothWays(parts, () => act.delete(id));
  const gone = { ...whole, content: null, created_at: expect.any(String), deleted_at: deleted?.at };
  expect(later.slice(1).map(({ data }) => data)).toEqual([
    { ...gone, edited_at: null, edited_by: null },
    { ...gone, ...edit },
    { id, seq, deleted_at: live[1]?.at },
    { ...gone, ...edit },
    { id, seq, deleted_at: deleted?.at },
  ]);
});

test("frames that are kept in memory forget a text that is deleted meanwhile", async () => {
  await using parts = await liveParts();
  await createRoom(parts, CLIENT, ROOM, { ann: "owner" });
  const act = roomCommands(parts, CLIENT, ROOM);
  await using rooms = openRooms(parts);
  using hold = await rooms.open(ROOM);
  const { id } = await post(parts, CLIENT, ROOM, "ann", "secret");
  const edited = await act.edit(id, "secret too");
  await hold.channel.awaitHead(edited, REACH_MS);
  expect(JSON.stringify(await framesOf(hold.channel, 2))).toContain("secret");
  await hold.channel.awaitHead(await act.delete(id), REACH_MS);
  const frames = await framesOf(hold.channel, 2);
  expect(frames.map(({ seq }) => seq)).toEqual([2, 3, 4]);
  expect(JSON.stringify(frames)).not.toContain("secret");
});

test("what cannot be read for a while delays frames, and loses none", async () => {
  await using parts = await liveParts();
  await createRoom(parts, CLIENT, ROOM, { ann: "owner" });
  let failures = 4;
  const keysById: LiveParts["keyring"]["keysById"] = async (ids) => {
    failures -= 1;
    if (failures > 0) throw new Error("the keys are away");
    return parts.keyring.keysById(ids);
  };
  const services = roomServices({ ...parts, keyring: { ...parts.keyring, keysById } });
  await using rooms = new RoomChannels(services, parts.feed);
  using hold = await rooms.open(ROOM);
  const seqs: number[] = [];
  const nothing = () => undefined;
  const frames = ({ first, payloads }: FrameRun) => void seqs.push(...payloads.map((_, index) => first + index));
  hold.channel.subscribe({ subject: null, frames, marker: nothing, ended: nothing });
  for (let n = 0; n < 30; n += 1) await post(parts, CLIENT, ROOM, "ann", `${n}`);
  expect(await hold.channel.awaitHead(31, REACH_MS)).toBe(true);
  expect(seqs).toEqual(Array.from({ length: 30 }, (_, index) => index + 2));
  expect(failures).toBeLessThanOrEqual(0);
});

test("what comes at once goes out in pieces, with a turn of the event loop between them", async () => {
  await using parts = await liveParts();
  await createRoom(parts, CLIENT, ROOM, { ann: "owner" });
  await using rooms = openRooms(parts);
  using hold = await rooms.open(ROOM);
  let turn = 0;
  const runs: { readonly turn: number; readonly bytes: number }[] = [];
  const frames = ({ payloads }: FrameRun) => {
    runs.push({ turn, bytes: payloads.reduce((sum, one) => sum + one.byteLength, 0) });
    setImmediate(() => {
      turn += 1;
    });
  };
  const nothing = () => undefined;
  hold.channel.subscribe({ subject: null, frames, marker: nothing, ended: nothing });
  const posts = Array.from({ length: 100 }, () => post(parts, CLIENT, ROOM, "ann", "😀".repeat(10_000)));
  const head = Math.max(...(await Promise.all(posts)).map(({ seq }) => seq));
  expect(await hold.channel.awaitHead(head, REACH_MS)).toBe(true);
  expect(Math.max(...runs.map(({ bytes }) => bytes))).toBeLessThan(MAX_QUEUE_BYTES / 2);
  expect(new Set(runs.map((run) => run.turn)).size).toBe(runs.length);
});

test("of an erased person neither name nor text is shown, and the seqs stay", async () => {
  await using parts = await liveParts();
  await createRoom(parts, CLIENT, ROOM, { ann: "owner", bob: "member" });
  const { sender } = await post(parts, CLIENT, ROOM, "bob", "secret");
  await roomCommands(parts, CLIENT, ROOM).remove("bob", true);
  parts.keyring.destroy(sender);
  await using rooms = openRooms(parts);
  using hold = await rooms.open(ROOM);
  const frames = await framesOf(hold.channel);
  expect(frames.map(({ seq }) => seq)).toEqual([1, 2, 3]);
  expect(frames[1]?.data).toMatchObject({ sender_id: null, content: null, meta: {}, deleted_at: null });
  expect(frames[2]?.data).toMatchObject({ user_id: null, name: null, reason: "left" });
});
