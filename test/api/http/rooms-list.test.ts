// Lists of rooms over HTTP, and who sees which room.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let alice: Api;
const ids: Record<string, string> = {};
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  alice = api.as(await tokenOf(api, "alice"));
  for (const [name, body] of Object.entries({
    Alpha: { members: [{ user_id: "alice" }, { user_id: "bob" }] },
    beta: { kind: "public", description: "About ALPHA and more", external_id: "b" },
    Gamma: { external_id: "g", members: [{ user_id: "bob" }] },
    delta: { kind: "public", members: [{ user_id: "alice" }] },
  })) {
    ids[name] = (await api.post("/rooms", { name, ...body })).body.id;
  }
  await api.post(`/rooms/${ids.Gamma}/deactivate`);
});
afterAll(() => server[Symbol.asyncDispose]());

const names = async (query: string, by: Api = api): Promise<string[]> => {
  const { status, body } = await by.get(`/rooms${query}`);
  expect(status, JSON.stringify(body)).toBe(200);
  return body.data.map((room: Body) => room.name);
};

describe("a list of rooms", () => {
  test("is sorted newest first, oldest first, or by name in any case", async () => {
    expect(await names("")).toEqual(["delta", "Gamma", "beta", "Alpha"]);
    expect(await names("?sort=created_at")).toEqual(["Alpha", "beta", "Gamma", "delta"]);
    expect(await names("?sort=name")).toEqual(["Alpha", "beta", "delta", "Gamma"]);
  });

  test("is filtered", async () => {
    expect(await names("?search=alpha")).toEqual(["beta", "Alpha"]);
    expect(await names("?member=bob")).toEqual(["Gamma", "Alpha"]);
    expect(await names("?member=alice,bob,nobody&sort=name")).toEqual(["Alpha", "delta", "Gamma"]);
    expect(await names("?active=false")).toEqual(["Gamma"]);
    expect(await names("?external_id=b,g")).toEqual(["Gamma", "beta"]);
    expect(await names("?external_id=b,g&active=true")).toEqual(["beta"]);
    expect(await names("?to=2020-01-01")).toEqual([]);
    expect(await names("?from=2020-01-01&member=nobody")).toEqual([]);
  });

  test("comes in pages that keep their filters", async () => {
    for (const sort of ["-created_at", "created_at", "name"]) {
      const whole = await names(`?sort=${sort}`);
      const paged: string[] = [];
      for (let query = `?sort=${sort}&limit=1`; ; ) {
        const { body } = await api.get(`/rooms${query}`);
        paged.push(...body.data.map((room: Body) => room.name));
        if (body.next_cursor === null) break;
        query = `?limit=1&cursor=${encodeURIComponent(body.next_cursor)}`;
      }
      expect(paged).toEqual(whole);
    }
  });

  test("refuses what it does not know", async () => {
    const { status, body } = await api.get("/rooms?sort=size&active=perhaps&limit=0&serach=x");
    expect(status).toBe(422);
    expect(body.errors.map((fault: Body) => fault.path).toSorted()).toEqual(["?active", "?limit", "?serach", "?sort"]);
  });

  test("shows a user its own rooms and public ones", async () => {
    expect(await names("", alice)).toEqual(["delta", "beta", "Alpha"]);
    expect(await names("?member=alice", alice)).toEqual(["delta", "Alpha"]);
    for (const others of ["bob", "alice,bob"]) {
      expect((await alice.get(`/rooms?member=${others}`)).body.code).toBe("forbidden");
    }
  });
});

describe("a user", () => {
  test("reads a public room's object, and nothing in it without membership", async () => {
    expect((await alice.get(`/rooms/${ids.beta}`)).body.name).toBe("beta");
    for (const part of ["messages", "members", "reads"]) {
      const answer = await alice.get(`/rooms/${ids.beta}/${part}`);
      expect([answer.status, answer.body.code]).toEqual([403, "not_a_member"]);
    }
  });

  test("finds a private room of others as little as one that does not exist", async () => {
    for (const path of ["", "/messages", "/members", "/reads"]) {
      const [hidden, unknown] = await Promise.all([
        alice.get(`/rooms/${ids.Gamma}${path}`),
        alice.get(`/rooms/room_00000000000000000000000000${path}`),
      ]);
      expect(hidden.status).toBe(404);
      expect({ ...hidden.body, request_id: "" }).toEqual({ ...unknown.body, request_id: "" });
    }
  });

  test("loses a room at once when it is removed", async () => {
    const { body: room } = await api.post("/rooms", { name: "Brief", members: [{ user_id: "alice" }] });
    expect((await alice.get(`/rooms/${room.id}/messages`)).status).toBe(200);
    await api.delete(`/rooms/${room.id}/members/alice`);
    expect((await alice.get(`/rooms/${room.id}/messages`)).status).toBe(404);
  });
});

test("a room is also found by its external id", async () => {
  expect((await api.get("/rooms/ext:g")).body.id).toBe(ids.Gamma);
  expect((await api.patch("/rooms/ext:g", { description: "Third" })).body.id).toBe(ids.Gamma);
  expect((await api.get("/rooms/ext:none")).body.code).toBe("not_found");
  const odd = "a/b ü%";
  const { body: room } = await api.post("/rooms", { name: "Odd", external_id: odd });
  expect((await api.get(`/rooms/ext:${encodeURIComponent(odd)}`)).body.id).toBe(room.id);
});

test("another client's rooms are as unknown ones", async () => {
  const other = await newClient(server.url, "Other");
  for (const name of [ids.beta, "ext:b"]) expect((await other.get(`/rooms/${name}`)).body.code).toBe("not_found");
  expect((await other.post(`/rooms/${ids.beta}/messages`, { sender_id: "alice", content: "Hi" })).status).toBe(404);
  expect((await other.get("/rooms")).body.data).toEqual([]);
});
