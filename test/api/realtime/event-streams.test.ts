// Server-sent events: what streams of rooms and clients send, how they resume, and when they end.
import type { IncomingMessage, ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Gateway } from "../../../src/api/realtime/gateway.ts";
import { identify } from "../../../src/app/authenticate.ts";
import type { Services } from "../../../src/app/services.ts";
import type { ClientId, RoomId } from "../../../src/contract/ids.ts";
import { LiveFeed } from "../../../src/projections/feed.ts";
import { bodyOf, httpServer } from "../../channels/servers.ts";
import { type Api, type Body, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { answered, SseClient } from "../../support/sse-client.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const roomOf = async (api: Api): Promise<string> =>
  (await api.post("/rooms", { name: "Talk", members: [{ user_id: "ann", role: "owner" }, { user_id: "bob" }] })).body
    .id;
const say = async (api: Api, room: string, content: string): Promise<Body> =>
  (await api.post(`/rooms/${room}/messages`, { sender_id: "ann", content })).body;
const open = (path: string, bearer?: string, headers?: object) => SseClient.open(server.url, path, bearer, headers);
const seqsTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

/** A gateway of its own on the same services, with a server that answers each request with a stream of a room. */
async function gatewayOf(services: Services, bearer = "", room = "") {
  await using held = new AsyncDisposableStack();
  const feed = new LiveFeed({
    ...{ clock: () => performance.now(), store: services.store, logger: services.logger },
    after: await services.store.tail(),
  });
  held.use(feed).start();
  const gateway = held.use(new Gateway({ services, feed }));
  const { streams } = gateway;
  const identity = await identify(services, { bearer, userId: undefined }, Date.now());
  if ("refused" in identity) throw new Error(identity.refused);
  const answer = (request: IncomingMessage, response: ServerResponse, after?: number) =>
    streams.open({ kind: "room", room: room as RoomId, after }, { identity, request, response });
  const http = held.use(await httpServer((request, response) => void answer(request, response, 0)));
  const moved = held.move();
  return {
    streams,
    gateway,
    answer,
    url: `http://127.0.0.1:${http.port}`,
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

describe("the events of a room", () => {
  test("are the same by socket, stream, endpoint and pull, and each resumes from the others' cursors", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const ann = await tokenOf(api, "ann");
    const posted: Body[] = [];
    await using target = await httpServer(async (request, response) => {
      posted.push(JSON.parse(await bodyOf(request)));
      response.writeHead(204).end();
    });
    const url = `http://127.0.0.1:${target.port}/`;
    await api.post("/webhooks", { url, events: ["member.*", "message.*"], ordered: true });
    using socket = await SocketClient.connect(server.url.replace("http", "ws"), ann);
    await socket.ask({ type: "subscribe", room_id: room, after_seq: 0 });
    using ofRoom = await open(`/rooms/${room}/events?after_seq=0`, ann);
    const [created] = (await api.get("/events?limit=1")).body.data;
    using ofClient = await open(`/events?after=${created.position}`, api.key);
    const { id } = await say(api, room, "first\nwith a line break, and 語");
    await api.patch(`/rooms/${room}/messages/${id}`, { content: "edited" });
    await api.put(`/rooms/${room}/members/eve`, {});
    await api.delete(`/rooms/${room}/members/eve`);
    await Promise.all([ofRoom.count(5), ofClient.count(4), socket.next("event", { seq: 5 })]);

    const { data: pulled } = (await api.get(`/rooms/${room}/events`)).body;
    expect(pulled.map(({ seq }: Body) => seq)).toEqual(seqsTo(5));
    expect(ofRoom.data()).toEqual(pulled);
    expect(ofRoom.events.map(({ event, id: at }) => [event, at])).toEqual(
      pulled.map(({ type, seq }: Body) => [type, `${seq}`]),
    );
    const frames = socket.of("event").map(({ type: _frame, event: type, ...frame }) => ({ ...frame, type }));
    expect(frames).toEqual(pulled);
    const after = pulled.slice(1);
    expect(ofClient.data()).toEqual(after);
    expect(ofClient.events.map(({ event, id: at }) => [event, at])).toEqual(
      after.map(({ type, position }: Body) => [type, position]),
    );
    await until(
      async () => posted,
      (all) => all.length === 4,
      10_000,
    );
    expect(posted.map(({ timestamp: at, ...event }) => ({ at, ...event }))).toEqual(after);

    // A stream from cursors of pull, and pull from a stream's.
    const page = (await api.get(`/rooms/${room}/events?limit=2`)).body;
    using fromPage = await open(`/rooms/${room}/events?cursor=${page.next_cursor}`, ann);
    const ofAll = (await api.get("/events?limit=3&types=member.*,message.*,room.*")).body;
    using fromAll = await open(`/events?cursor=${ofAll.next_cursor}`, api.key);
    using fromPosition = await open("/events", api.key, { "last-event-id": ofAll.data[2].position });
    await Promise.all([fromPage.count(3), fromAll.count(2), fromPosition.count(2)]);
    for (const stream of [fromPage, fromAll, fromPosition])
      expect(stream.data()).toEqual(pulled.slice(-stream.events.length));
    const seq = ofRoom.events[1]?.id;
    expect((await api.get(`/rooms/${room}/events?after_seq=${seq}`)).body.data).toEqual(pulled.slice(2));
    expect((await api.get(`/events?after=${ofClient.events[1]?.id}`)).body.data).toEqual(pulled.slice(3));
  });

  test("resume after the last id, whatever happened meanwhile, and begin now without one", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const path = `/rooms/${room}/events`;
    const seen: number[] = [];
    let last = "1";
    for (let cut = 0; cut < 6; cut += 1) {
      using stream = await open(path, api.key, { "last-event-id": last });
      await Promise.all([say(api, room, `a${cut}`), say(api, room, `b${cut}`)]);
      await stream.count(1 + (cut % 2));
      last = stream.lastId();
      seen.push(...stream.data().map(({ seq }) => seq));
    }
    // What a browser sends after a cut counts, not the address that it began with.
    using rest = await open(`${path}?after_seq=0`, api.key, { "last-event-id": last });
    await say(api, room, "last");
    await rest.until(() => rest.lastId() === "14");
    expect([1, ...seen, ...rest.data().map(({ seq }) => seq)]).toEqual(seqsTo(14));
    using fresh = await open(path, api.key);
    await say(api, room, "new");
    await fresh.count(1);
    expect(fresh.data().map(({ seq }) => seq)).toEqual([15]);
  });

  test("end for a removed and for a banned member with the event that ended it, and a reason", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const [ann, bob] = [await tokenOf(api, "ann"), await tokenOf(api, "bob")];
    const path = `/rooms/${room}/events`;
    using removed = await open(path, bob);
    using stays = await open(path, ann);
    await api.delete(`/rooms/${room}/members/bob`);
    await say(api, room, "not for bob");
    await removed.end();
    expect(removed.types()).toEqual(["member.left", "unsubscribed"]);
    expect(removed.events.at(-1)).toEqual({
      event: "unsubscribed",
      id: undefined,
      data: { room_id: room, reason: "removed" },
    });
    using again = await open(path, bob);
    expect(again.status).toBe(404);

    await api.put(`/rooms/${room}/members/bob`, {});
    using banned = await open(path, bob);
    await api.post(`/rooms/${room}/bans/bob`, {});
    await say(api, room, "not for bob either");
    await banned.end();
    expect(banned.types().at(-1)).toBe("unsubscribed");
    expect(banned.events.at(-1)?.data.reason).toBe("banned");
    expect(banned.types()).not.toContain("message.posted");
    await stays.until(() => stays.types().filter((type) => type === "message.posted").length === 2);

    using observer = await open(path, api.key);
    await api.delete(`/rooms/${room}`);
    await Promise.all([observer.end(), stays.end()]);
    for (const one of [observer, stays]) {
      expect(one.types().slice(-2)).toEqual(["room.deleted", "unsubscribed"]);
      expect(one.events.at(-1)?.data.reason).toBe("room_deleted");
    }
  });

  test("end when the token expires or the node stops; comments come meanwhile", async () => {
    const clock = { ms: 0 };
    const services = new Proxy(server.services, {
      get: (all, name) => (name === "now" ? () => Date.now() + clock.ms : all[name as keyof Services]),
    });
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const gateway = await gatewayOf(services, await tokenOf(api, "ann"), room);
    const { streams } = gateway;
    using stream = await SseClient.open(gateway.url, "/");
    await stream.count(1);
    const start = performance.now();
    for (const seconds of [1, 16, 17, 32]) streams.tick(start + seconds * 1_000);
    await stream.until(() => stream.comments === 2);
    clock.ms = 3_601_000;
    streams.tick(start + 33_000);
    await stream.end();
    expect(streams.size).toBe(0);

    clock.ms = 0;
    using other = await SseClient.open(gateway.url, "/");
    await other.count(1);
    await gateway[Symbol.asyncDispose]();
    await other.end();
  });

  test("are cut off where nobody takes them: too much that is new, or for too long what was missed", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    await using own = await gatewayOf(server.services, api.key, room);
    await say(api, room, "missed");
    const [live, behind] = [answered(), answered()];
    await own.answer(live.request, live.response);
    await own.answer(behind.request, behind.response, 0);
    // Less than may wait, and more.
    await Promise.all(seqsTo(20).map(() => say(api, room, "語".repeat(10_000))));
    expect([live, behind].map(({ response }) => response.destroyed)).toEqual([false, false]);
    await Promise.all(seqsTo(20).map(() => say(api, room, "語".repeat(10_000))));
    await until(
      async () => live.response.destroyed,
      (destroyed) => destroyed,
      10_000,
    );
    expect(own.gateway.counts().slowConsumers).toBe(1);
    const now = performance.now();
    own.streams.tick(now);
    own.streams.tick(now + 30_000);
    expect(behind.response.destroyed).toBe(false);
    own.streams.tick(now + 60_000);
    expect(behind.response.destroyed).toBe(true);
    await until(
      async () => own.streams.size,
      (open) => open === 0,
      10_000,
    );
  });

  test("are told with the headers of a stream, but only to who asks for one", async () => {
    const api = await newClient(server.url);
    const path = `/rooms/${await roomOf(api)}/events`;
    using stream = await open(path, api.key);
    expect(stream.status).toBe(200);
    expect(stream.response.headers).toMatchObject({
      "content-type": "text/event-stream",
      "x-accel-buffering": "no",
      "cache-control": "no-store",
    });
    await stream.until(() => stream.retry !== undefined);
    for (const accept of ["*/*", "application/json", "application/json, text/event-stream;q=0.5"]) {
      const response = await fetch(`${server.url}/api/v1${path}`, {
        headers: { authorization: `Bearer ${api.key}`, accept },
      });
      expect(response.headers.get("content-type")).toContain("application/json");
    }
    const head = await fetch(`${server.url}/api/v1${path}`, {
      method: "HEAD",
      headers: { authorization: `Bearer ${api.key}`, accept: "text/event-stream" },
    });
    expect(head.headers.get("content-type")).toContain("application/json");
  });

  test("are refused after an id that is none of theirs", async () => {
    const api = await newClient(server.url);
    const path = `/rooms/${await roomOf(api)}/events`;
    for (const [query, headers, fault] of [
      ["", { "last-event-id": "x" }, { path: "Header: Last-Event-ID", code: "invalid_format" }],
      ["", { "last-event-id": "9" }, { path: "Header: Last-Event-ID", code: "too_large" }],
      ["", { "last-event-id": "1, 1" }, { path: "Header: Last-Event-ID", code: "invalid_format" }],
      ["", { "last-event-id": "-1" }, { path: "Header: Last-Event-ID", code: "invalid_format" }],
      ["", { "last-event-id": "1".repeat(8_000) }, { path: "Header: Last-Event-ID", code: "invalid_format" }],
      ["?after_seq=9", {}, { path: "?after_seq", code: "too_large" }],
    ] as const) {
      const response = await fetch(`${server.url}/api/v1${path}${query}`, {
        headers: { authorization: `Bearer ${api.key}`, accept: "text/event-stream", ...headers },
      });
      expect(response.status).toBe(422);
      expect(await response.json()).toMatchObject({ errors: [fault] });
    }
    for (const id of ["x", "x.1", ".1", "1", "x".repeat(8_000), "\x80"]) {
      using stream = await open("/events", api.key, { "last-event-id": id });
      expect(stream.status, id).toBe(400);
    }
  });

  test("count as a socket of an address, a client and a user", async () => {
    const { limits, keyring } = server.services;
    const api = await newClient(server.url);
    const path = `/rooms/${await roomOf(api)}/events`;
    const ann = await tokenOf(api, "ann");
    const subject = await keyring.subjectOfUser(api.id as ClientId, "ann");
    using taken = new DisposableStack();
    for (let one = limits.socketsByUser.take(subject); one !== undefined; one = limits.socketsByUser.take(subject)) {
      taken.use(one);
    }
    using refused = await open(path, ann);
    expect(refused.status).toBe(429);
    expect(refused.response.headers["retry-after"]).toBeDefined();
    taken.dispose();
    const streams = await Promise.all(Array.from({ length: 20 }, () => open(path, ann)));
    expect(streams.map(({ status }) => status)).toEqual(streams.map(() => 200));
    using last = await open(path, ann);
    expect(last.status).toBe(429);
    for (const stream of streams) stream[Symbol.dispose]();
    await until(
      async () => limits.socketsByUser.take(subject),
      (one) => one !== undefined,
      10_000,
    );
  });
});

describe("a client's events", () => {
  test("are those asked for, only the client's, and resume within what one event is published as", async () => {
    const [api, other] = [await newClient(server.url), await newClient(server.url)];
    const room = await roomOf(api);
    using all = await open("/events", api.key);
    using some = await open("/events?types=message.*", api.key);
    await say(other, await roomOf(other), "theirs");
    await say(api, room, "mine");
    const { body } = await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "Hello" });
    const ann = api.as(await tokenOf(api, "ann"));
    await all.next("notification.accepted");
    // Acknowledged before it was delivered: one stored event, two public ones.
    await until(
      () => ann.post(`/deliveries/${body.deliveries[0].id}/ack`),
      ({ status }) => status === 200,
      10_000,
    );
    await all.next("delivery.read");
    const types = ["message.posted", "notification.accepted", "delivery.delivered", "delivery.read"];
    expect(all.types()).toEqual(types);
    expect(all.events[2]?.data.position).toBe(all.events[3]?.data.position);
    expect(some.data()).toEqual(all.data().slice(0, 1));
    for (const [index, { id = "" }] of all.events.slice(0, -1).entries()) {
      using stream = await open("/events", api.key, { "last-event-id": id });
      await stream.next("delivery.read");
      expect(stream.events).toEqual(all.events.slice(index + 1));
      expect((await api.get(`/events?after=${id}`)).body.data).toEqual(all.data().slice(index + 1));
    }
  });

  test("are for keys, and end with their key", async () => {
    const api = await newClient(server.url);
    using refused = await open("/events", await tokenOf(api, "ann"));
    expect(refused.status).toBe(403);
    const { body: key } = await api.post("/clients/me/keys", { name: "Reader", scopes: ["webhooks:manage"] });
    using stream = await open("/events", key.api_key);
    expect(stream.status).toBe(200);
    await api.delete(`/clients/me/keys/${key.id}`);
    await stream.end();
    using again = await open("/events", key.api_key);
    expect(again.status).toBe(401);
  });
});

describe("a ticket", () => {
  const ticketOf = async (api: Api, body: object = {}): Promise<string> => {
    const made = await api.post("/tickets", body);
    expect(made.status, JSON.stringify(made.body)).toBe(201);
    expect(made.body.ticket).toMatch(/^tkt_[\w-]{43}$/);
    expect(Date.parse(made.body.expires_at)).toBeGreaterThan(Date.now());
    return made.body.ticket;
  };

  test("opens one stream or one socket, and no second", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    const ann = api.as(await tokenOf(api, "ann"));
    const path = `/rooms/${room}/events?after_seq=0`;
    const ticket = await ticketOf(ann);
    const both = await Promise.all([open(`${path}&ticket=${ticket}`), open(`${path}&ticket=${ticket}`)]);
    expect(both.map(({ status }) => status).toSorted()).toEqual([200, 401]);
    for (const one of both) one[Symbol.dispose]();
    const url = server.url.replace("http", "ws");
    const second = await ticketOf(api, { user_id: "ann" });
    using socket = new SocketClient(`${url}/ws?ticket=${second}&user_id=bob`);
    expect(await socket.next("welcome")).toMatchObject({ user_id: "ann" });
    using late = new SocketClient(`${url}/ws?ticket=${second}`);
    expect(await late.closed()).toBe(4501);
    using wrong = await open(`${path}&ticket=tkt_${"A".repeat(43)}`);
    expect(wrong.status).toBe(401);
    // Nothing but a stream is answered for it, and nothing else uses it up.
    const kept = await ticketOf(ann);
    const plain = await fetch(`${server.url}/api/v1${path}&ticket=${kept}`);
    expect(plain.status).toBe(401);
    using elsewhere = await open(`/rooms/${room}?ticket=${kept}`);
    expect(elsewhere.status).toBe(401);
    using stream = await open(`${path}&ticket=${kept}`);
    await stream.count(1);
  });

  test("has the rights of the user that it names, and ends with the token that it was made with", async () => {
    const api = await newClient(server.url);
    const room = await roomOf(api);
    using hidden = await open(`/rooms/${room}/events?ticket=${await ticketOf(api, { user_id: "eve" })}`);
    expect(hidden.status).toBe(404);
    const bob = api.as(await tokenOf(api, "bob"));
    expect((await bob.post("/tickets", { user_id: "ann" })).body.code).toBe("forbidden");
    using stream = await open(`/rooms/${room}/events?ticket=${await ticketOf(bob)}`);
    expect(stream.status).toBe(200);
    const unused = await ticketOf(bob);
    await api.delete("/users/bob/tokens");
    await stream.end();
    using late = await open(`/rooms/${room}/events?ticket=${unused}`);
    expect(late.status).toBe(401);
  });
});
