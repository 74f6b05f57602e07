// Parts that die under load: the system recovers without a hand, and what was acknowledged is there.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { httpServer } from "../channels/servers.ts";
import { apiOf, notificationUntil, tokenOf } from "./support/api.ts";
import {
  faithful,
  headOnceAt,
  leaderOf,
  makeRooms,
  type OpenedCluster,
  readiness,
  timeUntil,
  WAIT_MS,
  writers,
} from "./support/cluster.ts";

/** Several waits: each has its own bound. */
const TEST_TIMEOUT_MS = 240_000;
const figure = (what: string, ms: number) => console.log(`recovered: ${what}: ${Math.round(ms)} ms`);

/** The tests of it, on a cluster that is used for nothing afterwards. */
export function recoverFromFaults(given: OpenedCluster): void {
  /** Posts, and reads it from the read model; throws when that has not come so far. */
  async function writeAndRead(room: string): Promise<boolean> {
    const { body, headers, status } = await given.api.post(`/rooms/${room}/messages`, {
      sender_id: "alice",
      content: "x",
    });
    if (status !== 201) return false;
    const after = { "read-after": String(headers.get("position")) };
    for (;;) {
      const list = await given.api.get(`/rooms/${room}/messages?limit=1`, after);
      if (list.status === 200) return list.body.data[0]?.id === body.id;
    }
  }

  /** Runs writers and sockets on both nodes while something happens; then every seq is there once, in order. */
  async function underLoad(fault: () => Promise<void>): Promise<{ acknowledged: number; reconnects: number }> {
    const rooms = await makeRooms(given.api, 3);
    const token = await tokenOf(given.api, "bob");
    const nodes = [given.cluster.first.url, given.cluster.second.url];
    const sockets = await Promise.all(nodes.map((url) => faithful(url, token, rooms)));
    const posting = nodes.map((url) => writers(given.api, url, rooms, 5));
    await sleep(1_000);
    await fault();
    await sleep(1_000);
    await Promise.all(posting.map((one) => one.stop()));
    expect(posting.flatMap((one) => one.unclear)).toEqual([]);
    const acknowledged = posting.flatMap((one) => one.posted.acknowledged);
    const second = apiOf(given.cluster.second.url, given.api.key);
    for (const room of rooms) {
      const own = acknowledged.filter((one) => one.room === room).map((one) => one.seq);
      expect(new Set(own).size).toBe(own.length);
      const seq = await headOnceAt(second, room, Math.max(0, ...own));
      const every = Array.from({ length: seq }, (_, n) => n + 1);
      for (const socket of sockets) {
        await timeUntil(async () => socket.seqs(room).length >= seq, WAIT_MS, "every frame");
        expect(socket.seqs(room)).toEqual(every);
      }
      expect(every).toEqual(expect.arrayContaining(own));
    }
    await Promise.all(sockets.map((one) => one.close()));
    return { acknowledged: acknowledged.length, reconnects: sockets.reduce((sum, one) => sum + one.reconnects(), 0) };
  }

  /** A delivery whose worker was killed while its receiver kept it waiting. */
  let interrupted: { readonly id: string; readonly ids: string[]; readonly killedAt: number };

  test(
    "workers are killed in the middle of a delivery, and others started",
    async () => {
      const ids: string[] = [];
      const http = given.stack.use(
        await httpServer((request, response) => {
          ids.push(String(request.headers["webhook-id"]));
          if (ids.length > 1) response.writeHead(200).end();
        }),
      );
      const url = `http://127.0.0.1:${http.port}/`;
      const { body: asked } = await given.api.post("/notifications", { type: "webhook", url, content: { n: 1 } });
      await timeUntil(async () => ids.length === 1, WAIT_MS, "the attempt");
      // Whichever has it in hand: both go, and one starts anew, as an orchestrator would have it.
      for (const worker of given.cluster.workers) await worker.kill();
      interrupted = { id: asked.id, ids, killedAt: performance.now() };
      given.stack.use(await given.cluster.servers.start("worker"));
      const { body: next } = await given.api.post("/notifications", { type: "webhook", url, content: { n: 2 } });
      await notificationUntil(given.api, next.id, (body) => body.status === "delivered", WAIT_MS);
      figure("a new delivery after the workers were killed", performance.now() - interrupted.killedAt);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "Redis killed: all goes on and says so; started again, it is used again",
    async () => {
      const { servers, first, second } = given.cluster;
      const connected = async () =>
        (await Promise.all([first, second].map(readiness))).every(({ body }) => body.parts.bus.connected === true);
      const { acknowledged } = await underLoad(async () => {
        await servers.redis.kill();
        await timeUntil(async () => !(await connected()), WAIT_MS, "Redis is missed");
        const { status, body } = await readiness(first);
        expect([status, body.parts.bus.degraded]).toEqual([200, true]);
        expect(await writeAndRead((await makeRooms(given.api, 1))[0] ?? "")).toBe(true);
        await servers.redis.restart();
        figure("Redis used again", await timeUntil(connected, WAIT_MS, "Redis is used again"));
      });
      expect(acknowledged).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "EventStoreDB killed and started again under load: nothing acknowledged is missing, sockets miss nothing",
    async () => {
      const { eventStore } = given.cluster.servers;
      if (!("kill" in eventStore)) return console.log("skipped: the EventStoreDB is not ours to kill");
      const { acknowledged } = await underLoad(async () => {
        await eventStore.kill();
        await eventStore.restart();
        const [room = ""] = await timed(
          "EventStoreDB back: a room is made",
          () => makeRooms(given.api, 1),
          (made) => made[0] !== undefined,
        );
        figure("EventStoreDB back: written and read", await timeUntil(() => writeAndRead(room), WAIT_MS, "writing"));
      });
      expect(acknowledged).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  async function timed<T>(what: string, ask: () => Promise<T>, good: (answer: T) => boolean): Promise<T> {
    let last: T | undefined;
    const holds = async () => {
      last = await ask();
      return good(last);
    };
    figure(what, await timeUntil(holds, WAIT_MS, what));
    if (last === undefined) throw new Error(what);
    return last;
  }

  test(
    "an API node killed and started again under load: its sockets resume, what was sent again is there once",
    async () => {
      const port = new URL(given.cluster.second.url).port;
      const { acknowledged, reconnects } = await underLoad(async () => {
        await given.cluster.second.kill();
        const killedAt = performance.now();
        given.stack.use(await given.cluster.servers.start("api", { PORT: port }));
        figure("an API node killed and started again", performance.now() - killedAt);
      });
      expect(acknowledged).toBeGreaterThan(0);
      expect(reconnects).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "the projector frozen: the other takes over; woken, the old one writes nothing and stands by",
    async () => {
      const [room = ""] = await makeRooms(given.api, 1);
      await writeAndRead(room);
      const old = await leaderOf(given.cluster.projectors);
      if (old === undefined) throw new Error("nobody leads");
      old.process.kill("SIGSTOP");
      figure("the projector frozen", await timeUntil(() => writeAndRead(room), WAIT_MS, "the other projector"));
      old.process.kill("SIGCONT");
      await timeUntil(
        async () => (await readiness(old)).body.parts.read_models.state === "standby",
        WAIT_MS,
        "standing by",
      );
      expect(await writeAndRead(room)).toBe(true);
      expect((await leaderOf(given.cluster.projectors))?.url).not.toBe(old.url);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "the projector killed under load: the other takes over",
    async () => {
      const { acknowledged } = await underLoad(async () => {
        const [room = ""] = await makeRooms(given.api, 1);
        const old = await leaderOf(given.cluster.projectors);
        await old?.kill();
        figure("the projector killed", await timeUntil(() => writeAndRead(room), WAIT_MS, "the other projector"));
      });
      expect(acknowledged).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "the delivery whose worker was killed ends once more, with the same webhook-id",
    async () => {
      const { id, ids, killedAt } = interrupted;
      // The attempt stays open for a minute: until then nobody can tell whether its worker lives.
      const done = await notificationUntil(given.api, id, (body) => body.status === "delivered", 60_000 + WAIT_MS);
      figure("a delivery whose worker was killed", performance.now() - killedAt);
      expect(done.deliveries[0]).toMatchObject({ status: "delivered", attempt_count: 2 });
      expect(ids.filter((one) => one === done.deliveries[0].id)).toHaveLength(2);
      expect(ids).toHaveLength(3);
    },
    TEST_TIMEOUT_MS,
  );
}
