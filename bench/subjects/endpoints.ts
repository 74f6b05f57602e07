// Webhook endpoints: what they deliver a second, whether one that hangs holds up others, and what idle ones cost.
import { interleave, quantile } from "../harness/measure.ts";
import { type Goal, type Row, ratioRow } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { oneJobAtATime, startBoss } from "../support/boss.ts";
import { type BenchProcess, startProcess } from "../support/process.ts";
import { type Api, newApi, newEncryptionKey, newRoom, type Served, startServed } from "../support/served.ts";

const overOne: Goal = {
  ...{ name: "17 endpoint deliveries with every event, over pg-boss one job at a time", goal: 3 },
  ...{ direction: "at least", unit: "x" },
};
const besideHanging: Goal = {
  ...{ name: "17 p95 from event to endpoint beside one of 50 that hangs, over none that hangs", goal: 1.5 },
  ...{ direction: "at most", unit: "x" },
};
const idle: Goal = {
  ...{ name: "17 processor time of a server doing nothing with many idle endpoints, over none", goal: 1.2 },
  ...{ direction: "at most", unit: "x" },
};

const CLIENTS = 4;
const EVENTS = 1_000;
/** As many as a client may have. */
const ENDPOINTS = 50;
const POSTS = 40;
const POST_EVERY_MS = 250;
const TIMEOUT_MS = 120_000;
/** Clients with an endpoint each, that nothing happens to. */
const IDLE_CLIENTS = 10_000;
const AT_ONCE = 32;

type Room = { readonly api: Api; readonly room: string };

const newEndpoint = async (api: Api, url: string): Promise<string> =>
  (await api.call<{ id: string }>("POST", "/webhooks", { url, events: ["message.posted"] })).id;
const post = ({ api, room }: Room, n: number) =>
  api.call("POST", `/rooms/${room}/messages`, { sender_id: "ann", content: `Message ${n}` });

async function newRooms(url: string): Promise<readonly Room[]> {
  const apis = await Promise.all(Array.from({ length: CLIENTS }, () => newApi(url)));
  return Promise.all(apis.map(async (api) => ({ api, room: await newRoom(api, ["ann"]) })));
}

/** 1,000 events each to clients whose endpoint is paused, then all resumed: deliveries a second until the last has come. */
async function deliver(rooms: readonly Room[], endpoints: readonly string[], receiver: BenchProcess): Promise<number> {
  const each = (action: string) =>
    Promise.all(rooms.map(({ api }, index) => api.call("POST", `/webhooks/${endpoints[index]}/${action}`)));
  await each("pause");
  for (let n = 0; n < EVENTS; n += 1) await Promise.all(rooms.map((room) => post(room, n)));
  const begun = performance.now();
  const count = CLIENTS * EVENTS;
  await Promise.all([receiver.call("receive", { count, timeoutMs: TIMEOUT_MS }), each("resume")]);
  return (count * 1_000) / (performance.now() - begun);
}

/** Posts at an even pace to rooms with 50 endpoints each; the p95 from event to endpoint, in ms. */
async function latency(rooms: readonly Room[], receiver: BenchProcess): Promise<number> {
  await receiver.call("time");
  const answering = rooms.length * POSTS * (ENDPOINTS - 1);
  const come = receiver.call("receive", { count: answering, timeoutMs: TIMEOUT_MS });
  for (let n = 0; n < POSTS; n += 1) {
    const next = new Promise((resolve) => setTimeout(resolve, POST_EVERY_MS));
    await Promise.all(rooms.map((room) => post(room, n)));
    await next;
  }
  await come;
  return quantile(await receiver.call<number[]>("latencies"), 0.95);
}

async function endpointDeliveries({ rounds, turnMs, postgres }: Bench, receiver: BenchProcess) {
  await using open = new AsyncDisposableStack();
  const database = open.use(await postgres.database());
  const { url } = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
  const rooms = await newRooms(url);
  const hosts = await receiver.call<readonly string[]>("listen", CLIENTS);
  const endpoints = await Promise.all(rooms.map(({ api }, index) => newEndpoint(api, `${hosts[index]}/events`)));
  const boss = await startBoss(postgres, open);
  const hooks = hosts.map((host) => ({ url: `${host}/events`, body: JSON.stringify({ type: "message.posted" }) }));
  const names = { ours: "endpoints, with every event", one: "pg-boss, one job at a time" };
  const reached = await interleave(
    [
      { name: names.one, turn: () => oneJobAtATime(boss, receiver, turnMs, { hooks, count: CLIENTS * EVENTS }) },
      { name: names.ours, turn: () => deliver(rooms, endpoints, receiver) },
    ],
    rounds,
  );
  return ratioRow(overOne, reached, names.ours, names.one);
}

async function besideOneThatHangs({ rounds, postgres }: Bench, receiver: BenchProcess) {
  await using open = new AsyncDisposableStack();
  const hosts = await receiver.call<readonly string[]>("listen", ENDPOINTS);
  const hanging = await receiver.call<string>("hang");
  const rooms = async (last: string | undefined): Promise<readonly Room[]> => {
    const database = open.use(await postgres.database());
    const { url } = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
    const made = await newRooms(url);
    for (const { api } of made) {
      for (const host of [...hosts.slice(1), ...(last === undefined ? [] : [last])]) {
        await newEndpoint(api, `${host}/events`);
      }
    }
    return made;
  };
  const calm = await rooms(undefined);
  const disturbed = await rooms(hanging);
  const names = { ours: "49 endpoints a client beside one that hangs", alone: "49 endpoints a client" };
  const reached = await interleave(
    [
      { name: names.alone, turn: () => latency(calm, receiver) },
      { name: names.ours, turn: () => latency(disturbed, receiver) },
    ],
    rounds,
  );
  return ratioRow(besideHanging, reached, names.ours, names.alone, "ms");
}

/** Processor time of the server a second, in ms, while nobody asks for anything. */
async function idleCost({ process }: Served, ms: number): Promise<number> {
  const before = await process.call<number>("cpuMs");
  await new Promise((resolve) => setTimeout(resolve, ms));
  return (((await process.call<number>("cpuMs")) - before) * 1_000) / ms;
}

async function measureIdle({ rounds, turnMs, events, postgres, say }: Bench) {
  await using open = new AsyncDisposableStack();
  const served = async () => {
    const database = open.use(await postgres.database());
    return open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
  };
  const empty = await served();
  const full = await served();
  const clients = Math.min(IDLE_CLIENTS, events);
  let made = 0;
  const lane = async () => {
    while (made < clients) {
      made += 1;
      if (made % 1_000 === 0) say(`endpoints: ${made} clients`);
      await newEndpoint(await newApi(full.url), "http://127.0.0.1:8099/events");
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  const names = { ours: `${clients} clients with an endpoint each`, none: "none" };
  const reached = await interleave(
    [
      { name: names.none, turn: () => idleCost(empty, turnMs * 3) },
      { name: names.ours, turn: () => idleCost(full, turnMs * 3) },
    ],
    rounds,
  );
  return ratioRow(idle, reached, names.ours, names.none, "ms/s");
}

const withReceiver = (measure: (bench: Bench, receiver: BenchProcess) => Promise<Row>) => async (bench: Bench) => {
  await using receiver = startProcess(new URL("../processes/receiver.ts", import.meta.url));
  return [await measure(bench, receiver)];
};

export const endpoints: Subject = {
  name: "endpoints",
  about: "what webhook endpoints deliver a second",
  goals: [overOne],
  run: withReceiver(endpointDeliveries),
};

export const hangingEndpoint: Subject = {
  name: "hanging-endpoint",
  about: "webhook endpoints beside one that hangs",
  goals: [besideHanging],
  run: withReceiver(besideOneThatHangs),
};

export const idleEndpoints: Subject = {
  name: "idle-endpoints",
  about: "what webhook endpoints cost that nothing happens to",
  goals: [idle],
  run: async (bench) => [await measureIdle(bench)],
};
