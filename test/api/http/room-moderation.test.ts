// Bans, mutes, and rooms that are for admins to post in, as callers see them.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, type Api, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let anna: Api;
let max: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  anna = api.as(await tokenOf(api, "anna"));
  max = api.as(await tokenOf(api, "max"));
});
afterAll(() => server[Symbol.asyncDispose]());

const LATER = new Date(Date.now() + 3_600_000).toISOString();
const codeOf = ({ status, body }: Answer) => [status, body?.code];
const roomOf = async (more: object = {}) => {
  const members = [{ user_id: "anna", role: "owner" }, { user_id: "max" }];
  return `/rooms/${(await api.post("/rooms", { name: "Team", kind: "public", members, ...more })).body.id}`;
};

test("a ban removes, is listed, keeps away, and ends when it is lifted", async () => {
  const at = await roomOf();
  const banned = await anna.post(`${at}/bans/max`, { until: LATER, reason: "spam" });
  const ban = { user_id: "max", until: LATER, reason: "spam", banned_by: { type: "user", id: "anna" } };
  expect([banned.status, banned.body]).toEqual([201, { ...ban, banned_at: banned.body.banned_at }]);
  expect((await anna.post(`${at}/bans/max`, { until: LATER, reason: "spam" })).body).toEqual(banned.body);
  expect((await anna.get(`${at}/bans`)).body).toEqual({ data: [banned.body], next_cursor: null });
  expect((await api.get(`${at}/members`)).body.data.map((one: { user_id: string }) => one.user_id)).toEqual(["anna"]);
  expect(codeOf(await max.get(`${at}/messages`))).toEqual([403, "not_a_member"]);
  expect(codeOf(await max.put(`${at}/members/max`, {}))).toEqual([403, "banned"]);
  expect(codeOf(await anna.put(`${at}/members/max`, {}))).toEqual([403, "banned"]);
  expect((await anna.delete(`${at}/bans/max`)).status).toBe(204);
  expect((await anna.delete(`${at}/bans/max`)).status).toBe(204);
  expect((await anna.get(`${at}/bans`)).body.data).toEqual([]);
  expect((await max.put(`${at}/members/max`, {})).status).toBe(201);
});

test("a ban needs a time that comes, a known role, and is not for members to see", async () => {
  const at = await roomOf();
  const past = await anna.post(`${at}/bans/max`, { until: "2020-01-01T00:00:00Z" });
  expect([past.status, past.body.errors]).toEqual([
    422,
    [{ path: "until", code: "too_small", message: "must be in the future" }],
  ]);
  expect(codeOf(await max.post(`${at}/bans/stan`))).toEqual([403, "role_required"]);
  expect(codeOf(await max.get(`${at}/bans`))).toEqual([403, "role_required"]);
  expect(codeOf(await anna.post(`${at}/bans/anna`))).toEqual([409, "last_owner"]);
});

test("a muted member reads and does not post", async () => {
  const at = await roomOf();
  const muted = await anna.patch(`${at}/members/max`, { muted_until: LATER });
  expect([muted.status, muted.body.muted_until, muted.body.role]).toEqual([200, LATER, "member"]);
  expect((await api.put(`${at}/members/max`, { role: "member", name: "Maxi" })).body.muted_until).toBe(LATER);
  const { data } = (await api.get(`${at}/members`)).body;
  expect(data.find((one: { user_id: string }) => one.user_id === "max")).toMatchObject({ muted_until: LATER });
  expect(codeOf(await max.post(`${at}/messages`, { content: "hi" }))).toEqual([403, "muted"]);
  expect(codeOf(await api.post(`${at}/messages`, { sender_id: "max", content: "hi" }))).toEqual([403, "muted"]);
  expect((await max.get(`${at}/messages`)).status).toBe(200);
  expect((await anna.patch(`${at}/members/max`, { muted_until: null })).body.muted_until).toBe(null);
  expect((await max.post(`${at}/messages`, { content: "hi" })).status).toBe(201);
});

test("a room for admins to post in, with a limit", async () => {
  const at = await roomOf({ posting: "admins", max_members: 2 });
  expect((await api.get(at)).body).toMatchObject({ posting: "admins", max_members: 2 });
  expect(codeOf(await max.post(`${at}/messages`, { content: "hi" }))).toEqual([403, "read_only"]);
  expect((await anna.post(`${at}/messages`, { content: "hi" })).status).toBe(201);
  expect(codeOf(await api.put(`${at}/members/stan`, {}))).toEqual([409, "room_full"]);
  const opened = await anna.patch(at, { posting: "everyone", max_members: null });
  expect(opened.body).toMatchObject({ posting: "everyone", max_members: null });
  expect((await api.put(`${at}/members/stan`, {})).status).toBe(201);
  expect((await max.post(`${at}/messages`, { content: "hi" })).status).toBe(201);
  const listed = (await api.get("/rooms?search=Team")).body.data.find((one: { id: string }) => at.endsWith(one.id));
  expect(listed).toMatchObject({ posting: "everyone", max_members: null });
});
