// Sockets: what a broadcast costs the server, by each way to hear of it, and what a socket that only listens takes of its memory.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { interleave } from "../harness/measure.ts";
import { type Goal, ratioRow } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import type { Connecting } from "../processes/sockets.ts";
import { posting } from "../support/posting.ts";
import { type BenchProcess, startProcess } from "../support/process.ts";
import { type Api, newApi, newEncryptionKey, newRoom, newToken, startServed } from "../support/served.ts";

const oneMessage: Goal = {
  ...{ name: "11 broadcast to 5,000 sockets, over JSON.stringify and send for each", goal: 1.25 },
  ...{ direction: "at least", unit: "x" },
};
const fourMessages: Goal = {
  ...{ name: "11 broadcast of 4 messages in one tick, over the same", goal: 4 },
  ...{ direction: "at least", unit: "x" },
};
const memory: Goal = {
  ...{ name: "12 memory of an idle, authenticated, subscribed socket, over bare ws", goal: 2 },
  ...{ direction: "at most", unit: "x" },
};

const follows: Goal = {
  ...{ name: "11 broadcast to 5,000 sockets that follow, over 5,000 that subscribe", goal: 0.8 },
  ...{ direction: "at least", unit: "x" },
};
const types: Goal = {
  ...{ name: "11 typing to 5,000 sockets, over a message", goal: 1 },
  ...{ direction: "at least", unit: "x" },
};

const SOCKETS = 5_000;
const SOCKETS_EACH = 20;
const TIMES = 20;
const SETTLE_MS = 300;

const start = (program: string, flags?: readonly string[]) =>
  startProcess(new URL(`../processes/${program}.ts`, import.meta.url), flags);

/** Sockets of users who are members of a room of theirs, each subscribed to it or following. */
async function connectMembers(
  sockets: BenchProcess,
  url: string,
  api: Api,
  { count = SOCKETS, how = "subscribe" }: { count?: number; how?: "subscribe" | "follow" } = {},
): Promise<{ room: string; user: string }> {
  const users = Array.from({ length: count / SOCKETS_EACH }, () => `user-${randomUUID()}`);
  const room = await newRoom(api, users);
  const tokens: string[] = [];
  for (const user of users) tokens.push(await newToken(api, user));
  const headers = Array.from({ length: count }, (_, at) => `Authorization: Bearer ${tokens[at % tokens.length]}\r\n`);
  const hello = JSON.stringify(how === "follow" ? { type: "follow" } : { type: "subscribe", room_id: room });
  await sockets.call("connect", { url, path: "/ws", headers, hello, answers: 2 } satisfies Connecting);
  return { room, user: users[0] ?? "" };
}

async function connectAll(sockets: BenchProcess, url: string, count = SOCKETS): Promise<void> {
  const headers = Array.from({ length: count }, () => "");
  await sockets.call("connect", { url, path: "/", headers, hello: null, answers: 0 } satisfies Connecting);
}

/** Frames that reach their sockets, for each second of processor time that the server needs for it. */
async function framesPerCpuSecond(
  server: BenchProcess,
  sockets: BenchProcess,
  each: number,
  send: () => Promise<unknown>,
): Promise<number> {
  const before = await server.call<number>("cpuMs");
  for (let time = 0; time < TIMES; time += 1) {
    await Promise.all([sockets.call("receive", each * SOCKETS), send()]);
  }
  return (TIMES * each * SOCKETS * 1_000) / ((await server.call<number>("cpuMs")) - before);
}

async function measureBroadcast({ rounds, postgres }: Bench) {
  await using open = new AsyncDisposableStack();
  const database = open.use(await postgres.database());
  const served = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
  const ourSockets = open.use(start("sockets"));
  const bare = open.use(start("bare-sockets"));
  const bareSockets = open.use(start("sockets"));
  const api = await newApi(served.url);
  const { room, user } = await connectMembers(ourSockets, served.url, api);
  await connectAll(bareSockets, await bare.call<string>("start"));
  const append = (count: number) => () => served.process.call("append", { client: api.client, room, user, count });
  const message = posting(room, user);
  const shown = await api.call<object>("POST", message.path, JSON.parse(message.body));
  await ourSockets.call("receive", SOCKETS);
  const frame = {
    ...{ type: "event", room_id: room, seq: 3, event: "message.posted", at: new Date().toISOString() },
    ...{ position: "0123456789abcdef.0000000000000003", actor: { type: "key", id: "key_1" }, data: shown },
  };
  const broadcast = (count: number) => () =>
    bare.call(
      "broadcast",
      Array.from({ length: count }, () => frame),
    );
  const turn = (which: "ours" | "bare", count: number) => () =>
    which === "ours"
      ? framesPerCpuSecond(served.process, ourSockets, count, append(count))
      : framesPerCpuSecond(bare, bareSockets, count, broadcast(count));
  const names = {
    one: "ours, 1 message",
    four: "ours, 4 messages",
    bareOne: "ws, 1 message",
    bareFour: "ws, 4 messages",
  };
  const reached = await interleave(
    [
      { name: names.bareOne, turn: turn("bare", 1) },
      { name: names.one, turn: turn("ours", 1) },
      { name: names.bareFour, turn: turn("bare", 4) },
      { name: names.four, turn: turn("ours", 4) },
    ],
    rounds,
  );
  const unit = "frames a CPU second";
  return [
    ratioRow(oneMessage, reached, names.one, names.bareOne, unit),
    ratioRow(fourMessages, reached, names.four, names.bareFour, unit),
  ];
}

/** A server with its sockets, and a message to all of them. */
async function openRoom(postgres: Bench["postgres"], open: AsyncDisposableStack, how: "subscribe" | "follow") {
  const database = open.use(await postgres.database());
  const served = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
  const sockets = open.use(start("sockets"));
  const api = await newApi(served.url);
  const { room, user } = await connectMembers(sockets, served.url, api, { how });
  const append = () => served.process.call("append", { client: api.client, room, user, count: 1 });
  return { served, sockets, api, room, post: () => framesPerCpuSecond(served.process, sockets, 1, append) };
}

async function measureFollow({ rounds, postgres }: Bench) {
  await using open = new AsyncDisposableStack();
  const names = { ours: "5,000 that follow", plain: "5,000 that subscribe" };
  const [followed, subscribed] = [
    await openRoom(postgres, open, "follow"),
    await openRoom(postgres, open, "subscribe"),
  ];
  const candidates = [
    { name: names.plain, turn: subscribed.post },
    { name: names.ours, turn: followed.post },
  ];
  return [ratioRow(follows, await interleave(candidates, rounds), names.ours, names.plain, "frames a CPU second")];
}

async function measureTyping({ rounds, postgres }: Bench) {
  await using open = new AsyncDisposableStack();
  const { served, sockets, api, room, post } = await openRoom(postgres, open, "subscribe");
  await api.call("PUT", `/rooms/${room}/members/typist`, {});
  await sockets.call("receive", SOCKETS); // hear of it
  const headers = { authorization: `Bearer ${await newToken(api, "typist")}` };
  const typist = open.adopt(new WebSocket(`${served.url.replace("http", "ws")}/ws`, { headers }), (one) =>
    one.terminate(),
  );
  await once(typist, "message"); // welcome
  let active = false;
  const type = async () => {
    active = !active;
    typist.send(JSON.stringify({ type: "typing", room_id: room, active }));
  };
  const names = { ours: "typing", message: "a message" };
  const candidates = [
    { name: names.message, turn: post },
    { name: names.ours, turn: () => framesPerCpuSecond(served.process, sockets, 1, type) },
  ];
  return [ratioRow(types, await interleave(candidates, rounds), names.ours, names.message, "frames a CPU second")];
}

/**
 * What a server's memory grows by, in kilobytes for each socket. Half of them come before it is looked at: what the
 * first ones bring, code and room in the heap above all, is not a socket's.
 */
async function growth(server: BenchProcess, connect: (count: number) => Promise<unknown>): Promise<number> {
  const rss = async () => {
    await sleep(SETTLE_MS);
    return (await server.call<{ rss: number }>("memory")).rss;
  };
  await connect(SOCKETS / 2);
  const before = await rss();
  await connect(SOCKETS / 2);
  return ((await rss()) - before) / 1_024 / (SOCKETS / 2);
}

async function measureMemory({ rounds, postgres }: Bench) {
  await using database = await postgres.database();
  const encryptionKey = newEncryptionKey();
  const names = { ours: "ours", bare: "bare ws" };
  const gc = ["--expose-gc"];
  const reached = await interleave(
    [
      {
        name: names.bare,
        turn: async () => {
          await using bare = start("bare-sockets", gc);
          await using sockets = start("sockets");
          const url = await bare.call<string>("start");
          return await growth(bare, (count) => connectAll(sockets, url, count));
        },
      },
      {
        name: names.ours,
        turn: async () => {
          await using served = await startServed({ databaseUrl: database.url, encryptionKey }, gc);
          await using sockets = start("sockets");
          const api = await newApi(served.url);
          return await growth(served.process, (count) => connectMembers(sockets, served.url, api, { count }));
        },
      },
    ],
    rounds,
  );
  return [ratioRow(memory, reached, names.ours, names.bare, "KB a socket")];
}

export const broadcast: Subject = {
  name: "broadcast",
  about: "one message to 5,000 sockets",
  goals: [oneMessage, fourMessages],
  run: measureBroadcast,
};

export const following: Subject = {
  name: "follow",
  about: "one message to 5,000 sockets that follow",
  goals: [follows],
  run: measureFollow,
};

export const typing: Subject = {
  name: "typing",
  about: "typing to 5,000 sockets",
  goals: [types],
  run: measureTyping,
};

export const socketMemory: Subject = {
  name: "socket-memory",
  about: "what an idle socket takes",
  goals: [memory],
  run: measureMemory,
};
