// What a user's token may not do: take names that belong to the backend, make users, rule in a direct room, come back.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type Api, codeOf, newClient, tokenOf } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let alice: Api;
let bob: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  alice = api.as(await tokenOf(api, "alice"));
  bob = api.as(await tokenOf(api, "bob"));
});
afterAll(() => server[Symbol.asyncDispose]());

const refusal = ({ status, body }: Answer) => [
  status,
  ...(body?.errors ?? []).map(({ path, code }: { path: string; code: string }) => `${path} ${code}`),
];

describe("names that belong to the backend", () => {
  test("an external id is a client key's to give, taken or not", async () => {
    await api.post("/rooms", { name: "Taken", external_id: "taken" });
    for (const external_id of ["taken", "free"]) {
      const refused = await alice.post("/rooms", { name: "Mine", external_id });
      expect(refusal(refused)).toEqual([422, "external_id not_allowed"]);
      expect(JSON.stringify(refused.body)).not.toContain("room_");
    }
    expect(codeOf(await api.post("/rooms", { name: "Late", external_id: "taken" }))).toEqual([
      409,
      "external_id_taken",
    ]);
  });

  test("so is the name of a sender", async () => {
    const { body: room } = await alice.post("/rooms", { name: "Mine" });
    const refused = await alice.post(`/rooms/${room.id}/messages`, { content: "hi", sender_name: "Support" });
    expect(refusal(refused)).toEqual([422, "sender_name not_allowed"]);
    const { body } = await alice.post(`/rooms/${room.id}/messages`, { content: "hi", sender_name: null });
    expect(body.sender_name).toBe(null);
  });

  test("who does not exist is not made by a user, whose own room it is", async () => {
    const members = [{ user_id: "alice" }, { user_id: "bob" }, { user_id: "nobody" }];
    expect(refusal(await alice.post("/rooms", { name: "Mine", members }))).toEqual([
      422,
      "members.2.user_id not_allowed",
    ]);
    // Where the creator is not among those that it names.
    const others = [{ user_id: "ghost" }, { user_id: "bob" }, { user_id: "nobody" }];
    expect(refusal(await alice.post("/rooms", { name: "Mine", members: others }))).toEqual([
      422,
      "members.0.user_id not_allowed",
      "members.2.user_id not_allowed",
    ]);
    const { body: room } = await alice.post("/rooms", { name: "Mine", members: members.slice(1, 2) });
    expect(refusal(await alice.put(`/rooms/${room.id}/members/nobody`, {}))).toEqual([422, "user_id not_allowed"]);
    expect((await api.get("/users/nobody")).status).toBe(404);
    expect((await api.put(`/rooms/${room.id}/members/nobody`, {})).status).toBe(201);
  });

  test("another member's name stays what it is; one's own can be given", async () => {
    const members = [
      { user_id: "bob", name: "Not Bob" },
      { user_id: "alice", name: "Ally" },
    ];
    expect(refusal(await alice.post("/rooms", { name: "Mine", members }))).toEqual([422, "members.0.name not_allowed"]);
    const { body: room } = await alice.post("/rooms", { name: "Mine", members: [{ user_id: "bob" }, members[1]] });
    const at = `/rooms/${room.id}/members`;
    await bob.put(`${at}/bob`, { name: "Bobby" });
    expect(refusal(await alice.put(`${at}/bob`, { name: "Not Bob" }))).toEqual([422, "name not_allowed"]);
    const promoted = await alice.put(`${at}/bob`, { role: "admin" });
    expect([promoted.status, promoted.body.name, promoted.body.role]).toEqual([200, "Bobby", "admin"]);
    expect((await api.put(`${at}/bob`, { role: "admin", name: "Robert" })).body.name).toBe("Robert");
  });
});

describe("a direct room", () => {
  test("needs no name, and has two members who are equal", async () => {
    const made = await alice.post("/rooms", { kind: "direct", members: [{ user_id: "bob" }] });
    expect([made.status, made.body.name]).toEqual([201, null]);
    const at = `/rooms/${made.body.id}`;
    const { body } = await alice.get(`${at}/members`);
    expect(body.data.map(({ role }: { role: string }) => role)).toEqual(["member", "member"]);
    const { body: said } = await bob.post(`${at}/messages`, { content: "mine" });
    const refused = [
      await alice.patch(`${at}/messages/${said.id}`, { content: "yours" }),
      await alice.delete(`${at}/messages/${said.id}`),
      await alice.put(`${at}/members/bob`, { role: "reader" }),
      await alice.delete(`${at}/members/bob`),
      await alice.delete(`${at}/members/alice`),
      await alice.patch(at, { name: "Ours" }),
      await alice.delete(at),
    ];
    expect(refused.map(({ status }) => status)).toEqual(refused.map(() => 403));
    expect((await alice.get("/rooms?sort=name")).body.data.map(({ id }: { id: string }) => id)).toContain(made.body.id);
    expect((await api.delete(at)).status).toBe(204);
  });

  test("refuses roles, and rooms of other kinds without a name", async () => {
    const members = [{ user_id: "alice" }, { user_id: "bob", role: "reader" }];
    for (const who of [api, alice]) {
      expect(refusal(await who.post("/rooms", { kind: "direct", members }))).toEqual([
        422,
        "members.1.role not_allowed",
      ]);
    }
    expect(refusal(await api.post("/rooms", {}))).toEqual([422, "name required"]);
  });
});

describe("a public room", () => {
  test("takes back who left with the role it had, and nobody who was removed", async () => {
    const members = [{ user_id: "alice", role: "reader" }, { user_id: "bob" }, { user_id: "olga", role: "owner" }];
    const { body: room } = await api.post("/rooms", { name: "Square", kind: "public", members });
    const at = `/rooms/${room.id}/members`;
    await alice.delete(`${at}/alice`);
    const back = await alice.put(`${at}/alice`, {});
    expect([back.status, back.body.role]).toEqual([201, "reader"]);
    expect(codeOf(await alice.post(`/rooms/${room.id}/messages`, { content: "hi" }))).toEqual([403, "read_only"]);
    await api.delete(`${at}/bob`);
    expect(codeOf(await bob.put(`${at}/bob`, {}))).toEqual([403, "removed"]);
    expect((await api.put(`${at}/bob`, {})).status).toBe(201);
  });

  test("says what joining gives", async () => {
    const { body: room } = await api.post("/rooms", { name: "News", kind: "public", join_role: "reader" });
    expect(room.join_role).toBe("reader");
    const joined = await bob.put(`/rooms/${room.id}/members/bob`, {});
    expect([joined.status, joined.body.role]).toEqual([201, "reader"]);
    expect((await api.patch(`/rooms/${room.id}`, { join_role: "member" })).body.join_role).toBe("member");
    expect((await alice.put(`/rooms/${room.id}/members/alice`, {})).body.role).toBe("member");
  });
});

describe("what the client does not let its users do", () => {
  const allow = (policy: object | null) => api.patch("/clients/me", { policy });
  afterEach(() => allow(null));

  test("is kept with the client, field by field", async () => {
    const all = { users_create_rooms: true, users_add_members: true, users_join_public_rooms: true };
    expect((await allow({ users_create_rooms: false })).body.policy).toEqual({ ...all, users_create_rooms: false });
    expect((await allow({ users_add_members: false, users_create_rooms: null })).body.policy).toEqual({
      ...all,
      users_add_members: false,
    });
    expect((await api.patch("/clients/me", { name: "Other" })).body.policy.users_add_members).toBe(false);
    expect((await api.get("/clients/me")).body.policy.users_add_members).toBe(false);
    expect((await allow(null)).body.policy).toEqual(all);
    expect(refusal(await allow({ users_join: true, users_add_members: 1 }))).toEqual([
      ...[422, "policy.users_add_members wrong_type", "policy.users_join unknown_field"],
    ]);
  });

  test("creating rooms is forbidden to them, and not to a client key", async () => {
    const once = { "idempotency-key": "made-before" };
    const { body: made } = await alice.post("/rooms", { name: "Mine" }, once);
    await allow({ users_create_rooms: false });
    expect(codeOf(await alice.post("/rooms", { name: "Mine" }))).toEqual([403, "forbidden"]);
    expect((await alice.post("/rooms", { name: "Mine" }, once)).body.id).toBe(made.id);
    expect((await api.post("/rooms", { name: "Ours", members: [{ user_id: "alice" }] })).status).toBe(201);
  });

  test("adding members is forbidden to them, also where a room is created", async () => {
    await api.put("/users/carl", {});
    const { body: room } = await alice.post("/rooms", { name: "Mine", members: [{ user_id: "carl" }] });
    await allow({ users_add_members: false });
    const at = `/rooms/${room.id}/members`;
    expect(codeOf(await alice.put(`${at}/bob`, {}))).toEqual([403, "forbidden"]);
    expect(codeOf(await alice.post("/rooms", { name: "B", members: [{ user_id: "bob" }] }))).toEqual([
      403,
      "forbidden",
    ]);
    expect((await alice.post("/rooms", { name: "B", members: [{ user_id: "alice" }] })).status).toBe(201);
    expect((await alice.put(`${at}/carl`, { role: "admin" })).status).toBe(200);
    expect((await api.put(`${at}/bob`, {})).status).toBe(201);
    expect(codeOf(await bob.put(`${at}/carl`, { role: "owner" }))).toEqual([403, "role_required"]);
  });

  test("joining public rooms is forbidden to them; who is in stays", async () => {
    const members = [{ user_id: "alice" }];
    const { body: room } = await api.post("/rooms", { name: "Square", kind: "public", members });
    const { body: hidden } = await api.post("/rooms", { name: "Hidden" });
    await allow({ users_join_public_rooms: false });
    expect(codeOf(await bob.put(`/rooms/${room.id}/members/bob`, {}))).toEqual([403, "forbidden"]);
    expect(codeOf(await bob.put(`/rooms/${hidden.id}/members/bob`, {}))).toEqual([404, "not_found"]);
    expect((await alice.put(`/rooms/${room.id}/members/alice`, { name: "Al" })).status).toBe(200);
    await allow({ users_join_public_rooms: true });
    expect((await bob.put(`/rooms/${room.id}/members/bob`, {})).status).toBe(201);
  });
});

test("no user is called . or .., which URLs take for something else", async () => {
  for (const user of [".", ".."]) {
    const named = await api.post("/rooms", { name: "R", members: [{ user_id: user }] });
    expect(refusal(named)).toEqual([422, "members.0.user_id invalid_format"]);
    const { body: room } = await api.post("/rooms", { name: "Kept" });
    const path = `/api/v1/rooms/${room.id}/members/${user.replaceAll(".", "%2e")}`;
    const removed = await raw(server.url, path, { method: "DELETE", headers: { authorization: `Bearer ${api.key}` } });
    expect(removed.status).toBe(404);
    expect((await api.get(`/rooms/${room.id}`)).status).toBe(200);
  }
  expect((await api.put("/users/...", {})).status).toBe(201);
});
