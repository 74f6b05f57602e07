// The audit over HTTP: every event of a client, its secrets closed, its people's fields open until they are erased.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId } from "../../../src/contract/ids.ts";
import { type Api, type Body, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api & { readonly id: string; readonly secret: string };
let other: Api & { readonly id: string };
let room: Body;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url, "Audited");
  other = await newClient(server.url, "Other");
  const config = { host: "127.0.0.1", port: 25, username: "me", password: "hidden-password" };
  await api.put("/email-providers/main", { type: "smtp", config, from_email: "me@example.com" });
  const members = [{ user_id: "ann", name: "Ann" }, { user_id: "ben" }];
  room = (await api.post("/rooms", { name: "Team", meta: { camelCase: { sendAt: 1 } }, members })).body;
  const ann = api.as(await tokenOf(api, "ann"));
  const { body: message } = await ann.post(`/rooms/${room.id}/messages`, { content: "taken back", meta: { aB: 1 } });
  const { headers } = await ann.delete(`/rooms/${room.id}/messages/${message.id}`);
  // What somebody else wrote last, for all reads of these tests.
  expect((await api.get("/audit/events", { "read-after": headers.get("position") ?? "" })).status).toBe(200);
});
afterAll(() => server[Symbol.asyncDispose]());

const stream = (name: string, query = "", by: Api = api) =>
  by.get(`/audit/streams/${encodeURIComponent(name)}/events${query}`);
const events = async (query = "", by: Api = api): Promise<Body[]> => {
  const { status, body } = await by.get(`/audit/events${query}`);
  expect(status, JSON.stringify(body)).toBe(200);
  return body.data;
};
const types = (all: Body[]) => all.map((event) => event.type);

describe("a stream", () => {
  test("shows its events, oldest first, with who did what; deleted content too", async () => {
    const { status, body } = await stream(`room-${room.id}`);
    expect(status).toBe(200);
    expect(types(body.data)).toEqual(["RoomCreated", "MessagePosted", "MessageDeleted"]);
    const [made, posted] = body.data;
    expect(made).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      type: "RoomCreated",
      stream: `room-${room.id}`,
      revision: 0,
      position: expect.stringMatching(/^[\w-]{22}$/),
      at: room.created_at,
      actor: { type: "key", id: expect.stringMatching(/^key_/) },
      correlation_id: expect.any(String),
      causation_id: expect.any(String),
      data: {
        name: "Team",
        description: null,
        join_role: "member",
        max_members: null,
        posting: "everyone",
        history: "all",
        kind: "private",
        meta: { camelCase: { sendAt: 1 } },
        external_id: null,
        members: [
          { subject: expect.stringMatching(/^sub_/), user: "ann", role: "member", name: "Ann", meta: {} },
          { subject: expect.stringMatching(/^sub_/), user: "ben", role: "member", name: null, meta: {} },
        ],
      },
    });
    expect(posted.actor).toEqual({ type: "user", id: "ann" });
    expect(posted.data).toMatchObject({ user: "ann", sender_name: "Ann", content: "taken back", meta: { aB: 1 } });
  });

  test("`client` is the tenant's own; its secrets are closed", async () => {
    const { body } = await stream("client");
    expect(types(body.data)).toEqual(["ClientRegistered", "ProviderSet"]);
    expect(body.data[0]).toMatchObject({
      stream: `client-${api.id}`,
      data: { webhook_secret: { sealed: true }, key: { hash: { sealed: true } } },
    });
    expect(body.data[1].data).toMatchObject({ name: "main", config: { sealed: true }, from_email: "me@example.com" });
    expect(JSON.stringify(body)).not.toContain(api.secret);
    expect(JSON.stringify(body)).not.toContain("hidden-password");
    expect((await stream(`client-${api.id}`)).body).toEqual(body);
  });

  test("comes in pages", async () => {
    const first = await stream(`room-${room.id}`, "?limit=2");
    expect(types(first.body.data)).toEqual(["RoomCreated", "MessagePosted"]);
    const second = await stream(`room-${room.id}`, `?limit=2&cursor=${first.body.next_cursor}`);
    expect(types(second.body.data)).toEqual(["MessageDeleted"]);
    expect(second.body.next_cursor).toBeNull();
  });

  test("of another client, of the system, or of nobody is not found", async () => {
    const [first] = await server.services.store.readAll({ after: "start", limit: 1 });
    const names = [`client-${other.id}`, `room-${room.id}zz`, first?.stream ?? "", "nonsense", "room-%2F", "client-"];
    for (const name of names) {
      const { status, body } = await stream(name);
      expect({ name, status, code: body.code }).toEqual({ name, status: 404, code: "not_found" });
    }
    expect((await stream(`room-${room.id}`, "", other)).status).toBe(404);
  });
});

describe("the client's events", () => {
  test("are all there, in order, and nobody else's", async () => {
    const all = await events();
    const positions = all.map((event) => server.services.positions.open(api.id as ClientId, event.position));
    expect(positions).toEqual(positions.toSorted());
    expect(types(all)).toEqual(
      expect.arrayContaining(["ClientRegistered", "ProviderSet", "RoomCreated", "TokenIssued"]),
    );
    expect(types(await events("", other))).toEqual(["ClientRegistered"]);
    const paged: string[] = [];
    for (let cursor = ""; ; ) {
      const { body } = await api.get(`/audit/events?limit=3${cursor}`);
      paged.push(...body.data.map((event: Body) => event.id));
      if (body.next_cursor === null) break;
      cursor = `&cursor=${body.next_cursor}`;
    }
    expect(paged).toEqual(all.map((event) => event.id));
  });

  test("are found by type, actor, time and place", async () => {
    const all = await events();
    expect(types(await events("?type=MessagePosted,RoomCreated"))).toEqual(["RoomCreated", "MessagePosted"]);
    expect(types(await events("?actor=ann"))).toEqual(["MessagePosted", "MessageDeleted"]);
    const keyId = all.find((event) => event.type === "RoomCreated")?.actor.id;
    expect((await events(`?actor=${keyId},ann`)).length).toBeGreaterThan(3);
    expect(await events("?actor=nobody")).toEqual([]);
    expect(await events(`?after=${all.at(-2)?.position}`)).toEqual(all.slice(-1));
    expect(await events("?from=2000-01-01&to=2001-01-01")).toEqual([]);
    expect(await events(`?from=${encodeURIComponent(all[0]?.at)}`)).toEqual(all);
  });

  test("are found by what they are about, and by the request that led to them", async () => {
    const sent = await api.call(
      "POST",
      "/notifications",
      { type: "websocket", user_ids: ["ben"], content: "hi" },
      { "x-request-id": "audit-1" },
    );
    const of = (query: string, wanted: string) =>
      until(
        () => events(query),
        (found) => types(found).includes(wanted),
      );
    const ofNotification = await of(`?notification_id=${sent.body.id}`, "DeliveryRequested");
    expect(types(ofNotification).slice(0, 2)).toEqual(["NotificationRequested", "NotificationReleased"]);
    const ofRequest = await of("?correlation_id=audit-1", "DeliveryRequested");
    expect(ofRequest.map((event) => event.correlation_id)).toEqual(ofRequest.map(() => "audit-1"));
    expect(types(await events(`?room_id=${room.id}`))).toEqual(["RoomCreated", "MessagePosted", "MessageDeleted"]);
    expect(types(await events("?user_id=ann"))).toEqual(
      expect.arrayContaining(["UserRegistered", "TokenIssued", "MessagePosted", "MessageDeleted"]),
    );
    expect(types(await events(`?room_id=${room.id}&user_id=ann&type=MessageDeleted`))).toEqual(["MessageDeleted"]);
    for (const query of [`?room_id=${room.id}`, "?user_id=ann", `?notification_id=${sent.body.id}`]) {
      expect(await events(query, other)).toEqual([]);
    }
  });

  test("are found by the message that they posted or changed, and those of its neighbour are not", async () => {
    const { body: of } = await api.post("/rooms", { name: "Changes", members: [{ user_id: "cas" }] });
    const post = async (content: string) =>
      (await api.post(`/rooms/${of.id}/messages`, { sender_id: "cas", content })).body;
    const message = await post("first");
    const neighbour = await post("second");
    const path = `/rooms/${of.id}/messages/${message.id}`;
    await api.patch(path, { content: "changed" });
    await api.delete(path);
    expect((await api.post(`${path}/restore`)).status).toBe(200);
    const changes = ["MessagePosted", "MessageEdited", "MessageDeleted", "MessageRestored"];
    const found = await events(`?message_id=${message.id}`);
    expect(types(found)).toEqual(changes);
    expect(found.map((event) => event.data.id)).toEqual(changes.map(() => message.id));
    expect(types(await events(`?message_id=${neighbour.id}`))).toEqual(["MessagePosted"]);
    expect(types(await events(`?message_id=${message.id}&type=MessageDeleted&room_id=${of.id}`))).toEqual([
      "MessageDeleted",
    ]);
    expect(await events(`?message_id=${message.id}&room_id=${room.id}`)).toEqual([]);
    expect(await events(`?message_id=${message.id}`, other)).toEqual([]);
  });

  test("of a plain room id are not found, with a hint at the stream", async () => {
    const { status, body } = await stream(room.id);
    expect([status, body.detail]).toEqual([404, `did you mean the stream room-${room.id}?`]);
  });

  test("wrong questions are refused", async () => {
    const tail = await server.services.store.tail();
    const own = String((await events()).at(-1)?.position);
    for (const after of ["nonsense", tail, own.slice(0, -1), own.toLowerCase()]) {
      const { status, body } = await api.get(`/audit/events?after=${after}`);
      expect({ status, code: body.code }).toEqual({ status: 400, code: "invalid_position" });
    }
    const { status, body } = await api.get("/audit/events?type=Nothing");
    expect(status).toBe(422);
    expect(body.errors[0]).toMatchObject({ path: expect.stringMatching(/^\?type/), code: "not_allowed" });
    const user = api.as(await tokenOf(api, "ann"));
    expect((await user.get("/audit/events")).body.code).toBe("forbidden");
    expect((await stream(`room-${room.id}`, "", user)).body.code).toBe("forbidden");
  });

  test("what was erased reads as erased", async () => {
    const subject = await server.services.keyring.subjectOfUser(api.id as `cli_${string}`, "ann");
    await server.storage.keyring.destroy(subject);
    const { body } = await stream(`room-${room.id}`);
    expect(body.data[0].data.members).toMatchObject([
      { user: { erased: true }, name: { erased: true } },
      { user: "ben" },
    ]);
    expect(body.data[1].data).toMatchObject({ content: { erased: true }, sender_name: { erased: true } });
    expect(JSON.stringify(body)).not.toContain("taken back");
  });
});
