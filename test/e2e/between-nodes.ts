// What holds between nodes: what one was told is true on the other one.
import { expect, test } from "vitest";
import { raw } from "../support/raw.ts";
import { sized } from "../support/size.ts";
import { type Api, apiOf, type Body, tokenOf, until } from "./support/api.ts";
import {
  faithful,
  headOnceAt,
  makeRooms,
  type OpenedCluster,
  readiness,
  timeUntil,
  WAIT_MS,
  writers,
} from "./support/cluster.ts";
import { connect, subscribe } from "./support/socket.ts";

/** The tests of it, on a cluster whose parts all live. */
export function holdBetweenNodes(given: OpenedCluster): void {
  test("every node says how it is; without the role api it says nothing else", async () => {
    const { first, second, projectors, workers } = given.cluster;
    for (const node of [first, second, ...projectors, ...workers]) {
      expect(await (await fetch(`${node.url}/livez`)).json()).toEqual({ status: "ok" });
      const { status, body } = await readiness(node);
      expect([status, body.status]).toEqual([200, "ready"]);
      expect(body.parts.bus).toMatchObject({ ok: true, kind: "redis", connected: true, degraded: false });
      expect((await fetch(`${node.url}/metrics`)).status).toBe(401);
    }
    for (const node of [...projectors, ...workers]) {
      for (const path of ["/api/v1/clients/me", "/docs", "/ws"]) {
        expect((await fetch(`${node.url}${path}`)).status).toBe(404);
      }
      const expecting = await raw(node.url, "/livez", { headers: { expect: "miracles" } });
      expect([expecting.status, expecting.body.code]).toEqual([417, "expectation_failed"]);
    }
    const states = async (nodes: readonly (typeof first)[]) =>
      (await Promise.all(nodes.map(readiness))).map(({ body }) => body.parts.read_models.state).sort();
    expect(await states(projectors)).toEqual(["live", "standby"]);
    expect(await states([first, second, ...workers])).toEqual(Array.from({ length: 4 }, () => "following"));
  });

  test("a client registered on one node is let in on the other at once", async () => {
    const fresh = await given.cluster.newClient("Fresh");
    expect((await apiOf(given.cluster.second.url, fresh.key).get("/clients/me")).status).toBe(200);
  });

  test("tokens revoked on one node end on the other, open sockets too", async () => {
    const token = await tokenOf(given.api, "tess");
    await using socket = await connect(given.cluster.second.url, token);
    const user = given.there.as(token);
    expect((await user.get("/users/tess/rooms")).status).toBe(200);
    expect((await given.api.delete("/users/tess/tokens")).status).toBeLessThan(300);
    await timeUntil(async () => (await user.get("/users/tess/rooms")).status === 401, WAIT_MS, "the token ended");
    expect(await socket.closed).toBe(4501);
  });

  test("a key rotated on one node without grace ends on the other, open sockets too", async () => {
    const own = await given.cluster.newClient("Rotates");
    const elsewhere = apiOf(given.cluster.second.url, own.key);
    await using socket = await connect(given.cluster.second.url, own.key ?? "");
    const { body: me } = await elsewhere.get("/clients/me");
    const rotated = await own.post(`/clients/me/keys/${me.key.id}/rotate`, { grace_seconds: 0 });
    expect(rotated.status).toBe(200);
    expect((await elsewhere.as(rotated.body.api_key).get("/clients/me")).status).toBe(200);
    await timeUntil(async () => (await elsewhere.get("/clients/me")).status === 401, WAIT_MS, "the key ended");
    expect([4501, 4009]).toContain(await socket.closed);
  });

  test("a member removed on one node is out on the other at once", async () => {
    const { body: room } = await given.api.post("/rooms", {
      name: "Out",
      members: [{ user_id: "alice" }, { user_id: "mel" }],
    });
    const token = await tokenOf(given.api, "mel");
    const mel = given.there.as(token);
    await using socket = await connect(given.cluster.second.url, token);
    await subscribe(socket, room.id);
    expect((await mel.post(`/rooms/${room.id}/messages`, { content: "in" })).status).toBe(201);
    expect((await given.api.delete(`/rooms/${room.id}/members/mel`)).status).toBeLessThan(300);
    const refused = await mel.post(`/rooms/${room.id}/messages`, { content: "still in?" });
    expect([403, 404]).toContain(refused.status);
    await given.api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: "among us" });
    await socket.next((frame) => frame.type === "unsubscribed" && frame.reason === "removed", WAIT_MS);
    expect(JSON.stringify(socket.frames)).not.toContain("among us");
    expect(await headOnceAt(given.there, room.id, 4)).toBe(4);
  });

  test("a position of one node is good on the other, both ways", async () => {
    const [room] = await makeRooms(given.api, 1);
    for (let n = 0; n < 50; n += 1) {
      const [writes, reads] = n % 2 === 0 ? [given.api, given.there] : [given.there, given.api];
      const { body, headers } = await writes.post(`/rooms/${room}/messages`, { sender_id: "alice", content: `${n}` });
      const position = String(headers.get("position"));
      // On a busy machine a read gives up waiting.
      const read = () => reads.get(`/rooms/${room}/messages?limit=1`, { "read-after": position });
      const list = await until(read, ({ status }) => status === 200, WAIT_MS);
      expect(list.body.data[0]?.id).toBe(body.id);
    }
  });

  test("an idempotency key holds on both, one after the other and at the same time", async () => {
    const [room] = await makeRooms(given.api, 1);
    const post = (on: Api, key: string) =>
      on.post(`/rooms/${room}/messages`, { sender_id: "alice", content: "once" }, { "idempotency-key": key });
    const [said, again] = [await post(given.api, "one"), await post(given.there, "one")];
    expect([again.status, again.body.id, again.headers.get("idempotent-replayed")]).toEqual([
      201,
      said.body.id,
      "true",
    ]);
    for (let n = 0; n < 20; n += 1) {
      const answers = await Promise.all([post(given.api, `race-${n}`), post(given.there, `race-${n}`)]);
      expect(answers.map(({ status }) => status)).toEqual([201, 201]);
      expect(new Set(answers.map(({ body }) => body.id)).size, JSON.stringify(answers)).toBe(1);
    }
    const create = (on: Api) => on.post("/rooms", { name: "Once" }, { "idempotency-key": "room" });
    const rooms = await Promise.all([create(given.api), create(given.there)]);
    expect(new Set(rooms.map(({ body }: { body: Body }) => body.id)).size).toBe(1);
    expect(await headOnceAt(given.there, room ?? "", 1 + 1 + 20)).toBe(1 + 1 + 20);
  });

  test(
    "many writers on both nodes: each socket on either has every seq once, in order, nothing is missing",
    async () => {
      const rooms = await makeRooms(given.api, 5);
      const token = await tokenOf(given.api, "bob");
      const nodes = [given.cluster.first.url, given.cluster.second.url];
      const sockets = await Promise.all(nodes.map((url) => faithful(url, token, rooms)));
      const posting = nodes.map((url) => writers(given.api, url, rooms, 20));
      await new Promise((resolve) =>
        setTimeout(resolve, Number(process.env.NODES_WRITE_SECONDS ?? sized(2, 5)) * 1_000),
      );
      await Promise.all(posting.map((one) => one.stop()));
      expect(posting.flatMap((one) => one.unclear)).toEqual([]);
      const acknowledged = posting.flatMap((one) => one.posted.acknowledged);
      for (const room of rooms) {
        const own = acknowledged.filter((one) => one.room === room).map((one) => one.seq);
        const seq = await headOnceAt(given.there, room, Math.max(...own));
        const every = Array.from({ length: seq }, (_, n) => n + 1);
        for (const socket of sockets) {
          await timeUntil(async () => socket.seqs(room).length >= seq, WAIT_MS, "every frame");
          expect(socket.seqs(room)).toEqual(every);
        }
        expect(new Set(own).size).toBe(own.length);
        expect(own.length).toBe(seq - 1);
      }
      console.log(`posted on two nodes: ${posting.map((one) => one.posted.acknowledged.length).join(" and ")}`);
      await Promise.all(sockets.map((one) => one.close()));
    },
    4 * WAIT_MS,
  );
}
