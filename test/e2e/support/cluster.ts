// Two API nodes, two projectors and two workers on real servers, for what only shows between processes.
import { setTimeout as sleep } from "node:timers/promises";
import { type Api, apiOf, type Body } from "./api.ts";
import type { Running } from "./server.ts";
import { ADMIN_KEY, openTestServers, registeredClient, type TestClient, type TestServers } from "./setups.ts";
import { connect, subscribe, type TestSocket } from "./socket.ts";

/** How long whatever comes of itself may take on a busy machine. */
export const WAIT_MS = 60_000;

export type Cluster = AsyncDisposable & {
  readonly servers: TestServers;
  readonly first: Running;
  readonly second: Running;
  readonly projectors: readonly [Running, Running];
  readonly workers: readonly [Running, Running];
  /** Registered on the first API node. */
  newClient(name?: string): Promise<TestClient>;
};

/** A cluster that tests share, a client of it, and the same client on the second API node; all are there once it has started. */
export type OpenedCluster = { readonly stack: AsyncDisposableStack; cluster: Cluster; api: TestClient; there: Api };

export async function openCluster(
  env: Readonly<Record<string, string>> = {},
  options: { databaseUrl?: string } = {},
): Promise<Cluster> {
  await using open = new AsyncDisposableStack();
  const servers = open.use(await openTestServers(env, options.databaseUrl));
  const start = async (role: string) => open.use(await servers.start(role));
  const two = async (role: string) => Promise.all([start(role), start(role)]);
  const [[first, second], projectors, workers] = await Promise.all([two("api"), two("projector"), two("worker")]);
  const moved = open.move();
  return {
    ...{ servers, first, second, projectors, workers },
    newClient: (name) => registeredClient(first.url, servers.mailbox, name),
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** What a node's `/readyz` tells its operator. */
export async function readiness(node: Running): Promise<{ readonly status: number; readonly body: Body }> {
  const response = await fetch(`${node.url}/readyz`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
  return { status: response.status, body: await response.json() };
}

/** Which of two nodes keeps the read models; undefined when neither does at this moment. */
export async function leaderOf(nodes: readonly [Running, Running]): Promise<Running | undefined> {
  for (const node of nodes) {
    const state = await readiness(node).then(
      ({ body }) => body.parts?.read_models?.state,
      () => undefined,
    );
    if (state === "live" || state === "catching_up") return node;
  }
  return undefined;
}

/** Waits for something in milliseconds; throws when it does not come about. */
export async function timeUntil(holds: () => Promise<boolean>, timeoutMs: number, what: string): Promise<number> {
  const begun = performance.now();
  for (;;) {
    if (await holds().catch(() => false)) return performance.now() - begun;
    if (performance.now() > begun + timeoutMs) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(20);
  }
}

export const seqs = (frames: readonly Body[], room: string): readonly number[] =>
  frames.filter((frame) => frame.type === "event" && frame.room_id === room).map((frame) => frame.seq);

/** What writers were told: each message that was acknowledged, and how many got another answer. */
export type Posted = { readonly acknowledged: { readonly room: string; readonly seq: number }[]; refused: number };

/** Writers that post to the rooms in turn until they are stopped; a clear refusal (503, 429) is tried again with its key. */
export function writers(api: TestClient, url: string, rooms: readonly string[], count: number) {
  const posted: Posted = { acknowledged: [], refused: 0 };
  const unclear: unknown[] = [];
  const mine = apiOf(url, api.key);
  let going = true;
  const one = async (writer: number) => {
    for (let n = writer; going; n += 1) {
      const room = rooms[n % rooms.length] ?? "";
      const key = `${url}-${writer}-${n}`;
      for (;;) {
        const answer = await mine
          .post(`/rooms/${room}/messages`, { sender_id: "alice", content: key }, { "idempotency-key": key })
          .catch((error: unknown) => ({ status: 0, body: String(error) }));
        if (answer.status === 201) {
          posted.acknowledged.push({ room, seq: answer.body.seq });
          break;
        }
        posted.refused += 1;
        if (![0, 429, 503].includes(answer.status)) unclear.push(answer);
        if (!going) break;
        await sleep(100);
      }
    }
  };
  const all = Array.from({ length: count }, (_, writer) => one(writer));
  return {
    posted,
    unclear,
    stop: async () => {
      going = false;
      await Promise.all(all);
    },
  };
}

/** A user's socket that listens to the rooms from their first event on, and comes back where it was when it is cut. */
export async function faithful(url: string, token: string, rooms: readonly string[]) {
  const seen: Body[] = [];
  let over = false;
  let socket: TestSocket | undefined;
  let reconnects = -1;
  const last = (room: string) => seqs(seen, room).at(-1) ?? 0;
  const running = (async () => {
    while (!over) {
      try {
        await using current = await connect(url, token);
        socket = current;
        reconnects += 1;
        for (const room of rooms) await subscribe(current, room, last(room));
        await current.closed;
        seen.push(...current.frames);
        socket = undefined;
      } catch {
        await sleep(100);
      }
    }
  })();
  const frames = () => [...seen, ...(socket?.frames ?? [])];
  const subscribed = () => rooms.every((room) => frames().some((frame) => frame.room_id === room));
  await timeUntil(async () => subscribed(), WAIT_MS, "rooms");
  return {
    /** Every seq of the room that came, in the order in which it did. */
    seqs: (room: string) => seqs(frames(), room),
    reconnects: () => reconnects,
    close: async () => {
      over = true;
      const current = socket;
      await current?.[Symbol.asyncDispose]();
      await running;
      socket = undefined;
    },
  };
}

/**
 * The room's head on a node, once it has come to the highest seq that was acknowledged: a node whose log was away for a
 * moment, or seemed so on a busy machine, answers with what it has folded until it has caught up.
 */
export async function headOnceAt(node: Api, room: string, acknowledged: number): Promise<number> {
  const read = async () => (await node.get(`/rooms/${room}`)).body.seq;
  await timeUntil(async () => (await read()) >= acknowledged, WAIT_MS, `room ${room} at ${acknowledged}`);
  return read();
}

/** Rooms with alice and bob in them. */
export async function makeRooms(api: TestClient, count: number): Promise<readonly string[]> {
  const made = Array.from({ length: count }, (_, n) =>
    api.post("/rooms", { name: `Room ${n}`, members: [{ user_id: "alice" }, { user_id: "bob" }] }),
  );
  return (await Promise.all(made)).map(({ body }) => body.id);
}
