// One who follows and is cut at random, while many write in many rooms: each event once, in order, and the list is right.
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOM_NAMES } from "../../../src/app/public-room-events.ts";
import { listUserRooms } from "../../../src/app/users.ts";
import type { RoomId, Subject } from "../../../src/contract/ids.ts";
import type { UserRoomResource } from "../../../src/contract/users.ts";
import { decodeRaw } from "../../../src/event-store/envelope.ts";
import type { RecordedEvent } from "../../../src/event-store/event-store.ts";
import { contextOf, createRoom, post } from "../../support/live.ts";
import { issueToken, type LiveServer, newClient, startLiveServer, type TestClient } from "../../support/live-server.ts";
import { roomCommands } from "../../support/room-commands.ts";
import { seed } from "../../support/seed.ts";
import { sized } from "../../support/size.ts";
import { type Received, SocketClient } from "../../support/socket-client.ts";

const CUTS = Number(process.env.FAULTS_CUTS ?? sized(30, 1_000));
const WRITERS = sized(8, 20);
const ROOMS = sized(40, 500);
const CATCHES_UP = 20;

let server: LiveServer;
let client: TestClient;
let token: string;
let ann: Subject;
beforeAll(async () => {
  server = await startLiveServer();
  client = await newClient(server);
  ({ token, subject: ann } = await issueToken(server, client.id, "ann"));
});
afterAll(() => server[Symbol.asyncDispose]());

/** A generator of numbers below a bound, the same for a seed. */
function randomly(from: number) {
  let state = from | 1;
  return (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
}

const roomNamed = (n: number): RoomId => `room_${n.toString().padStart(26, "0")}`;

/** Writes in all rooms until it is stopped; what the rules refuse just does not happen. */
async function write(writer: number, rooms: RoomId[], stopped: AbortSignal): Promise<void> {
  const random = randomly(seed * 31 + writer);
  const sent = new Map<RoomId, string[]>();
  while (!stopped.aborted) {
    const room = rooms[random(rooms.length)] ?? roomNamed(0);
    const act = roomCommands(server.services, client.id, room);
    const mine = sent.get(room) ?? [];
    sent.set(room, mine);
    const happens = async (): Promise<unknown> => {
      const [what, id] = [random(20), mine[random(Math.max(1, mine.length))]];
      if (what < 10) return post(server.services, client.id, room, `w${writer}`, "x").then((one) => mine.push(one.id));
      if (what < 11) return post(server.services, client.id, room, "ann", "mine");
      if (what < 13 && id !== undefined) return act.edit(id, `${random(100)}`);
      if (what < 14 && id !== undefined) return act.delete(id);
      if (what < 15 && id !== undefined) return act.restore(id);
      if (what < 17) return act.setMember("ann");
      if (what < 18) return act.remove("ann");
      if (what < 19) return act.rename(`${random(1_000)}`);
      const made = roomNamed(100_000 + writer * 10_000 + random(10_000));
      await createRoom(server.services, client.id, made, { bob: "owner", ann: "member", [`w${writer}`]: "member" });
      rooms.push(made);
    };
    await happens().catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 40 + random(80)));
  }
}

type Told = readonly [string, unknown, unknown];
const toldOf = (frames: readonly Received[]): readonly Told[] =>
  frames.flatMap(({ type, event, room_id, seq, reason, room }): Told[] => {
    if (type === "event") return [[String(event), room_id, seq]];
    if (type === "unsubscribed") return [["unsubscribed", room_id, reason]];
    return type === "room" ? [["room", (room as UserRoomResource).room.id, (room as UserRoomResource).seq]] : [];
  });

/** What the log says that ann is to be told after the window. */
async function expected(inbox: Received): Promise<readonly Told[]> {
  const { store, positions } = server.services;
  const from = positions.openCursor(client.id, String(inbox.cursor))?.position;
  const inside = new Set<string>();
  const told: Told[] = [];
  for (let after: "start" | RecordedEvent["position"] = "start"; ; ) {
    const page: readonly RecordedEvent[] = await store.readAll({ after, limit: 1_000 });
    for (const event of page) {
      const { stream, type, revision, position } = event;
      if (!stream.startsWith("room-")) continue;
      const room = stream.slice("room-".length);
      const data = decodeRaw(event);
      const before = inside.has(room);
      const named = data.subject === ann || JSON.stringify(data.members ?? []).includes(ann);
      if ((type === "RoomCreated" || type === "MemberJoined") && named) inside.add(room);
      const lost = (type === "MemberLeft" && named) || type === "RoomDeleted";
      if (lost) inside.delete(room);
      if (from === undefined || position <= from || !(before || inside.has(room))) continue;
      if (!before) told.push(["room", room, revision + 1]);
      told.push([ROOM_NAMES[type as keyof typeof ROOM_NAMES], room, revision + 1]);
      if (lost) told.push(["unsubscribed", room, data.reason ?? "room_deleted"]);
    }
    const last = page.at(-1);
    if (last === undefined) return told;
    after = last.position;
  }
}

type Item = { seq: number; read_seq: number; unread_count: number };
const itemOf = ({ seq, read_seq, unread_count }: Item): Item => ({ seq, read_seq, unread_count });

/** The list that a client keeps of what it is told. */
function folded(frames: readonly Received[], rest: readonly UserRoomResource[]): Record<string, Item> {
  const items = new Map<string, Item>(rest.map((one) => [one.room.id, itemOf(one)]));
  for (const frame of frames) {
    if (frame.type === "inbox")
      for (const one of frame.rooms as readonly UserRoomResource[]) items.set(one.room.id, itemOf(one));
    if (frame.type === "room")
      items.set((frame.room as UserRoomResource).room.id, itemOf(frame.room as UserRoomResource));
    if (frame.type === "unsubscribed") items.delete(String(frame.room_id));
    const item = items.get(String(frame.room_id));
    if (frame.type === "read" && item !== undefined) throw new Error("nobody marks in this test");
    if (frame.type !== "event" || item === undefined || Number(frame.seq) <= item.seq) continue;
    const data = frame.data as { seq: number; sender_id: string };
    item.seq = Number(frame.seq);
    if (frame.event === "message.posted" && data.sender_id === "ann")
      Object.assign(item, { read_seq: item.seq, unread_count: 0 });
    else if (frame.event === "message.posted") item.unread_count += 1;
    else if (frame.event === "message.deleted" && data.seq > item.read_seq) item.unread_count -= 1;
    else if (frame.event === "message.restored" && data.seq > item.read_seq) item.unread_count += 1;
  }
  return Object.fromEntries([...items].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** All rooms, while others write: one that moves up meanwhile may be on none of the pages. */
async function listedWhileTheyMove(): Promise<readonly UserRoomResource[]> {
  const all = new Map<string, UserRoomResource>();
  for (let known = -1; known < all.size; ) {
    known = all.size;
    for (const one of await listed()) all.set(one.room.id, one);
  }
  return [...all.values()];
}

async function listed(): Promise<readonly UserRoomResource[]> {
  const { services } = server;
  await services.readSide.waitFor(await services.store.tail(), 10_000);
  const caller = {
    kind: "user",
    client: client.id,
    subject: ann,
    userId: "ann",
    expiresAt: Number.MAX_SAFE_INTEGER,
  } as const;
  const read = services.readSide.readAs(client.id);
  const call = {
    ...{ services, read, at: Date.now(), context: contextOf(client.id) },
    caller: { ...caller, actor: { type: "user", id: ann }, scopes: new Set<never>() },
  } as const;
  const all: UserRoomResource[] = [];
  for (let cursor: readonly (string | number)[] | undefined; ; ) {
    const { rows, next } = await listUserRooms(call, "ann", { limit: 100, cursor: cursor as undefined });
    all.push(...rows);
    if (next === null) return all;
    cursor = next;
  }
}

test(
  `${CUTS} cuts while ${WRITERS} write in ${ROOMS} rooms`,
  async () => {
    const rooms = Array.from({ length: ROOMS }, (_, n) => roomNamed(n));
    const writers = Object.fromEntries(Array.from({ length: WRITERS }, (_, n) => [`w${n}`, "member" as const]));
    for (const [n, room] of rooms.entries())
      await createRoom(server.services, client.id, room, {
        bob: "owner",
        ...writers,
        ...(n % 4 ? { ann: "member" } : {}),
      });
    const random = randomly(seed);
    const stop = new AbortController();
    const writing = Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer, rooms, stop.signal)));
    const frames: Received[] = [];
    const cursor = () =>
      frames.findLast((frame) => typeof frame.cursor === "string" && frame.type !== "following")?.cursor;
    let rest: readonly UserRoomResource[] = [];
    for (let cut = 0; cut < CUTS; cut += 1) {
      using socket = await SocketClient.connect(server.url, token);
      const after = cursor();
      const since = socket.frames.length;
      socket.send({ type: "follow", limit: 100, ...(after === undefined ? {} : { after }) });
      const begun = () => socket.frames.slice(since).some(({ type }) => type === "inbox" || type === "following");
      const wanted = after === undefined ? 0 : random(8);
      await socket.until(begun);
      // Rooms that are subscribed to as well change nothing.
      if (cut % 5 === 4) socket.send({ type: "subscribe", rooms: [{ room_id: rooms[1] }, { room_id: rooms[2] }] });
      if (after === undefined && socket.of("inbox")[0]?.next_cursor !== null) rest = await listedWhileTheyMove();
      await socket.until(() => socket.of("event").length >= wanted);
      // Who never catches up misses too much in the end, and is told the window anew.
      if (after !== undefined && cut % CATCHES_UP === 0) await socket.next("caught_up");
      socket.cut();
      frames.push(...socket.frames.filter(({ type, cursor: at }) => type !== "welcome" && at !== undefined));
    }
    stop.abort();
    await writing;
    using last = await SocketClient.connect(server.url, token);
    await last.ask({ type: "follow", after: cursor() });
    await last.next("caught_up");
    frames.push(...last.frames);
    const [inbox] = frames;
    if (inbox?.type !== "inbox") throw new Error("the first frame is not the window");
    expect(frames.filter(({ reset }) => reset === true)).toEqual([]);
    expect(toldOf(frames)).toEqual(await expected(inbox));
    const list = await listed();
    const fromRest = Object.fromEntries(
      list.map((one) => [one.room.id, itemOf(one)] as const).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    );
    expect(folded(frames, rest)).toEqual(fromRest);
  },
  sized(120_000, 1_800_000),
);
