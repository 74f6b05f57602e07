// Members over HTTP: joining, being described, leaving.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let max: Api;
let olga: Api;
let anna: Api;
let stan: Api;
let room: Body;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  const as = async (user: string) => api.as(await tokenOf(api, user));
  [max, olga, anna, stan] = await Promise.all([as("max"), as("olga"), as("anna"), as("stan")]);
});
afterAll(() => server[Symbol.asyncDispose]());

const make = async (kind: string): Promise<Body> => {
  const members = [{ user_id: "olga", role: "owner" }, { user_id: "anna", role: "admin" }, { user_id: "max" }];
  return (await api.post("/rooms", { name: "Team", kind, members })).body;
};
beforeEach(async () => {
  room = await make("private");
});

const member = (user: string) => `/rooms/${room.id}/members/${user}`;
const listed = async (by: Api = api): Promise<Body[]> => (await by.get(`/rooms/${room.id}/members`)).body.data;
const refusal = async (asked: Promise<{ status: number; body: Body }>) => {
  const { status, body } = await asked;
  return [status, body.code];
};

describe("PUT", () => {
  test("adds, then replaces: what is left out is cleared, but for the role", async () => {
    const added = await api.put(member("nina"), { role: "admin", name: "Nina", meta: { a: 1 } });
    expect(added.status).toBe(201);
    expect(added.body).toEqual({
      user_id: "nina",
      name: "Nina",
      role: "admin",
      meta: { a: 1 },
      joined_at: expect.stringMatching(/Z$/),
      muted_until: null,
    });
    expect(added.headers.get("location")).toBe(`/api/v1/rooms/${room.id}/members/nina`);
    const replaced = await api.put(member("nina"), { meta: { b: 2 } });
    expect(replaced.status).toBe(200);
    expect(replaced.body).toEqual({ ...added.body, name: null, meta: { b: 2 } });
    expect((await listed())[0]).toEqual(replaced.body);
  });

  test("of what already holds writes nothing", async () => {
    await api.put(member("nina"), { name: "Nina", meta: { a: 1, b: 2 } });
    const before = (await api.get(`/rooms/${room.id}`)).body.seq;
    const again = await api.put(member("nina"), { name: "Nina", meta: { b: 2, a: 1 } });
    expect([again.status, again.body.name]).toEqual([200, "Nina"]);
    expect((await api.get(`/rooms/${room.id}`)).body.seq).toBe(before);
    await api.put(member("nina"), { name: "Nina", role: "reader", meta: { a: 1, b: 2 } });
    expect((await api.get(`/rooms/${room.id}`)).body.seq).toBe(before + 1);
  });

  test("shows the user's own name where it has none in the room, and makes it a user", async () => {
    await api.put("/users/paul", { name: "Paul" });
    expect((await api.put(member("paul"), {})).body.name).toBe("Paul");
    expect((await api.put(member("quentin"), {})).status).toBe(201);
    expect((await api.get("/users/quentin")).body.id).toBe("quentin");
  });

  test("names every fault", async () => {
    const { status, body } = await api.put(member("nina"), { role: "king", name: "", meta: [], nickname: "N" });
    expect(status).toBe(422);
    expect(body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted()).toEqual([
      "meta wrong_type",
      "name too_short",
      "nickname unknown_field",
      "role not_allowed",
    ]);
    expect(await refusal(api.put(member("no spaces"), {}))).toEqual([422, "validation_failed"]);
  });

  test("is an admin's for members and readers, an owner's for other roles", async () => {
    expect(await refusal(max.put(member("nina"), {}))).toEqual([403, "role_required"]);
    expect(await refusal(stan.put(member("stan"), {}))).toEqual([404, "not_found"]);
    expect((await anna.put(member("nina"), { role: "reader" })).status).toBe(201);
    expect(await refusal(anna.put(member("nina"), { role: "admin" }))).toEqual([403, "role_required"]);
    expect((await olga.put(member("nina"), { role: "admin" })).status).toBe(200);
    expect((await max.put(member("max"), { name: "Maximilian" })).body).toMatchObject({
      name: "Maximilian",
      role: "member",
    });
    expect(await refusal(max.put(member("max"), { role: "owner" }))).toEqual([403, "role_required"]);
  });

  test("lets a user join a public room as member, and leave", async () => {
    room = await make("public");
    expect(await refusal(stan.put(member("stan"), { role: "owner" }))).toEqual([403, "role_required"]);
    const joined = await stan.put(member("stan"), {});
    expect([joined.status, joined.body.role]).toEqual([201, "member"]);
    expect((await stan.get(`/rooms/${room.id}/messages`)).status).toBe(200);
    for (let n = 0; n < 2; n += 1) expect((await stan.delete(member("stan"))).status).toBe(204);
    expect(await refusal(stan.get(`/rooms/${room.id}/messages`))).toEqual([403, "not_a_member"]);
  });

  test("settles at last when many replace the same member at once", async () => {
    await api.put(member("nina"), {});
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) => api.put(member("nina"), { name: n % 2 === 0 ? "Even" : "Odd" })),
    );
    expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([200]));
    answers.forEach((answer, n) => {
      expect(answer.body.name).toBe(n % 2 === 0 ? "Even" : "Odd");
    });
    const last = await api.put(member("nina"), { name: "Last" });
    expect((await listed()).find((one) => one.user_id === "nina")).toEqual(last.body);
  });
});

describe("DELETE", () => {
  test("removes; saying it twice is as once", async () => {
    for (let n = 0; n < 2; n += 1) expect((await api.delete(member("max"))).status).toBe(204);
    expect((await listed()).map((one) => one.user_id)).toEqual(["anna", "olga"]);
    expect(await refusal(max.get(`/rooms/${room.id}`))).toEqual([404, "not_found"]);
  });

  test("is an admin's for others, an owner's for admins, and everyone's for oneself", async () => {
    expect(await refusal(max.delete(member("anna")))).toEqual([403, "role_required"]);
    expect(await refusal(anna.delete(member("olga")))).toEqual([403, "role_required"]);
    expect((await anna.delete(member("max"))).status).toBe(204);
    expect((await anna.delete(member("anna"))).status).toBe(204);
  });

  test("never leaves others without an owner", async () => {
    expect(await refusal(olga.delete(member("olga")))).toEqual([409, "last_owner"]);
    expect(await refusal(api.put(member("olga"), { role: "admin" }))).toEqual([409, "last_owner"]);
  });
});

test("members are listed newest first, in pages", async () => {
  await api.put(member("nina"), {});
  // Who wrote reads the own write; once that is seen, so does everyone else on this server.
  const all = await listed();
  expect(await listed(max)).toEqual(all);
  expect(all.map((one) => [one.user_id, one.role])).toEqual([
    ["nina", "member"],
    ["max", "member"],
    ["anna", "admin"],
    ["olga", "owner"],
  ]);
  const { body: page } = await api.get(`/rooms/${room.id}/members?limit=3`);
  const { body: rest } = await api.get(`/rooms/${room.id}/members?cursor=${encodeURIComponent(page.next_cursor)}`);
  expect([page.data.length, rest.data.map((one: Body) => one.user_id), rest.next_cursor]).toEqual([3, ["olga"], null]);
});
