// What users do to messages over a socket, beside the requests that do the same.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLimits } from "../../../src/app/rate-limit.ts";
import { type Api, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { type Received, SocketClient } from "../../support/socket-client.ts";

let server: TestServer;
let api: Api;
let room: string;
let alice: Api;
let socket: SocketClient;
const url = () => server.url.replace("http", "ws");
const messages = () => `/rooms/${room}/messages`;

beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  const members = [{ user_id: "alice" }, { user_id: "bob" }, { user_id: "rita", role: "reader" }];
  room = (await api.post("/rooms", { name: "General", external_id: "general", members })).body.id;
  alice = api.as(await tokenOf(api, "alice"));
  socket = await SocketClient.connect(url(), alice.key ?? "");
});
afterAll(async () => {
  socket[Symbol.dispose]();
  await server[Symbol.asyncDispose]();
});

const ask = (type: string, fields: object = {}) => socket.ask({ type, room_id: room, ...fields });

test("a message is posted, edited, deleted and restored as by requests", async () => {
  const posted = await ask("post", { content: "Hi", message_type: "greeting", meta: { n: 1 } });
  const { message_id, seq } = posted;
  expect(posted).toEqual({ type: "ok", room_id: room, seq, message_id, position: expect.any(String) });
  const path = `${messages()}/${message_id}`;
  expect((await alice.get(path)).body).toMatchObject({ seq, type: "greeting", content: "Hi", sender_id: "alice" });
  const done = { type: "ok", room_id: room, seq, message_id, position: expect.any(String) };
  expect(await ask("edit", { message_id, content: "Hello", meta: { m: 2 } })).toEqual(done);
  expect((await alice.get(path)).body).toMatchObject({ content: "Hello", meta: { n: 1, m: 2 } });
  expect(await ask("delete", { message_id })).toEqual(done);
  expect((await alice.get(path)).body).toMatchObject({ content: null, deleted_at: expect.any(String) });
  expect(await ask("restore", { message_id })).toEqual(done);
  expect((await alice.get(path)).body).toMatchObject({ content: "Hello", deleted_at: null });
});

test("a reaction is made and taken back as by requests, and twice is once", async () => {
  const { message_id, seq } = await ask("post", { content: "Hi" });
  const done = { type: "ok", room_id: room, seq, message_id, position: expect.any(String) };
  const reactions = async () => (await alice.get(`${messages()}/${message_id}`)).body.reactions;
  const head = async () => (await alice.get(`/rooms/${room}`)).body.seq;
  for (const emoji of ["❤", "❤️"]) expect(await ask("react", { message_id, emoji })).toEqual(done);
  expect(await reactions()).toEqual([{ emoji: "❤️", count: 1, user_ids: ["alice"] }]);
  expect(await ask("react", { message_id, emoji: ":ok:", user_id: "alice" })).toEqual(done);
  for (let n = 0; n < 2; n += 1) expect(await ask("unreact", { message_id, emoji: "❤" })).toEqual(done);
  expect(await reactions()).toEqual([{ emoji: ":ok:", count: 1, user_ids: ["alice"] }]);
  expect(await head()).toBe(Number(seq) + 3);
});

test("a reaction is refused as its request is", async () => {
  const { message_id } = await ask("post", { content: "Hi" });
  const refused = async (type: string, fields: object) => {
    const { code, errors } = await ask(type, { message_id, ...fields });
    return (errors as { path: string; code: string }[] | undefined)?.map((one) => `${one.path} ${one.code}`) ?? code;
  };
  for (const type of ["react", "unreact"]) {
    expect(await refused(type, { emoji: "no" })).toEqual(["emoji invalid_format"]);
    expect(await refused(type, {})).toEqual(["emoji required"]);
    expect(await refused(type, { emoji: "👍", user_id: "bob" })).toBe("sender_mismatch");
    expect(await refused(type, { emoji: "👍", message_id: "msg_none" })).toBe("not_found");
    expect(await refused(type, { emoji: "👍", idempotency_key: "k" })).toEqual(["idempotency_key unknown_field"]);
  }
  await ask("delete", { message_id });
  expect(await refused("react", { emoji: "👍" })).toBe("message_deleted");
});

test("a room may be named by its external id, and the answer has its own", async () => {
  expect(await ask("post", { room_id: "ext:general", content: "Hi" })).toMatchObject({ type: "ok", room_id: room });
});

test("what was posted is read at once by the same token", async () => {
  const { message_id } = await ask("post", { content: "Mine" });
  const { body } = await alice.get(`${messages()}?limit=1`);
  expect(body.data[0].id).toBe(message_id);
});

test("numbers of many digits in meta stay as they were sent", async () => {
  socket.send(`{"type":"post","ref":"long","room_id":"${room}","content":"Hi","meta":{"n":12345678901234567890}}`);
  const { message_id } = await socket.next("ok", { ref: "long" });
  const headers = { authorization: `Bearer ${alice.key}` };
  const answer = await fetch(`${server.url}/api/v1${messages()}/${message_id}`, { headers });
  expect(await answer.text()).toContain('"n":12345678901234567890');
});

describe("idempotency keys are one space with requests", () => {
  const headers = (key: string) => ({ "idempotency-key": key });

  test("first by a frame, then by a request", async () => {
    const first = await ask("post", { content: "Once", idempotency_key: "k-1" });
    const again = await alice.post(messages(), { content: "Once" }, headers("k-1"));
    expect([again.status, again.body.id]).toEqual([201, first.message_id]);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(await ask("post", { content: "Once", idempotency_key: "k-1" })).toMatchObject({
      message_id: first.message_id,
      seq: first.seq,
    });
  });

  test("first by a request, then by a frame, of a message with a type", async () => {
    const body = { type: "greeting", content: "Once", meta: { b: 1, a: 2 } };
    const first = await alice.post(messages(), body, headers("k-2"));
    const frame = { message_type: "greeting", meta: { a: 2, b: 1 }, content: "Once", idempotency_key: "k-2" };
    expect(await ask("post", frame)).toMatchObject({ type: "ok", message_id: first.body.id });
  });

  test("both at once post one message", async () => {
    const [frame, request] = await Promise.all([
      ask("post", { content: "Together", idempotency_key: "k-3" }),
      alice.post(messages(), { content: "Together" }, headers("k-3")),
    ]);
    expect(frame.message_id).toBe(request.body.id);
  });

  test("another body under a key is refused", async () => {
    await ask("post", { content: "One", idempotency_key: "k-4" });
    expect(await ask("post", { content: "Two", idempotency_key: "k-4" })).toMatchObject({
      type: "error",
      code: "idempotency_key_reused",
    });
  });

  test("another user's are apart", async () => {
    const bob = await SocketClient.connect(url(), await tokenOf(api, "bob"));
    using _ends = bob;
    const first = await ask("post", { content: "Once", idempotency_key: "k-5" });
    const other = await bob.ask({ type: "post", room_id: room, content: "Once", idempotency_key: "k-5" });
    expect(other).toMatchObject({ type: "ok" });
    expect(other.message_id).not.toBe(first.message_id);
  });

  test("restoring takes one, editing and deleting do not", async () => {
    const { message_id } = await ask("post", { content: "Hi" });
    expect(await ask("restore", { message_id, idempotency_key: "k-6" })).toMatchObject({ type: "ok" });
    const refused = { code: "validation_failed", errors: [{ path: "idempotency_key", code: "unknown_field" }] };
    for (const type of ["edit", "delete"]) {
      expect(await ask(type, { message_id, idempotency_key: "k-6" })).toMatchObject(refused);
    }
  });
});

describe("what a frame gets wrong is told as its request would be", () => {
  const bodies = [
    { content: "" },
    { content: 5, meta: [], typ: "x" },
    { content: "x".repeat(10_001), reply_to: "msg_unknown" },
    { content: "Hi", reply_to: "msg_unknown" },
    { content: "Hi", type: "system" },
    { content: "", type: "Wrong", sender_name: "Bob" },
    { content: "a\0b", meta: { "\ud800": "\udfff" } },
    { content: "Hi", sender_id: "bob" },
    { meta: { text: "x".repeat(9_000) }, content: "Hi" },
    { content: "Hi", meta: JSON.parse('{"a":{"__proto__":1}}') },
  ];
  test.each(bodies)("%j", async ({ type, ...body }: { readonly type?: string; readonly [name: string]: unknown }) => {
    const typed = type === undefined ? {} : { type };
    const { body: problem } = await alice.post(messages(), { ...typed, ...body });
    const frame = await ask("post", { ...body, ...(type === undefined ? {} : { message_type: type }) });
    const errors = problem.errors?.map((one: { path: string }) =>
      one.path === "type" ? { ...one, path: "message_type" } : one,
    );
    expect(frame.code).toBe(problem.code);
    const byPath = (all: readonly { path: string }[] = []) => all.toSorted((a, b) => (a.path < b.path ? -1 : 1));
    expect(byPath(frame.errors as [])).toEqual(byPath(errors));
  });

  test("nested deeper than 32 levels", async () => {
    const deep = `${'{"a":'.repeat(40)}1${"}".repeat(40)}`;
    socket.send(`{"type":"post","ref":"deep","room_id":"${room}","content":"Hi","meta":${deep}}`);
    expect(await socket.next("error", { ref: "deep" })).toMatchObject({ code: "malformed_json" });
  });

  test("a marker past the head, by the frame's own field", async () => {
    for (const type of ["read", "delivered"])
      expect(await ask(type, { seq: 1_000_000 })).toMatchObject({
        code: "validation_failed",
        errors: [{ path: "seq", code: "too_large" }],
      });
  });

  test("a room or a message that is not there", async () => {
    expect(await ask("post", { room_id: "room_\0", content: "Hi" })).toMatchObject({ code: "not_found" });
    expect(await ask("edit", { message_id: "msg_\ud800", content: "Hi" })).toMatchObject({ code: "not_found" });
    const { message_id } = await ask("post", { content: "Hi" });
    await ask("delete", { message_id });
    expect(await ask("edit", { message_id, content: "Hi" })).toMatchObject({ code: "message_deleted" });
  });

  test("far too many unknown fields", async () => {
    const fields = Object.fromEntries(Array.from({ length: 3_000 }, (_, n) => [`f${n}${"x".repeat(50)}`, n]));
    const { errors, message } = await ask("post", { content: "Hi", ...fields });
    expect(errors).toHaveLength(100);
    expect(String(message).length).toBeLessThanOrEqual(1_001);
  });
});

test("a reader, a removed member and an observer are refused", async () => {
  using rita = await SocketClient.connect(url(), await tokenOf(api, "rita"));
  expect(await rita.ask({ type: "post", room_id: room, content: "Hi" })).toMatchObject({ code: "read_only" });
  await api.put(`/rooms/${room}/members/guest`, {});
  using guest = await SocketClient.connect(url(), await tokenOf(api, "guest"));
  expect(await guest.ask({ type: "post", room_id: room, content: "Hi" })).toMatchObject({ type: "ok" });
  await api.delete(`/rooms/${room}/members/guest`);
  expect(await guest.ask({ type: "post", room_id: room, content: "Hi" })).toMatchObject({ code: "not_found" });
  using observer = await SocketClient.connect(url(), api.key ?? "");
  for (const frame of [{ content: "Hi" }, { content: "Hi", sender_id: "alice" }, { content: 5 }]) {
    expect(await observer.ask({ type: "post", room_id: room, ...frame })).toMatchObject({ code: "user_required" });
  }
  using asAlice = await SocketClient.connect(url(), api.key ?? "", "/ws?user_id=alice");
  const { message_id } = await asAlice.ask({ type: "post", room_id: room, content: "Hi" });
  expect((await api.get(`${messages()}/${message_id}`)).body).toMatchObject({ sender_id: "alice" });
});

test("a token without the scope is refused before its fields are looked at", async () => {
  const { body } = await api.post("/clients/me/keys", { name: "some", scopes: ["messages:read", "users:manage"] });
  const token = await tokenOf(api.as(body.api_key), "alice");
  using limited = await SocketClient.connect(url(), token);
  expect(await limited.ask({ type: "post", room_id: room, content: 5 })).toMatchObject({ code: "insufficient_scope" });
});

test("a socket's commands are carried out in the order in which they were sent", async () => {
  const first = await ask("post", { content: "0" });
  const sent = Array.from({ length: 12 }, (_, n) => `${n}`);
  for (const content of sent) socket.send({ type: "post", ref: `order ${content}`, room_id: room, content });
  await socket.next("ok", { ref: "order 11" });
  const answers = socket.of("ok").filter(({ ref }) => String(ref).startsWith("order "));
  expect(answers.map(({ ref }) => ref)).toEqual(sent.map((one) => `order ${one}`));
  const { body } = await alice.get(`${messages()}?after_seq=${first.seq}&limit=100`);
  expect(body.data.map((one: { content: string }) => one.content)).toEqual(sent);
});

describe("typing", () => {
  const typing = (of: SocketClient, active = true) => of.ask({ type: "typing", room_id: room, active });

  test("the others of the room are told, until its user stops or its socket ends", async () => {
    using bob = await SocketClient.connect(url(), await tokenOf(api, "bob"));
    using own = await SocketClient.connect(url(), alice.key ?? "");
    using observer = await SocketClient.connect(url(), api.key ?? "");
    for (const one of [bob, own, observer]) await one.ask({ type: "subscribe", room_id: room });
    expect(await typing(own)).toEqual({ type: "ok" });
    const told = { room_id: room, user_id: "alice" };
    for (const one of [bob, observer]) await one.next("typing", { ...told, active: true });
    await typing(own, false);
    for (const one of [bob, observer]) await one.next("typing", { ...told, active: false });
    const tail = await server.storage.store.tail();
    await typing(own);
    await typing(own, false);
    await typing(own);
    own.cut();
    await bob.until(() => bob.of("typing").filter(({ active }) => active === false).length === 3);
    expect(await server.storage.store.tail()).toBe(tail);
    expect(own.of("typing")).toEqual([]);
  });

  test("who may not post does not type", async () => {
    await api.put(`/rooms/${room}/members/mute`, {});
    using rita = await SocketClient.connect(url(), await tokenOf(api, "rita"));
    using mute = await SocketClient.connect(url(), await tokenOf(api, "mute"));
    using observer = await SocketClient.connect(url(), api.key ?? "");
    expect(await typing(rita)).toMatchObject({ code: "read_only" });
    const muted_until = new Date(Date.now() + 3_600_000).toISOString();
    await api.patch(`/rooms/${room}/members/mute`, { muted_until });
    expect(await typing(mute)).toMatchObject({ code: "muted" });
    await api.post(`/rooms/${room}/bans/mute`, {});
    expect(await typing(mute)).toMatchObject({ code: "not_found" });
    expect(await typing(observer)).toMatchObject({ code: "user_required" });
    expect(await mute.ask({ type: "typing", room_id: room })).toMatchObject({ code: "validation_failed" });
  });
});

describe("presence", () => {
  const watch = (of: SocketClient, active = true) => of.ask({ type: "presence", room_id: room, active });
  const userIn = (frame: Received, id: string) =>
    (frame.users as { user_id: string }[]).find((one) => one.user_id === id);

  test("members and observers see who is online, by request and by frames", async () => {
    await api.put(`/rooms/${room}/members/kim`, {});
    await server.services.readSide.caughtUp(); // neither of the two wrote it
    const offline = { user_id: "kim", online: false, since: null, last_seen_at: null, devices: 0 };
    using observer = await SocketClient.connect(url(), api.key ?? "");
    for (const one of [socket, observer]) {
      const now = await watch(one);
      expect(userIn(now, "kim")).toEqual(offline);
      expect(userIn(now, "alice")).toMatchObject({ online: true, devices: 1 });
    }
    using kim = await SocketClient.connect(url(), await tokenOf(api, "kim"));
    using again = await SocketClient.connect(url(), await tokenOf(api, "kim"));
    const time = expect.any(String);
    const online = { user_id: "kim", online: true, since: time, last_seen_at: time, devices: 2 };
    for (const one of [socket, observer]) {
      await one.until(() =>
        one.of("presence").some((frame) => userIn(frame, "kim") !== undefined && !("ref" in frame)),
      );
      expect(one.of("presence").at(-1)?.users).toEqual([{ ...online, devices: expect.any(Number) }]);
    }
    expect((await api.get("/users/kim/presence")).body).toEqual(online);
    const { body } = await alice.get(`/rooms/${room}/presence?limit=1`);
    expect([body.data, body.next_cursor]).toEqual([[online], time]);
    expect(await watch(socket, false)).toEqual({ type: "ok" });
    expect(kim.of("presence")).toEqual([]);
    expect(again.of("presence")).toEqual([]);
  });

  test("who is removed sees no more of it", async () => {
    await api.put(`/rooms/${room}/members/leo`, {});
    using leo = await SocketClient.connect(url(), await tokenOf(api, "leo"));
    using observer = await SocketClient.connect(url(), api.key ?? "");
    await watch(leo);
    await watch(observer);
    await api.delete(`/rooms/${room}/members/leo`);
    const seen = leo.of("presence").length;
    await api.put(`/rooms/${room}/members/max`, {});
    using _max = await SocketClient.connect(url(), await tokenOf(api, "max"));
    await observer.until(() => observer.of("presence").some((frame) => userIn(frame, "max") !== undefined));
    expect(await watch(leo)).toMatchObject({ code: "not_found" });
    expect(leo.of("presence")).toHaveLength(seen);
    expect((await api.as(await tokenOf(api, "leo")).get(`/rooms/${room}/presence`)).status).toBe(404);
    expect((await alice.get("/users/leo/presence")).status).toBe(404);
    expect((await api.get("/users/nobody/presence")).status).toBe(404);
  });
});

test("commands count as requests of their user, wrong ones too", async () => {
  const rateLimits = { userRequests: { count: 4, windowMs: 60_000 } };
  await using limited = await startTestServer({ bounds: { limits: createLimits({ rateLimits }) } });
  const key = await newClient(limited.url);
  const { body } = await key.post("/rooms", { name: "General", members: [{ user_id: "alice" }] });
  const token = await tokenOf(key, "alice");
  using one = await SocketClient.connect(limited.url.replace("http", "ws"), token);
  const post = { type: "post", room_id: body.id, content: "Hi" };
  expect(await one.ask(post)).toMatchObject({ type: "ok" });
  expect(await one.ask({ ...post, content: 5 })).toMatchObject({ code: "validation_failed" });
  expect((await key.as(token).get("/rooms")).status).toBe(200);
  expect(await one.ask(post)).toMatchObject({ type: "ok" });
  expect(await one.ask(post)).toMatchObject({ code: "rate_limited", retry_after_seconds: expect.any(Number) });
  expect((await key.as(token).get("/rooms")).status).toBe(429);
  expect(await one.ask({ type: "ping" })).toEqual({ type: "pong" });
});
