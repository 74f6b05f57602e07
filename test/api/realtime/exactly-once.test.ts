// Each seq exactly once, in order, whatever happens meanwhile: posting goes on, connections are cut, rooms open and close.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RoomId } from "../../../src/contract/ids.ts";
import { createRoom, post } from "../../support/live.ts";
import { issueToken, type LiveServer, newClient, startLiveServer, type TestClient } from "../../support/live-server.ts";
import { roomCommands } from "../../support/room-commands.ts";
import fc from "../../support/seed.ts";
import { SocketClient } from "../../support/socket-client.ts";

let server: LiveServer;
let client: TestClient;
let token: string;
let rooms = 0;
beforeAll(async () => {
  server = await startLiveServer();
  client = await newClient(server);
  ({ token } = await issueToken(server, client.id, "ann"));
});
afterAll(() => server[Symbol.asyncDispose]());

async function newRoom(): Promise<RoomId> {
  rooms += 1;
  const room: RoomId = `room_${rooms.toString().padStart(26, "0")}`;
  await createRoom(server.services, client.id, room, { ann: "owner", bob: "member" });
  return room;
}

/** Follows a room by reconnecting with the last seq; cut after each of `cuts` events. Gives every seq as it came. */
async function follow(room: RoomId, cuts: readonly number[], happening: Promise<number>): Promise<number[]> {
  const seen: number[] = [];
  let head = Number.POSITIVE_INFINITY;
  void happening.then((last) => {
    head = last;
  });
  for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
    using socket = await SocketClient.connect(server.url, token);
    await socket.ask({ type: "subscribe", room_id: room, after_seq: seen.at(-1) ?? 0 });
    const last = () => Number(socket.seqs().at(-1) ?? seen.at(-1) ?? 0);
    await socket.until(() => socket.seqs().length >= cut || last() >= head);
    socket.cut();
    seen.push(...socket.seqs().map(Number));
  }
  return seen;
}

test("500 messages posted while a socket is away, and more while it catches up", async () => {
  const room = await newRoom();
  const posting = (from: number, to: number) =>
    Promise.all(
      Array.from({ length: to - from }, (_, index) => post(server.services, client.id, room, "bob", `${from + index}`)),
    );
  await posting(0, 500);
  using socket = await SocketClient.connect(server.url, token);
  const later = posting(500, 800);
  await socket.ask({ type: "subscribe", room_id: room, after_seq: 0 });
  await later;
  await socket.until(() => socket.seqs().includes(801));
  expect(socket.seqs()).toEqual(Array.from({ length: 801 }, (_, index) => index + 1));
  const contents = socket
    .of("event")
    .slice(1)
    .map((frame) => (frame.data as { content: string }).content);
  expect(new Set(contents).size).toBe(800);
  expect(socket.of("caught_up")).toHaveLength(1);
});

const step = fc.record({
  what: fc.constantFrom("post", "edit", "delete", "restore", "rename", "join", "leave"),
  size: fc.integer({ min: 1, max: 8 }),
});

test("any mix of events, any cuts: every seq once, in order, for those who come back and those who stay", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 5, maxLength: 40 }),
      fc.array(fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 4 }), { minLength: 1, maxLength: 3 }),
      async (steps, readers) => {
        const room = await newRoom();
        const act = roomCommands(server.services, client.id, room);
        using stays = await SocketClient.connect(server.url, token);
        await stays.ask({ type: "subscribe", room_id: room, after_seq: 0 });
        const happening = (async () => {
          let head = 1;
          const ids: string[] = [];
          for (const [index, { what, size }] of steps.entries()) {
            // What the rules refuse just does not happen.
            const happens = async (seq: Promise<number>) => {
              head = Math.max(head, await seq.catch(() => 0));
            };
            const id = ids[index % Math.max(1, ids.length)];
            if (what === "post" || id === undefined) {
              const posted = await Promise.all(
                Array.from({ length: size }, () => post(server.services, client.id, room, "bob", "x")),
              );
              ids.push(...posted.map((one) => one.id));
              head = Math.max(head, ...posted.map((one) => one.seq));
            } else if (what === "edit") await happens(act.edit(id, `${index}`));
            else if (what === "delete") await happens(act.delete(id));
            else if (what === "restore") await happens(act.restore(id));
            else if (what === "rename") await happens(act.rename(`${index}`));
            else if (what === "join") await happens(act.setMember("cat"));
            else await happens(act.remove("cat"));
          }
          return head;
        })();
        const followed = await Promise.all(readers.map((cuts) => follow(room, cuts, happening)));
        const head = await happening;
        await stays.until(() => stays.seqs().includes(head));
        const all = Array.from({ length: head }, (_, index) => index + 1);
        for (const seen of [...followed, stays.seqs()]) expect(seen).toEqual(all);
      },
    ),
    { numRuns: 25 },
  );
}, 120_000);
