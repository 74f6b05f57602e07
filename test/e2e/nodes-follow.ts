// Who follows on one node is told what others write on another, and goes on at a node that lives when its own dies.
import { expect, test } from "vitest";
import { type Body, tokenOf } from "./support/api.ts";
import { headOnceAt, makeRooms, type OpenedCluster, seqs, timeUntil, WAIT_MS, writers } from "./support/cluster.ts";
import { connect, type TestSocket } from "./support/socket.ts";

/** Events that came before a node is killed. */
const BEFORE = 50;

/** Follows as bob, from a cursor if there is one; gives the answer. */
async function follow(socket: TestSocket, after?: string): Promise<Body> {
  socket.send({ type: "follow", limit: 100, ...(after === undefined ? {} : { after }) });
  return socket.next((frame) => frame.type === (after === undefined ? "inbox" : "following"), WAIT_MS);
}

const lastCursor = (frames: readonly Body[]): string =>
  frames.findLast(({ type, cursor }) => typeof cursor === "string" && type !== "following")?.cursor;

/** Each seq that comes in a room after the window, or after the user came into the room, up to its head. */
function everySeq(window: Body, frames: readonly Body[], room: string, head: number): readonly number[] {
  const items = [...window.rooms, ...frames.flatMap((frame) => (frame.type === "room" ? [frame.room] : []))];
  const item = items.find((one) => one.room.id === room);
  // What brings somebody in is told as an event too.
  const first = window.rooms.includes(item) ? item.seq + 1 : item.seq;
  return Array.from({ length: head - first + 1 }, (_, n) => first + n);
}

/** The tests of it, on a cluster whose parts all live. */
export function followBetweenNodes(given: OpenedCluster): void {
  test("who follows on one node is told what is written on the other, once and in order", async () => {
    const user = "follower-there";
    const token = await tokenOf(given.api, user);
    await using socket = await connect(given.cluster.second.url, token);
    expect(await follow(socket)).toMatchObject({ rooms: [], unread_total: 0 });
    const members = [{ user_id: "alice" }, { user_id: user }];
    const made = await given.api.post("/rooms", { name: "One", members });
    const room = made.body.id;
    for (let n = 0; n < 20; n += 1)
      await given.api.post(`/rooms/${room}/messages`, { sender_id: "alice", content: "x" });
    await given.api.put(`/rooms/${room}/reads/${user}`, { seq: 5 });
    await given.api.delete(`/rooms/${room}/members/${user}`);
    await given.api.post(`/rooms/${room}/messages`, { sender_id: "alice", content: "among us" });
    await given.api.put(`/rooms/${room}/members/${user}`, {});
    await socket.next(({ type, seq }) => type === "event" && seq === 24, WAIT_MS);
    const short = socket.frames.flatMap(({ type, event, seq, reason }) => {
      if (type === "event") return [`${event} ${seq}`];
      return ["room", "read", "unsubscribed"].includes(type) ? [`${type} ${seq ?? reason ?? ""}`.trim()] : [];
    });
    expect(short).toEqual([
      "room",
      "room.created 1",
      ...Array.from({ length: 20 }, (_, n) => `message.posted ${n + 2}`),
      "read 5",
      "member.left 22",
      "unsubscribed removed",
      "room",
      "member.joined 24",
    ]);
    expect(JSON.stringify(socket.frames.filter(({ type }) => type === "event"))).not.toContain("among us");
  });

  test("who follows on a node that is killed under load goes on at another one, and has every event once", async () => {
    const nodes = [given.cluster.first.url, given.cluster.second.url];
    const rooms = await makeRooms(given.api, 3);
    const token = await tokenOf(given.api, "bob");
    const dying = given.stack.use(await given.cluster.servers.start("api"));
    await using before = await connect(dying.url, token);
    const window = await follow(before);
    const posting = nodes.map((url) => writers(given.api, url, rooms, 5));
    await timeUntil(
      async () => before.frames.filter(({ type }) => type === "event").length >= BEFORE,
      WAIT_MS,
      "events",
    );
    await dying.kill();
    await before.closed;
    const [brought = ""] = await makeRooms(given.api, 1);
    await using after = await connect(given.cluster.second.url, token);
    await follow(after, lastCursor(before.frames));
    await Promise.all(posting.map((one) => one.stop()));
    expect(posting.flatMap((one) => one.unclear)).toEqual([]);
    for (const room of [...rooms, brought]) {
      const own = posting.flatMap((one) => one.posted.acknowledged).filter((one) => one.room === room);
      const head = await headOnceAt(given.there, room, Math.max(1, ...own.map(({ seq }) => seq)));
      await timeUntil(async () => [...before.frames, ...after.frames].some(reaches(room, head)), WAIT_MS, "the head");
      const told = [...before.frames, ...after.frames];
      expect(seqs(told, room)).toEqual(everySeq(window, told, room, head));
    }
    expect([...before.frames, ...after.frames].filter(({ type }) => type === "inbox")).toEqual([window]);
    expect(after.frames.filter(({ type }) => type === "caught_up")).toHaveLength(1);
  });
}

const reaches =
  (room: string, head: number) =>
  ({ type, room_id, seq }: Body): boolean =>
    type === "event" && room_id === room && seq === head;
