// Users over HTTP: their profiles, by key and by their own token, and lists of them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const faultsOf = (body: Body) => body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted();

describe("PUT", () => {
  test("makes a user, then replaces: what is left out is cleared", async () => {
    const profile = { name: "Alice", email: "alice@example.com", timezone: "Europe/Berlin", meta: { team: "blue" } };
    const made = await api.put("/users/alice", profile);
    expect(made.status).toBe(201);
    expect(made.body).toEqual({
      id: "alice",
      ...profile,
      created_at: expect.stringMatching(TIME),
      updated_at: made.body.created_at,
    });
    expect(made.headers.get("location")).toBe("/api/v1/users/alice");
    expect((await api.get("/users/alice")).body).toEqual(made.body);
    const replaced = await api.put("/users/alice", { name: "Al" });
    expect([replaced.status, replaced.headers.get("location")]).toEqual([200, null]);
    expect(replaced.body).toMatchObject({ name: "Al", email: null, timezone: null, meta: {} });
    expect((await api.get("/users/alice")).body).toEqual(replaced.body);
  });

  test("of the same again writes nothing, and says where the log is", async () => {
    await api.put("/users/same", { name: "S", meta: { a: 1, b: 2 } });
    const tail = await server.services.store.tail();
    const again = await api.put("/users/same", { meta: { b: 2, a: 1 }, name: "S", email: null });
    expect(again.status).toBe(200);
    expect(again.headers.get("position")).toBeTruthy();
    expect(await server.services.store.tail()).toBe(tail);
  });

  test("takes any id of the client's, percent-encoded", async () => {
    for (const id of ["a.b-c_d@e+f:g", "A".repeat(128), "...", "me", "constructor"]) {
      const made = await api.put(`/users/${encodeURIComponent(id)}`, {});
      expect([made.status, made.body.id], id).toEqual([201, id]);
    }
  });

  test("takes no id that a URL takes for a dot segment", async () => {
    for (const id of [".", ".."]) {
      const answer = await api.post("/rooms", { name: "R", members: [{ user_id: id }] });
      expect([answer.status, faultsOf(answer.body)]).toEqual([422, ["members.0.user_id invalid_format"]]);
    }
  });

  test("with If-None-Match: * makes what is new alone", async () => {
    const onlyNew = { "if-none-match": "*" };
    expect((await api.call("PUT", "/users/fresh", { name: "First" }, onlyNew)).status).toBe(201);
    const again = await api.call("PUT", "/users/fresh", { name: "Second" }, onlyNew);
    expect([again.status, again.body.code]).toEqual([412, "precondition_failed"]);
    expect((await api.get("/users/fresh")).body.name).toBe("First");
    const { id } = (await api.post("/rooms", { name: "R", members: [{ user_id: "ann" }] })).body;
    expect((await api.call("PUT", `/rooms/${id}/members/bob`, {}, onlyNew)).status).toBe(201);
    expect((await api.call("PUT", `/rooms/${id}/members/ann`, { role: "admin" }, onlyNew)).status).toBe(412);
    expect((await api.call("PUT", `/rooms/${id}/reads/ann`, { seq: 1 }, onlyNew)).status).toBe(412);
    expect((await api.call("PUT", "/users/fresh", {}, { "if-none-match": '"1"' })).status).toBe(422);
  });

  test("and PATCH ask for the ETag that they were made from", async () => {
    const made = await api.put("/users/tagged", { name: "T" });
    const etag = made.headers.get("etag") ?? "";
    await tokenOf(api, "tagged");
    expect((await api.get("/users/tagged")).headers.get("etag")).toBe(etag);
    const changed = await api.call("PATCH", "/users/tagged", { name: "U" }, { "if-match": etag });
    expect([changed.status, changed.headers.get("etag") === etag]).toEqual([200, false]);
    for (const method of ["PATCH", "PUT"]) {
      expect((await api.call(method, "/users/tagged", { name: "V" }, { "if-match": etag })).status).toBe(412);
    }
  });

  test("names every fault at once", async () => {
    const answer = await api.put("/users/bad", {
      name: "",
      email: "not an address",
      timezone: "Mars/Olympus",
      meta: [],
      extra: 1,
    });
    expect([answer.status, answer.body.code]).toEqual([422, "validation_failed"]);
    expect(faultsOf(answer.body)).toEqual([
      "email invalid_format",
      "extra unknown_field",
      "meta wrong_type",
      "name too_short",
      "timezone invalid_format",
    ]);
    expect((await api.get("/users/bad")).status).toBe(404);
  });

  test("checks lengths, types and sizes", async () => {
    const faults = async (body: unknown) => faultsOf((await api.put("/users/bad", body)).body);
    expect(await faults({ name: "x".repeat(201) })).toEqual(["name too_long"]);
    expect(await faults({ email: 5, timezone: 5, meta: "x" })).toEqual([
      "email wrong_type",
      "meta wrong_type",
      "timezone wrong_type",
    ]);
    expect(await faults({ email: `${"x".repeat(65)}@example.com` })).toEqual(["email invalid_format"]);
    expect(await faults({ email: `a@${"x".repeat(260)}` })).toEqual(["email too_long"]);
    expect(await faults({ timezone: "../etc/passwd" })).toEqual(["timezone invalid_format"]);
    expect(await faults({ timezone: "+01:00" })).toEqual(["timezone invalid_format"]);
    expect(await faults({ meta: { big: "ä".repeat(4_096) } })).toEqual(["meta too_long"]);
    const longest = await api.put(`/users/${"A".repeat(129)}`, {});
    expect(faultsOf(longest.body)).toEqual(["user_id too_long"]);
  });
});

describe("PATCH", () => {
  test("changes what it names, null clears, meta merges key by key", async () => {
    await api.put("/users/pat", {
      name: "Pat",
      email: "p@example.com",
      meta: { a: 1, deep: { x: 1, y: 2 }, list: [1] },
    });
    const patched = await api.patch("/users/pat", { email: null, meta: { a: null, b: 2, deep: { y: 3 }, list: [2] } });
    expect(patched.status).toBe(200);
    expect(patched.body).toMatchObject({ name: "Pat", email: null });
    expect(patched.body.meta).toEqual({ b: 2, deep: { x: 1, y: 3 }, list: [2] });
    expect((await api.get("/users/pat")).body).toEqual(patched.body);
    expect((await api.patch("/users/pat", { meta: null })).body.meta).toEqual({});
  });

  test("of nobody is 404, and makes nobody", async () => {
    expect((await api.patch("/users/nobody", { name: "N" })).status).toBe(404);
    expect((await api.get("/users/nobody")).status).toBe(404);
  });

  test("keeps the merged meta within its bound", async () => {
    await api.put("/users/full", { meta: { a: "x".repeat(5_000) } });
    const answer = await api.patch("/users/full", { meta: { b: "x".repeat(5_000) } });
    expect([answer.status, faultsOf(answer.body)]).toEqual([422, ["meta too_long"]]);
    expect((await api.patch("/users/full", { meta: { a: null, b: "x".repeat(5_000) } })).status).toBe(200);
  });
});

describe("a user's token", () => {
  test("reads its own user, and changes its name, timezone and meta", async () => {
    await api.put("/users/own", { name: "Own", email: "own@example.com" });
    const own = api.as(await tokenOf(api, "own"));
    expect((await own.get("/users/own")).body).toMatchObject({ id: "own", email: "own@example.com" });
    const patched = await own.patch("/users/own", { name: "Me", timezone: "UTC", meta: { a: 1 } });
    expect(patched.body).toMatchObject({ name: "Me", timezone: "UTC", meta: { a: 1 }, email: "own@example.com" });
    for (const email of ["else@example.com", null]) {
      const answer = await own.patch("/users/own", { email });
      expect([answer.status, faultsOf(answer.body)]).toEqual([422, ["email not_allowed"]]);
    }
    const both = await own.patch("/users/own", { email: "else@example.com", name: 5 });
    expect([both.status, faultsOf(both.body)]).toEqual([422, ["email not_allowed", "name wrong_type"]]);
  });

  test("finds itself as soon as it has a token", async () => {
    for (let count = 0; count < 20; count += 1) {
      const own = api.as(await tokenOf(api, `new-${count}`));
      expect((await own.get(`/users/new-${count}`)).body.id).toBe(`new-${count}`);
      expect((await own.get(`/users/new-${count}/rooms`)).body.data).toEqual([]);
    }
  });

  test("finds no other user, known or not, and lists none", async () => {
    await api.put("/users/secret", { name: "Secret" });
    const own = api.as(await tokenOf(api, "curious"));
    for (const path of ["/users/secret", "/users/unknown", "/users/secret/rooms", "/users/unknown/rooms"]) {
      const answer = await own.get(path);
      expect([answer.status, answer.body.code], path).toEqual([404, "not_found"]);
    }
    expect((await own.patch("/users/secret", { name: "x" })).status).toBe(404);
    for (const [method, path] of [
      ["GET", "/users"],
      ["PUT", "/users/curious"],
      ["POST", "/users/curious/tokens"],
      ["DELETE", "/users/curious/tokens"],
      ["GET", "/clients/me"],
      ["GET", "/clients/me/webhook-secret"],
    ] as const) {
      const answer = await own.call(method, path);
      expect([answer.status, answer.body.code], `${method} ${path}`).toEqual([403, "forbidden"]);
    }
  });
});

test("users of another client are unknown", async () => {
  await api.put("/users/mine", { name: "Mine" });
  const other = await newClient(server.url);
  const [foreign, unknown] = [await other.get("/users/mine"), await other.get("/users/nobody-at-all")];
  expect({ ...foreign.body, request_id: "" }).toEqual({ ...unknown.body, request_id: "" });
  expect((await other.get("/users")).body).toEqual({ data: [], next_cursor: null });
});

describe("a user's rooms", () => {
  test("come with what is unread, newest activity first", async () => {
    await api.put("/users/reader", {});
    const members = [{ user_id: "reader" }, { user_id: "writer" }];
    const { body: quiet } = await api.post("/rooms", { name: "Quiet", members });
    const { body: busy } = await api.post("/rooms", { name: "Busy", members });
    const post = (room: string, content: string) =>
      api.post(`/rooms/${room}/messages`, { sender_id: "writer", content });
    await post(quiet.id, "one");
    const { body: last } = await post(busy.id, "two");
    const { body } = await api.get("/users/reader/rooms");
    expect(body.unread_total).toBe(2);
    expect(body.next_cursor).toBeNull();
    expect(body.data.map(({ room }: Body) => room.name)).toEqual(["Busy", "Quiet"]);
    expect(body.data[0]).toEqual({
      room: { ...busy, seq: 2, message_count: 1, updated_at: body.data[0].room.updated_at },
      role: "member",
      seq: 2,
      read_seq: 0,
      delivered_seq: 0,
      unread_count: 1,
      mention_count: 0,
      last_message: last,
    });
    const first = await api.get("/users/reader/rooms?limit=1");
    const second = await api.get(`/users/reader/rooms?cursor=${first.body.next_cursor}`);
    expect(second.body.data.map(({ room }: Body) => room.name)).toEqual(["Quiet"]);
    const own = api.as(await tokenOf(api, "reader"));
    expect((await own.get("/users/reader/rooms")).body.data).toHaveLength(2);
    expect((await api.get("/users/stranger/rooms")).status).toBe(404);
  });
});
