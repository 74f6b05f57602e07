// Parts that die under load: the system recovers without a hand, and what was acknowledged is there.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { httpServer } from "../channels/servers.ts";
import { apiOf, notificationUntil, tokenOf } from "./support/api.ts";
import { faithful, leaderOf, makeRooms, type OpenedCluster, readiness, timeUntil, writers } from "./support/cluster.ts";

/** An election's lease and the look of the next one; what is beyond belongs to the machine that tests. */
const TAKE_OVER_MS = 5_000;
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
    for (const room of rooms) {
      const { seq } = (await apiOf(given.cluster.second.url, given.api.key).get(`/rooms/${room}`)).body;
      const every = Array.from({ length: seq }, (_, n) => n + 1);
      for (const socket of sockets) {
        await timeUntil(async () => socket.seqs(room).length >= seq, 20_000, "every frame");
        expect(socket.seqs(room)).toEqual(every);
      }
      const own = acknowledged.filter((one) => one.room === room).map((one) => one.seq);
      expect(new Set(own).size).toBe(own.length);
      expect(every).toEqual(expect.arrayContaining(own));
    }
    await Promise.all(sockets.map((one) => one.close()));
    return { acknowledged: acknowledged.length, reconnects: sockets.reduce((sum, one) => sum + one.reconnects(), 0) };
  }

  /** A delivery whose worker was killed while its receiver kept it waiting. */
  let interrupted: { readonly id: string; readonly ids: string[]; readonly killedAt: number };

  test("workers are killed in the middle of a delivery, and others started", async () => {
    const ids: string[] = [];
    const http = given.stack.use(
      await httpServer((request, response) => {
        ids.push(String(request.headers["webhook-id"]));
        if (ids.length > 1) response.writeHead(200).end();
      }),
    );
    const url = `http://127.0.0.1:${http.port}/`;
    const { body: asked } = await given.api.post("/notifications", { type: "webhook", url, content: { n: 1 } });
    await timeUntil(async () => ids.length === 1, 10_000, "the attempt");
    // Whichever has it in hand: both go, and one starts anew, as an orchestrator would have it.
    for (const worker of given.cluster.workers) await worker.kill();
    interrupted = { id: asked.id, ids, killedAt: performance.now() };
    given.stack.use(await given.cluster.servers.start("worker"));
    const { body: next } = await given.api.post("/notifications", { type: "webhook", url, content: { n: 2 } });
    await notificationUntil(given.api, next.id, (body) => body.status === "delivered");
    figure("a new delivery after the workers were killed", performance.now() - interrupted.killedAt);
  }, 60_000);

  test("Redis killed: all goes on and says so; started again, it is used again", async () => {
    const { servers, first, second } = given.cluster;
    const connected = async () =>
      (await Promise.all([first, second].map(readiness))).every(({ body }) => body.parts.bus.connected === true);
    const { acknowledged } = await underLoad(async () => {
      await servers.redis.kill();
      await timeUntil(async () => !(await connected()), 5_000, "Redis is missed");
      const { status, body } = await readiness(first);
      expect([status, body.parts.bus.degraded]).toEqual([200, true]);
      expect(await writeAndRead((await makeRooms(given.api, 1))[0] ?? "")).toBe(true);
      await servers.redis.restart();
      figure("Redis used again", await timeUntil(connected, 10_000, "Redis is used again"));
    });
    expect(acknowledged).toBeGreaterThan(0);
  }, 60_000);

  test("EventStoreDB killed and started again under load: nothing acknowledged is missing, sockets miss nothing", async () => {
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
      figure("EventStoreDB back: written and read", await timeUntil(() => writeAndRead(room), 30_000, "writing"));
    });
    expect(acknowledged).toBeGreaterThan(0);
  }, 90_000);

  async function timed<T>(what: string, ask: () => Promise<T>, good: (answer: T) => boolean): Promise<T> {
    let last: T | undefined;
    const holds = async () => {
      last = await ask();
      return good(last);
    };
    figure(what, await timeUntil(holds, 30_000, what));
    if (last === undefined) throw new Error(what);
    return last;
  }

  test("an API node killed and started again under load: its sockets resume, what was sent again is there once", async () => {
    const port = new URL(given.cluster.second.url).port;
    const { acknowledged, reconnects } = await underLoad(async () => {
      await given.cluster.second.kill();
      const killedAt = performance.now();
      given.stack.use(await given.cluster.servers.start("api", { PORT: port }));
      figure("an API node killed and started again", performance.now() - killedAt);
    });
    expect(acknowledged).toBeGreaterThan(0);
    expect(reconnects).toBeGreaterThan(0);
  }, 90_000);

  test("the projector frozen: the other takes over; woken, the old one writes nothing and stands by", async () => {
    const [room = ""] = await makeRooms(given.api, 1);
    await writeAndRead(room);
    const old = await leaderOf(given.cluster.projectors);
    if (old === undefined) throw new Error("nobody leads");
    old.process.kill("SIGSTOP");
    const took = await timeUntil(() => writeAndRead(room), 20_000, "the other projector");
    figure("the projector frozen", took);
    expect(took).toBeLessThan(TAKE_OVER_MS + 1_000);
    old.process.kill("SIGCONT");
    await timeUntil(
      async () => (await readiness(old)).body.parts.read_models.state === "standby",
      10_000,
      "standing by",
    );
    expect(await writeAndRead(room)).toBe(true);
    expect((await leaderOf(given.cluster.projectors))?.url).not.toBe(old.url);
  }, 60_000);

  test("the projector killed under load: the other takes over within five seconds", async () => {
    const { acknowledged } = await underLoad(async () => {
      const [room = ""] = await makeRooms(given.api, 1);
      const old = await leaderOf(given.cluster.projectors);
      await old?.kill();
      const took = await timeUntil(() => writeAndRead(room), 20_000, "the other projector");
      figure("the projector killed", took);
      expect(took).toBeLessThan(TAKE_OVER_MS + 1_000);
    });
    expect(acknowledged).toBeGreaterThan(0);
  }, 60_000);

  test("the delivery whose worker was killed ends once more, with the same webhook-id", async () => {
    const { id, ids, killedAt } = interrupted;
    // The attempt stays open for a minute: until then nobody can tell whether its worker lives.
    const done = await notificationUntil(given.api, id, (body) => body.status === "delivered", 100_000);
    figure("a delivery whose worker was killed", performance.now() - killedAt);
    expect(done.deliveries[0]).toMatchObject({ status: "delivered", attempt_count: 2 });
    expect(ids.filter((one) => one === done.deliveries[0].id)).toHaveLength(2);
    expect(ids).toHaveLength(3);
  }, 120_000);
}
