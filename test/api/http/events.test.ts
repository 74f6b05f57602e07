// Public events by pull: those of a client and of a room, in order, once, and only for whom they are.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bodyOf, httpServer } from "../../channels/servers.ts";
import { type Api, type Body, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const roomOf = async (api: Api): Promise<string> =>
  (await api.post("/rooms", { name: "Talk", members: [{ user_id: "ann", role: "owner" }] })).body.id;
const say = async (api: Api, room: string, content: string): Promise<Body> =>
  (await api.post(`/rooms/${room}/messages`, { sender_id: "ann", content })).body;

/** All pages, and how many they were. */
async function pulled(api: Api, path: string, limit: number): Promise<{ events: Body[]; pages: number }> {
  const events: Body[] = [];
  let cursor = "";
  for (let pages = 1; ; pages += 1) {
    const { status, body } = await api.get(`${path}${path.includes("?") ? "&" : "?"}limit=${limit}${cursor}`);
    expect(status, JSON.stringify(body)).toBe(200);
    expect(body.data.length).toBeLessThanOrEqual(limit);
    events.push(...body.data);
    if (body.next_cursor === null) return { events, pages };
    cursor = `&cursor=${body.next_cursor}`;
  }
}
const typesOf = (events: readonly Body[]): readonly string[] => events.map(({ type }) => type);

describe("a client's events", () => {
  test("are what an endpoint is sent, in the same order", async () => {
    const api = await newClient(server.url);
    const received: Body[] = [];
    await using target = await httpServer(async (request, response) => {
      received.push(JSON.parse(await bodyOf(request)));
      response.writeHead(204).end();
    });
    const url = `http://127.0.0.1:${target.port}/`;
    const events = ["room.*", "member.*", "message.*", "notification.*"];
    await api.post("/webhooks", { url, events, ordered: true });
    const room = await roomOf(api);
    const first = await say(api, room, "first");
    await api.patch(`/rooms/${room}/messages/${first.id}`, { content: "edited" });
    await api.put(`/rooms/${room}/members/bob`, {});
    await api.delete(`/rooms/${room}/members/bob`);
    await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "Hello" });
    await until(
      async () => received,
      (all) => all.length >= 6,
      10_000,
    );
    const { events: told } = await pulled(api, `/events?types=${events.join()}`, 100);
    expect(typesOf(told)).toEqual([
      ...["room.created", "message.posted", "message.edited", "member.joined", "member.left", "notification.accepted"],
    ]);
    // Several deliveries may be on their way at once, but those of a room are in order.
    const sent = received
      .map(({ timestamp: at, ...event }) => ({ at, ...event }))
      .toSorted((a, b) => told.findIndex(({ id }) => id === a.id) - told.findIndex(({ id }) => id === b.id));
    expect(sent).toEqual(told);
    const ofRoom = received.filter(({ room_id }) => room_id === room).map(({ seq }) => seq);
    expect(ofRoom).toEqual([1, 2, 3, 4, 5]);
    expect((await pulled(api, `/rooms/${room}/events`, 2)).events).toEqual(told.slice(0, 5));
  });

  test("page after page, each event once, also two of one position", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    for (let n = 0; n < 3; n += 1) {
      await say(api, room, `m${n}`);
      const { body } = await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: `n${n}` });
      const token = await tokenOf(api, "ann");
      const [delivery] = body.deliveries;
      // Acknowledged before it was delivered: one stored event, two public ones.
      await until(
        async () => api.as(token).post(`/deliveries/${delivery.id}/ack`),
        ({ status }) => status === 200,
      );
    }
    // Somebody else's write, which the key does not wait for.
    const { events: all } = await until(
      () => pulled(api, "/events", 100),
      ({ events }) => typesOf(events).filter((type) => type === "delivery.read").length === 3,
    );
    expect(typesOf(all).filter((type) => type.startsWith("delivery."))).toEqual(
      Array.from({ length: 3 }, () => ["delivery.delivered", "delivery.read"]).flat(),
    );
    for (const limit of [1, 2, 3]) {
      const { events, pages } = await pulled(api, "/events", limit);
      expect(events).toEqual(all);
      expect(pages).toBeGreaterThanOrEqual(all.length / limit);
    }
    const read = await pulled(api, "/events?types=delivery.read", 1);
    expect(read.events).toEqual(all.filter(({ type }) => type === "delivery.read"));
    const some = await pulled(api, "/events?types=member.*,message.posted,webhook.disabled", 2);
    expect(some.events).toEqual(all.filter(({ type }) => type === "message.posted"));
    for (const [index, { position }] of all.entries()) {
      const { events } = await pulled(api, `/events?after=${position}`, 100);
      expect(events).toEqual(all.slice(index + 1).filter((one) => one.position !== position));
    }
  });

  test("of the rooms that are named alone", async () => {
    const api = await newClient(server.url);
    const rooms = [await roomOf(api), await roomOf(api), await roomOf(api)];
    for (const room of rooms) await say(api, room, "hello");
    const { events } = await pulled(api, `/events?room_id=${rooms[2]},${rooms[0]},room_unknown`, 2);
    expect(events.map(({ room_id, seq }) => [room_id, seq])).toEqual([
      [rooms[0], 1],
      [rooms[2], 1],
      [rooms[0], 2],
      [rooms[2], 2],
    ]);
  });

  test("shows no content of a message that is deleted now", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const { id } = await say(api, room, "gone");
    await api.delete(`/rooms/${room}/messages/${id}`);
    const { events } = await pulled(api, "/events", 100);
    expect(typesOf(events)).toEqual(["room.created", "message.posted", "message.deleted"]);
    expect(events[1].data).toMatchObject({ id, content: null });
    expect(JSON.stringify(events)).not.toContain("gone");
  });

  test("shows the messages of a deleted room as they were last", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const { id } = await say(api, room, "gone");
    await api.delete(`/rooms/${room}/messages/${id}`);
    const half = { sender_id: "ann", content: "half", state: "growing" };
    const { body: grown } = await api.post(`/rooms/${room}/messages`, half);
    await api.post(`/rooms/${room}/messages/${grown.id}/cancel`);
    await api.delete(`/rooms/${room}`);
    const { events } = await pulled(api, "/events", 100);
    expect(typesOf(events)).toEqual([
      ...["room.created", "message.posted", "message.deleted"],
      ...["message.posted", "message.cancelled", "room.deleted"],
    ]);
    expect(events[1].data).toMatchObject({ id, content: null });
    expect(JSON.stringify(events)).not.toContain("gone");
    expect(events[3].data).toMatchObject({ id: grown.id, content: "half", state: "growing" });
    expect(events[4].data).toMatchObject({ id: grown.id, content: "half", state: "cancelled" });
  });

  test("ends a page early when its events are large", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const content = "語".repeat(10_000); // 30 KB
    await Promise.all(Array.from({ length: 60 }, () => say(api, room, content)));
    for (const path of ["/events", `/rooms/${room}/events`]) {
      const { body } = await api.get(`${path}?limit=100`);
      expect(JSON.stringify(body).length * 3).toBeLessThan(4 * 1024 * 1024);
      expect(body.data.length).toBeLessThan(61);
      expect(body.next_cursor).not.toBeNull();
      expect((await pulled(api, path, 100)).events).toHaveLength(61);
    }
  });

  test("takes no position of another client's, and no filter that is none", async () => {
    const [api, other] = [await newClient(server.url), await newClient(server.url)];
    await roomOf(other);
    const [theirs] = (await pulled(other, "/events", 1)).events;
    const codes = ["nonsense", theirs.position, `${theirs.position}.1`, "x".repeat(90)].map(
      async (after) => (await api.get(`/events?after=${after}`)).body.code,
    );
    expect(await Promise.all(codes)).toEqual(Array.from({ length: 4 }, () => "invalid_position"));
    expect((await api.get("/events?types=message")).body.errors).toMatchObject([
      { path: "?types", code: "not_allowed" },
    ]);
    expect((await api.get("/events?cursor=x")).body.code).toBe("invalid_cursor");
    expect((await api.as(await tokenOf(api, "ann")).get("/events")).body.code).toBe("forbidden");
  });
});

describe("a room's events", () => {
  test("from a seq on, for members and keys", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    for (let n = 0; n < 4; n += 1) await say(api, room, `m${n}`);
    const ann = api.as(await tokenOf(api, "ann"));
    const { events } = await pulled(ann, `/rooms/${room}/events?after_seq=2`, 1);
    expect(events.map(({ seq }) => seq)).toEqual([3, 4, 5]);
    expect((await pulled(api, `/rooms/${room}/events?after_seq=5`, 10)).events).toEqual([]);
    expect((await pulled(api, `/rooms/${room}/events?after_seq=500`, 10)).events).toEqual([]);
    const eve = api.as(await tokenOf(api, "eve"));
    expect((await eve.get(`/rooms/${room}/events`)).body.code).toBe("not_found");
    await api.patch(`/rooms/${room}`, { kind: "public" });
    expect((await eve.get(`/rooms/${room}/events`)).body.code).toBe("not_a_member");
  });
});
