// Editing, deleting and restoring messages over HTTP.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let max: Api;
let una: Api;
let anna: Api;
let room: Body;
let message: Body;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  const as = async (user: string) => api.as(await tokenOf(api, user));
  [max, una, anna] = await Promise.all([as("max"), as("una"), as("anna")]);
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  const members = [{ user_id: "max" }, { user_id: "una" }, { user_id: "anna", role: "admin" }];
  room = (await api.post("/rooms", { name: "Talk", members })).body;
  const posted = await api.post(`/rooms/${room.id}/messages`, {
    sender_id: "max",
    content: "Helo",
    meta: { a: 1, b: 2 },
  });
  message = posted.body;
});

const path = () => `/rooms/${room.id}/messages/${message.id}`;
const refusal = async (asked: Promise<{ status: number; body: Body }>) => {
  const { status, body } = await asked;
  return [status, ...(body.errors?.map(({ path, code }: Body) => `${path} ${code}`).toSorted() ?? [body.code])];
};

describe("editing", () => {
  test("merges and says when; seq, sender and times of the posting stay", async () => {
    const edited = await max.patch(path(), { content: "Hello", meta: { a: null, c: 3 } });
    expect(edited.status).toBe(200);
    expect(edited.body).toEqual({
      ...message,
      content: "Hello",
      meta: { b: 2, c: 3 },
      edited_at: expect.stringMatching(/Z$/),
      edited_by: { type: "user", id: "max" },
    });
    expect(edited.headers.get("etag")).toBe('"3"');
    const read = await api.get(path());
    expect([read.body, read.headers.get("etag")]).toEqual([edited.body, '"3"']);
    const meta = await max.patch(path(), { meta: null });
    expect([meta.body.content, meta.body.meta]).toEqual(["Hello", {}]);
  });

  test("to what it is already writes nothing", async () => {
    const same = await max.patch(path(), { content: "Helo" });
    expect([same.status, same.body]).toEqual([200, message]);
    expect((await max.patch(path(), {})).body).toEqual(message);
    expect((await api.get(`/rooms/${room.id}`)).body.seq).toBe(2);
  });

  test("asks for the ETag that it was made from", async () => {
    await max.patch(path(), { content: "Hello" });
    expect(await refusal(max.call("PATCH", path(), { content: "Hi" }, { "if-match": '"2"' }))).toEqual([
      412,
      "precondition_failed",
    ]);
    expect((await max.call("PATCH", path(), { content: "Hi" }, { "if-match": '"3"' })).status).toBe(200);
  });

  test.each([
    ['"1", "999", "2"', 200],
    ['"x,y","2"', 200],
    ["*", 200],
    ['"1", "999"', 412],
    ['"02"', 412],
    ['W/"2"', 412],
    ['"2x"', 412],
    ['""', 412],
    ["2", 422],
    ['"2', 422],
    [",", 422],
  ])("takes %s in If-Match for the ETag 2 as %i", async (ifMatch, status) => {
    const answer = await max.call("PATCH", path(), { content: "Changed" }, { "if-match": ifMatch });
    expect([ifMatch, answer.status]).toEqual([ifMatch, status]);
  });

  test("keeps to the rules of content", async () => {
    expect(await refusal(max.patch(path(), { content: "" }))).toEqual([422, "content too_short"]);
    expect(await refusal(max.patch(path(), { content: null, type: "image" }))).toEqual([
      422,
      "content wrong_type",
      "type unknown_field",
    ]);
    const large = { meta: { big: "x".repeat(8_180) } };
    expect(await refusal(max.patch(path(), large))).toEqual([422, "meta too_long"]);
  });

  test("is its sender's and the client's, and the message says whose", async () => {
    for (const other of [una, anna])
      expect(await refusal(other.patch(path(), { content: "Ha" }))).toEqual([403, "role_required"]);
    const own = await max.patch(path(), { content: "Corrected" });
    expect(own.body.edited_by).toEqual({ type: "user", id: "max" });
    const { body: byClient } = await api.patch(path(), { content: "By the client" });
    const { body: client } = await api.get("/clients/me");
    expect([byClient.sender_id, byClient.edited_by]).toEqual(["max", { type: "key", id: client.key.id }]);
    const { body: list } = await max.get(`/rooms/${room.id}/messages`);
    expect([list.data[0], (await max.get(path())).body]).toEqual([byClient, byClient]);
    expect((await max.get("/users/max/rooms")).body.data[0].last_message).toEqual(byClient);
    await anna.delete(path());
    expect((await anna.post(`${path()}/restore`)).body).toEqual(byClient);
    await api.delete(`/rooms/${room.id}/members/max`);
    expect(await refusal(max.patch(path(), { content: "From outside" }))).toEqual([404, "not_found"]);
  });

  test("waits for an inactive room to open", async () => {
    await api.post(`/rooms/${room.id}/deactivate`);
    expect(await refusal(max.patch(path(), { content: "Hello" }))).toEqual([409, "room_inactive"]);
    expect(await refusal(max.delete(path()))).toEqual([409, "room_inactive"]);
    expect(await refusal(max.post(`${path()}/restore`))).toEqual([409, "room_inactive"]);
  });
});

describe("deleting and restoring", () => {
  test("hides the content and brings it back", async () => {
    await max.patch(path(), { content: "Hello" });
    const { body: before } = await api.get(path());
    for (let n = 0; n < 2; n += 1) expect((await max.delete(path())).status).toBe(204);
    const gone = await api.get(path());
    expect(gone.body).toEqual({ ...before, content: null, meta: {}, deleted_at: expect.stringMatching(/Z$/) });
    expect(gone.headers.get("etag")).toBe('"4"');
    expect((await api.get(`/rooms/${room.id}`)).body.message_count).toBe(0);
    expect(await refusal(max.patch(path(), { content: "Hi" }))).toEqual([409, "message_deleted"]);

    const back = await max.post(`${path()}/restore`);
    expect([back.status, back.body, back.headers.get("etag")]).toEqual([200, before, '"5"']);
    expect((await api.get(path())).body).toEqual(before);
    const again = await max.post(`${path()}/restore`);
    expect([again.status, again.body, again.headers.get("etag")]).toEqual([200, before, '"5"']);
  });

  test("a sender brings back what it deleted itself, an admin and the client what anybody did", async () => {
    const restored = (by: Api) => refusal(by.post(`${path()}/restore`));
    for (const other of [anna, api]) {
      await other.delete(path());
      // Deleted again by its sender, it is still deleted as it was.
      expect((await max.delete(path())).status).toBe(204);
      expect(await restored(max)).toEqual([403, "role_required"]);
      expect((await api.get(path())).body.content).toBeNull();
      expect((await other.post(`${path()}/restore`)).body).toMatchObject({ content: "Helo", deleted_at: null });
      await max.delete(path());
      expect((await other.post(`${path()}/restore`)).body).toMatchObject({ content: "Helo", deleted_at: null });
    }
    const { body } = await api.get(`/audit/events?message_id=${message.id}&type=MessageDeleted`);
    const by = body.data.map(({ data }: Body) => data.by);
    expect(by).toEqual(["moderator", "sender", "backend", "sender"]);
  });

  test("restoring twice under one key gives the first answer, whatever came after", async () => {
    await max.delete(path());
    const send = () => max.post(`${path()}/restore`, undefined, { "idempotency-key": "restore-once" });
    const first = await send();
    await max.patch(path(), { content: "Changed since" });
    await max.delete(path());
    const later = await send();
    expect([later.status, later.body]).toEqual([200, first.body]);
    expect(later.headers.get("idempotent-replayed")).toBe("true");
    expect((await api.get(path())).body.content).toBeNull();
  });

  test("asks for the ETag too", async () => {
    expect(await refusal(max.call("DELETE", path(), undefined, { "if-match": '"9"' }))).toEqual([
      412,
      "precondition_failed",
    ]);
    expect((await max.call("DELETE", path(), undefined, { "if-match": '"2"' })).status).toBe(204);
  });
});

test("what is no message of the room is not found", async () => {
  const { body: other } = await api.post("/rooms", { name: "Other", members: [{ user_id: "max" }] });
  const { body: theirs } = await api.post(`/rooms/${other.id}/messages`, { sender_id: "max", content: "There" });
  for (const id of [theirs.id, `${message.id.slice(0, -1)}1`, "msg_x", "nonsense", `${message.id.slice(0, -2)}zz`]) {
    const one = `/rooms/${room.id}/messages/${id}`;
    for (const asked of [api.get(one), api.patch(one, { content: "x" }), api.delete(one), api.post(`${one}/restore`)]) {
      expect(await refusal(asked)).toEqual([404, "not_found"]);
    }
  }
});
