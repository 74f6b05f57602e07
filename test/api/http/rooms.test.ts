// Rooms over HTTP: making, reading, listing, changing and ending them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let alice: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  alice = api.as(await tokenOf(api, "alice"));
});
afterAll(() => server[Symbol.asyncDispose]());

const make = async (body: Body = {}, by: Api = api): Promise<Body> => {
  const made = await by.post("/rooms", { name: "General", ...body });
  expect(made.status, JSON.stringify(made.body)).toBe(201);
  return made.body;
};
const codes = (body: Body) => body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted();

describe("making a room", () => {
  test("answers with the whole room, and where it is", async () => {
    const made = await api.post("/rooms", { name: "General", members: [{ user_id: "alice" }, { user_id: "bob" }] });
    expect(made.status).toBe(201);
    expect(made.body).toEqual({
      id: expect.stringMatching(/^room_[0-9a-z]{26}$/),
      external_id: null,
      name: "General",
      description: null,
      kind: "private",
      join_role: "member",
      max_members: null,
      posting: "everyone",
      history: "all",
      meta: {},
      active: true,
      seq: 1,
      member_count: 2,
      message_count: 0,
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      updated_at: made.body.created_at,
    });
    expect(made.headers.get("location")).toBe(`/api/v1/rooms/${made.body.id}`);
    expect(made.headers.get("etag")).toBe('"1"');
    const read = await api.get(`/rooms/${made.body.id}`);
    expect(read.body).toEqual(made.body);
    expect(read.headers.get("etag")).toBe('"1"');
  });

  test("makes its members users", async () => {
    await make({ members: [{ user_id: "newcomer", name: "Nora" }] });
    expect((await api.get("/users/newcomer")).body).toMatchObject({ id: "newcomer", name: null });
  });

  test("by a user makes that user its owner, named or not", async () => {
    for (const members of [[], [{ user_id: "alice", role: "reader" }], [{ user_id: "bob" }]]) {
      const room = await make({ members }, alice);
      const { body } = await alice.get(`/rooms/${room.id}/members`);
      expect(body.data.find((member: Body) => member.user_id === "alice").role).toBe("owner");
      expect(room.member_count).toBe(members.some((member) => member.user_id === "bob") ? 2 : 1);
    }
  });

  test("names every fault", async () => {
    const refused = await api.post("/rooms", {
      kind: "secret",
      external_id: "",
      meta: { much: "x".repeat(9_000) },
      members: [{ user_id: "no spaces" }, { role: "king" }],
      colour: "red",
    });
    expect(refused.status).toBe(422);
    expect(codes(refused.body)).toEqual([
      "colour unknown_field",
      "external_id too_short",
      "kind not_allowed",
      "members.0.user_id invalid_format",
      "members.1.role not_allowed",
      "members.1.user_id required",
      "meta too_long",
      "name required",
    ]);
  });

  test("takes each member once, and at most 500", async () => {
    const twice = await api.post("/rooms", { name: "Twice", members: [{ user_id: "a" }, { user_id: "a" }] });
    expect([twice.status, codes(twice.body)]).toEqual([422, ["members not_allowed"]]);
    const both = await api.post("/rooms", { name: "", kind: "direct", members: [{ user_id: "a", role: 5 }] });
    expect([both.status, codes(both.body)]).toEqual([
      422,
      ["members too_short", "members.0.role wrong_type", "name too_short"],
    ]);
    const members = Array.from({ length: 501 }, (_, n) => ({ user_id: `user${n}` }));
    const many = await api.post("/rooms", { name: "Many", members });
    expect([many.status, codes(many.body)]).toEqual([422, ["members too_long"]]);
    const crowded = await alice.post("/rooms", { name: "Crowded", members: members.slice(0, 500) });
    expect([crowded.status, codes(crowded.body)]).toEqual([422, ["members too_long"]]);
    const full = await make({
      members: members.slice(0, 500).map((member) => ({ ...member, name: "👋".repeat(200) })),
    });
    expect(full.member_count).toBe(500);
    expect((await api.get("/users/user499")).status).toBe(200);
  });

  test("sent again under its key gives the first answer, whatever became of the room", async () => {
    const headers = { "idempotency-key": "once" };
    const send = () => api.post("/rooms", { name: "Once", external_id: "once" }, headers);
    const first = await send();
    await api.patch(`/rooms/${first.body.id}`, { name: "Changed" });
    const second = await send();
    expect(second.body).toEqual(first.body);
    expect(second.headers.get("idempotent-replayed")).toBe("true");
    await api.delete(`/rooms/${first.body.id}`);
    expect((await api.post("/rooms", { name: "Another", external_id: "once" })).status).toBe(201);
    const third = await send();
    expect([third.status, third.body]).toEqual([201, first.body]);
    const other = await api.post("/rooms", { name: "Other", external_id: "once" }, headers);
    expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
  });
});

describe("changing a room", () => {
  test("merges, clears by null and leaves the rest", async () => {
    const room = await make({ description: "Old", meta: { a: 1, b: { c: 2, d: 3 } } });
    const changed = await api.patch(`/rooms/${room.id}`, { description: null, meta: { a: null, b: { c: 4 }, e: 5 } });
    expect(changed.status).toBe(200);
    expect(changed.body).toMatchObject({
      name: "General",
      description: null,
      meta: { b: { c: 4, d: 3 }, e: 5 },
      seq: 2,
    });
    expect(changed.headers.get("etag")).toBe('"2"');
    expect((await api.patch(`/rooms/${room.id}`, { meta: null })).body.meta).toEqual({});
    const same = await api.patch(`/rooms/${room.id}`, { meta: null });
    expect([same.status, same.body.seq]).toEqual([200, 3]);
  });

  test("refuses what cannot be cleared, and meta that grows too large", async () => {
    const room = await make({ meta: { a: "x".repeat(5_000) } });
    const cleared = await api.patch(`/rooms/${room.id}`, { name: null, kind: null });
    expect([cleared.status, codes(cleared.body)]).toEqual([422, ["kind wrong_type", "name wrong_type"]]);
    const grown = await api.patch(`/rooms/${room.id}`, { meta: { b: "x".repeat(5_000) } });
    expect([grown.status, codes(grown.body)]).toEqual([422, ["meta too_long"]]);
  });

  test("asks for the ETag that it was made from", async () => {
    const room = await make();
    const stale = await api.call("PATCH", `/rooms/${room.id}`, { name: "New" }, { "if-match": '"7"' });
    expect([stale.status, stale.body.code]).toEqual([412, "precondition_failed"]);
    const fresh = await api.call("PATCH", `/rooms/${room.id}`, { name: "New" }, { "if-match": '"1"' });
    expect([fresh.status, fresh.body.name]).toEqual([200, "New"]);
  });

  test("closes and opens, and saying it twice writes nothing", async () => {
    const room = await make();
    for (const [action, active, seq] of [
      ["deactivate", false, 2],
      ["activate", true, 3],
    ] as const) {
      for (let n = 0; n < 2; n += 1) {
        const done = await api.post(`/rooms/${room.id}/${action}`);
        expect([done.status, done.body.active, done.body.seq]).toEqual([200, active, seq]);
      }
    }
  });

  test("is for those whose role allows it", async () => {
    const members = [{ user_id: "alice" }, { user_id: "anna", role: "admin" }, { user_id: "olga", role: "owner" }];
    const room = await make({ members });
    const as = async (user: string) => api.as(await tokenOf(api, user));
    const [anna, olga, stan] = await Promise.all([as("anna"), as("olga"), as("stan")]);
    expect((await alice.patch(`/rooms/${room.id}`, { name: "Mine" })).body.code).toBe("role_required");
    expect((await anna.patch(`/rooms/${room.id}`, { name: "Ours" })).status).toBe(200);
    expect((await anna.post(`/rooms/${room.id}/deactivate`)).body.code).toBe("role_required");
    expect((await olga.post(`/rooms/${room.id}/deactivate`)).status).toBe(200);
    expect((await stan.patch(`/rooms/${room.id}`, { name: "Ha" })).body.code).toBe("not_found");
    expect((await anna.delete(`/rooms/${room.id}`)).body.code).toBe("role_required");
    expect((await olga.delete(`/rooms/${room.id}`)).status).toBe(204);
  });

  test("after its deletion a room is not found by anyone, by any call", async () => {
    const room = await make({ external_id: "gone", members: [{ user_id: "alice" }] });
    expect((await api.delete(`/rooms/${room.id}`)).status).toBe(204);
    const calls: [string, string, Body?][] = [
      ["GET", ""],
      ["PATCH", "", { name: "Back" }],
      ["DELETE", ""],
      ["POST", "/activate"],
      ["GET", "/members"],
      ["PUT", "/members/bob", {}],
      ["GET", "/messages"],
      ["POST", "/messages", { sender_id: "alice", content: "Hi" }],
      ["GET", "/reads"],
      ["PUT", "/reads/alice", { seq: 1 }],
    ];
    for (const [method, path, body] of calls) {
      for (const name of [room.id, "ext:gone"]) {
        const answer = await api.call(method, `/rooms/${name}${path}`, body);
        expect([answer.status, answer.body.code], `${method} ${path}`).toEqual([404, "not_found"]);
      }
    }
    expect((await api.get("/rooms?external_id=gone")).body.data).toEqual([]);
  });
});
