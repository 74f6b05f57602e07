// Posting, listing and reading messages over HTTP.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let max: Api;
let rita: Api;
let room: Body;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  max = api.as(await tokenOf(api, "max"));
  rita = api.as(await tokenOf(api, "rita"));
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(async () => {
  const members = [{ user_id: "max", name: "Maxi" }, { user_id: "rita", role: "reader" }, { user_id: "una" }];
  room = (await api.post("/rooms", { name: "Talk", members })).body;
});

const messages = () => `/rooms/${room.id}/messages`;
const post = (body: Body, by: Api = api, headers: Record<string, string> = {}) => by.post(messages(), body, headers);
const refusal = async (asked: Promise<{ status: number; body: Body }>) => {
  const { status, body } = await asked;
  return [status, ...(body.errors?.map(({ path, code }: Body) => `${path} ${code}`).toSorted() ?? [body.code])];
};

describe("posting", () => {
  test("answers with the message and its seq", async () => {
    const posted = await post({ sender_id: "max", content: "Hello 👋", meta: { a: [1] } });
    expect(posted.status).toBe(201);
    expect(posted.body).toEqual({
      id: expect.stringMatching(/^msg_[0-9a-z]+$/),
      room_id: room.id,
      seq: 2,
      sender_id: "max",
      sender_name: "Maxi",
      type: "text",
      content: "Hello 👋",
      meta: { a: [1] },
      reply_to: null,
      ...{ thread_of: null, mentions: [], thread: null, reactions: [] },
      created_at: expect.stringMatching(/Z$/),
      edited_at: null,
      edited_by: null,
      deleted_at: null,
      state: "complete",
    });
    expect(posted.headers.get("location")).toBe(`/api/v1${messages()}/${posted.body.id}`);
    expect(posted.headers.get("etag")).toBe('"2"');
    const read = await api.get(`${messages()}/${posted.body.id}`);
    expect(read.body).toEqual(posted.body);
    expect(read.headers.get("etag")).toBe('"2"');
  });

  test("shows the name given, else the member's, else the user's, else none", async () => {
    expect((await post({ sender_id: "max", content: "a", sender_name: "M." })).body.sender_name).toBe("M.");
    expect((await post({ sender_id: "una", content: "b" })).body.sender_name).toBeNull();
    await api.put("/users/una", { name: "Una" });
    expect((await post({ sender_id: "una", content: "c" })).body.sender_name).toBe("Una");
  });

  test("needs a sender from a client key; a user is its own", async () => {
    expect(await refusal(post({ content: "Hi" }))).toEqual([422, "sender_id required"]);
    expect((await post({ content: "Hi" }, max)).body.sender_id).toBe("max");
    expect((await post({ content: "Hi", sender_id: "max" }, max)).status).toBe(201);
    expect(await refusal(post({ content: "Hi", sender_id: "una" }, max))).toEqual([403, "sender_mismatch"]);
  });

  test("names every fault, also those that depend on who asks", async () => {
    expect(await refusal(post({ type: "Bad Type", meta: 1, text: "x" }))).toEqual([
      422,
      "content required",
      "meta wrong_type",
      "sender_id required",
      "text unknown_field",
      "type invalid_format",
    ]);
    expect(await refusal(post({ content: "x".repeat(10_001), sender_id: "max" }))).toEqual([422, "content too_long"]);
    expect((await post({ content: "👋".repeat(10_000), sender_id: "max" })).status).toBe(201);
  });

  test("for the system is the client's alone, and needs no membership", async () => {
    const posted = await post({ sender_id: "robot", content: "Maintenance at 5", type: "system" });
    expect([posted.status, posted.body.type]).toEqual([201, "system"]);
    expect((await api.get("/users/robot")).body.id).toBe("robot");
    expect(await refusal(post({ content: "Ha", type: "system" }, max))).toEqual([422, "type not_allowed"]);
  });

  test("without text is for what shows something else", async () => {
    for (const type of ["text", "system"]) {
      expect(await refusal(post({ sender_id: "max", content: "", type, meta: { a: 1 } }))).toEqual([
        422,
        "content too_short",
      ]);
    }
    expect(await refusal(post({ content: "", meta: [] }))).toEqual([
      422,
      "content too_short",
      "meta wrong_type",
      "sender_id required",
    ]);
    for (const type of ["image", "file", "poll.v2"]) {
      expect(await refusal(post({ sender_id: "max", content: "", type }))).toEqual([422, "content too_short"]);
      expect((await post({ sender_id: "max", content: "", type, meta: { url: "u" } })).status).toBe(201);
    }
  });

  test("is refused to strangers, readers and in an inactive room", async () => {
    expect(await refusal(post({ sender_id: "stan", content: "Hi" }))).toEqual([403, "not_a_member"]);
    expect(await refusal(post({ content: "Hi" }, rita))).toEqual([403, "read_only"]);
    await api.post(`/rooms/${room.id}/deactivate`);
    expect(await refusal(post({ sender_id: "max", content: "Hi" }))).toEqual([409, "room_inactive"]);
  });

  test("replies to messages of the room only", async () => {
    const { body: first } = await post({ sender_id: "max", content: "Question" });
    expect((await post({ sender_id: "una", content: "Answer", reply_to: first.id })).body.reply_to).toBe(first.id);
    for (const reply_to of ["msg_nothing", `${first.id.slice(0, -1)}1`]) {
      expect(await refusal(post({ sender_id: "una", content: "Answer", reply_to }))).toEqual([
        422,
        "reply_to not_allowed",
      ]);
    }
  });

  test("twice under one key happens once, and gives the first answer later too", async () => {
    const headers = { "idempotency-key": "say-once" };
    const send = () => post({ sender_id: "max", content: "Once" }, api, headers);
    const [one, other] = await Promise.all([send(), send()]);
    expect(one.body).toEqual(other.body);
    await api.patch(`${messages()}/${one.body.id}`, { content: "Edited" });
    const later = await send();
    expect([later.status, later.body]).toEqual([201, one.body]);
    expect(later.headers.get("idempotent-replayed")).toBe("true");
    expect((await api.get(messages())).body.data).toHaveLength(1);
    expect(await refusal(post({ sender_id: "max", content: "Twice" }, api, headers))).toEqual([
      422,
      "idempotency_key_reused",
    ]);
  });

  test("many at once gives each a seq of its own, without gaps", async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => post({ sender_id: "max", content: `message ${n}` })),
    );
    const seqs = answers.map((answer) => answer.body.seq).toSorted((a, b) => a - b);
    expect(seqs).toEqual(Array.from({ length: 100 }, (_, n) => n + 2));
  });
});

describe("listing", () => {
  const seqs = async (query: string, by: Api = api): Promise<number[]> => {
    const { status, body } = await by.get(`${messages()}${query}`);
    expect(status, JSON.stringify(body)).toBe(200);
    return body.data.map((message: Body) => message.seq);
  };
  beforeEach(async () => {
    await post({ sender_id: "max", content: "2" });
    await post({ sender_id: "una", content: "3", type: "image" });
    await post({ sender_id: "max", content: "4", type: "file" });
    await post({ sender_id: "robot", content: "5", type: "system" });
  });

  test("goes upwards when only after_seq is given, else downwards, or as asked", async () => {
    expect(await seqs("")).toEqual([5, 4, 3, 2]);
    expect(await seqs("?after_seq=2")).toEqual([3, 4, 5]);
    expect(await seqs("?before_seq=4")).toEqual([3, 2]);
    expect(await seqs("?after_seq=2&before_seq=5")).toEqual([4, 3]);
    expect(await seqs("?after_seq=2&order=desc")).toEqual([5, 4, 3]);
    expect(await seqs("?order=asc", rita)).toEqual([2, 3, 4, 5]);
  });

  test("filters by several senders and types", async () => {
    expect(await seqs("?sender_id=max")).toEqual([4, 2]);
    expect(await seqs("?sender_id=una,robot,nobody")).toEqual([5, 3]);
    expect(await seqs("?type=image,file&sender_id=max")).toEqual([4]);
  });

  test("comes in pages both ways", async () => {
    for (const query of ["?after_seq=1", "?order=desc"]) {
      const whole = await seqs(query);
      const paged: number[] = [];
      for (let next = `${query}&limit=3`; ; ) {
        const { body } = await api.get(`${messages()}${next}`);
        paged.push(...body.data.map((message: Body) => message.seq));
        if (body.next_cursor === null) break;
        next = `?limit=3&cursor=${encodeURIComponent(body.next_cursor)}`;
      }
      expect(paged).toEqual(whole);
    }
  });

  test("leaves deleted ones out unless asked for them, and never shows their content", async () => {
    const { body: secret } = await post({ sender_id: "max", content: "taken-back", meta: { note: "taken-back" } });
    await api.delete(`${messages()}/${secret.id}`);
    expect(await seqs("")).toEqual([5, 4, 3, 2]);
    const { body } = await api.get(`${messages()}?include_deleted=true&limit=1`);
    expect(body.data[0]).toEqual({
      ...{ ...secret, content: null, meta: {} },
      deleted_at: expect.stringMatching(/Z$/),
    });
  });

  test("refuses what it does not know", async () => {
    const asked = api.get(`${messages()}?after_seq=-1&order=up&type=A&before=3`);
    expect(await refusal(asked)).toEqual([
      422,
      "?after_seq too_small",
      "?before unknown_field",
      "?order not_allowed",
      "?type invalid_format",
    ]);
  });
});
