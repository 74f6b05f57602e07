// Batches of notifications: each item answered as by itself, limits by item, repetitions, and what a kill leaves behind.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, type Api, apiOf, type Body, newClient } from "../../e2e/support/api.ts";
import { folderWithCluster, spawnServer, startServer } from "../../e2e/support/server.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { sized } from "../../support/size.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer({ env: { RATE_LIMIT_NOTIFICATIONS: "12/1h" } });
});
afterAll(() => server[Symbol.asyncDispose]());

const begin = async () => {
  api = await newClient(server.url);
};
/** Of the last batch. */
let position: string | null = null;
const batch = async (notifications: unknown, headers?: Record<string, string>) => {
  const answer = await api.post("/notifications/batch", { notifications }, headers);
  position = answer.headers.get("position") ?? position;
  return answer;
};
const to = (user: string, more: object = {}) => ({ type: "websocket", user_ids: [user], content: "Hello", ...more });
const statuses = ({ body }: Answer) => body.data.map((one: Body) => [one.index, one.status, one.body.code ?? null]);
const count = async () =>
  (await api.get("/notifications?limit=100", { "read-after": position ?? "" })).body.data.length;
const faultsOf = (body: Body) => body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted();

describe("a batch", () => {
  test("answers each notification by its index, with what a request of its own would get", async () => {
    await begin();
    const wrong = { type: "websocket", user_ids: ["a\0b"], content: "", subjet: "x" };
    const past = to("ann", { send_at: "2999-01-01T00:00:00Z" });
    const items = [to("ann"), wrong, "text", null, past, { ...to("bob"), recipients: ["cat"] }, to("dan")];
    const answer = await batch(items);
    expect(answer.status).toBe(200);
    expect(statuses(answer)).toEqual([
      [0, 202, null],
      [1, 422, "validation_failed"],
      [2, 422, "validation_failed"],
      [3, 422, "validation_failed"],
      [4, 422, "validation_failed"],
      [5, 422, "ambiguous_recipients"],
      [6, 202, null],
    ]);
    const [first, second, , , fourth] = answer.body.data.map((one: Body) => one.body);
    expect(first).toMatchObject({ type: "websocket", status: "pending", deliveries: [{ recipient: "ann" }] });
    expect(faultsOf(second)).toEqual(["content too_short", "subjet unknown_field", "user_ids.0 invalid_format"]);
    expect(faultsOf(fourth)).toEqual(["send_at too_large"]);
    const alone = await api.post("/notifications", past);
    const plain = ({ request_id: _id, ...body }: Body) => body;
    expect(plain(fourth)).toEqual(plain(alone.body));
    expect(answer.headers.get("position")).toBeTruthy();
    expect(await count()).toBe(2);
    expect((await api.get(`/notifications/${first.id}`)).body.id).toBe(first.id);
  });

  test("has 1 to 1,000 notifications, in at most 10 MiB", async () => {
    await begin();
    for (const [items, fault] of [
      [[], "notifications too_short"],
      [Array.from({ length: 1_001 }, () => ({})), "notifications too_long"],
      [{}, "notifications wrong_type"],
    ] as const) {
      const answer = await batch(items);
      expect([answer.status, faultsOf(answer.body)]).toEqual([422, [fault]]);
    }
    const large = to("ann", { content: "x".repeat(250_000) });
    const many = await batch(Array.from({ length: 12 }, () => large));
    expect(statuses(many).map(([, status]: number[]) => status)).toEqual(Array.from({ length: 12 }, () => 202));
    const over = await batch(Array.from({ length: 43 }, () => large));
    expect([over.status, over.body.code, over.body.max_bytes]).toEqual([413, "body_too_large", 10 * 1_024 * 1_024]);
  });

  test("counts its recipients item by item", async () => {
    await begin();
    const five = { type: "websocket", user_ids: ["a", "b", "c", "d", "e"], content: "Hello" };
    const answer = await batch([five, five, five]);
    const refused = answer.body.data.filter((one: Body) => one.status === 429);
    expect(refused.map((one: Body) => one.body.code)).toEqual(["rate_limited"]);
    expect(answer.headers.get("ratelimit")).toMatch(/"notifications";r=0;t=\d+$/);
    expect(await count()).toBe(2);
  });
});

const COUNT = sized(300, 1_000);
/** By their places in each fifty. */
const FAULTY: Readonly<Record<number, object | string>> = {
  7: { type: "none" },
  13: "text",
  29: to("a", { content: "" }),
  31: to("a", { send_at: "2999-01-01T00:00:00Z" }),
};

describe("a batch that is sent again under its key", () => {
  const key = { "idempotency-key": "batch-1" };

  test("gives the same answers, and tries what was refused", async () => {
    await begin();
    const first = await batch([to("ann"), to("bob", { content: 5 }), to("cat")], key);
    expect(statuses(first).map(([, status]: number[]) => status)).toEqual([202, 422, 202]);
    const again = await batch([to("ann"), to("bob"), to("cat", { content: "Other" })], key);
    expect(statuses(again)).toEqual([
      [0, 202, null],
      [1, 202, null],
      [2, 422, "idempotency_key_reused"],
    ]);
    expect(again.body.data[0]).toEqual(first.body.data[0]);
    expect(again.headers.get("idempotent-replayed")).toBeNull();
    const third = await batch([to("ann"), to("bob")], key);
    expect([third.headers.get("idempotent-replayed"), third.body.data]).toEqual(["true", again.body.data.slice(0, 2)]);
    expect(await count()).toBe(3);
    await batch([to("ann"), to("ann")]);
    expect(await count()).toBe(5);
  });

  test("makes nothing twice after a kill in the middle", async () => {
    await using folder = await folderWithCluster();
    const items = Array.from({ length: COUNT }, (_, n) => FAULTY[n % 50] ?? to(`user-${n}`));
    const isFaulty = (n: number) => n % 50 in FAULTY;
    const dying = spawnServer({ dataDir: folder.path, env: { CHATAPI_FAILPOINT: "append/answer:40" } });
    while (!dying.output().includes("/api/v1\n"))
      await Promise.race([dying.exited, new Promise((go) => setTimeout(go, 20))]);
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(dying.output())?.[0] ?? "";
    const { key: known } = await newClient(url);
    const send = (to: string) => apiOf(to, known).post("/notifications/batch", { notifications: items }, key);
    await expect(send(url)).rejects.toThrow();
    await dying.exited;
    await using after = await startServer({ dataDir: folder.path });
    const mine = apiOf(after.url, known);
    const made = async () => {
      const seen: Body[] = [];
      for (let cursor = ""; ; ) {
        const { body } = await mine.get(`/notifications?limit=100${cursor}`);
        seen.push(...body.data);
        if (body.next_cursor === null) return seen;
        cursor = `&cursor=${body.next_cursor}`;
      }
    };
    const survived = (await made()).map(({ id }) => id);
    expect(survived.length).toBeGreaterThan(0);
    const answer = await send(after.url);
    expect(statuses(answer).map(([index, status]: number[]) => [index, status])).toEqual(
      items.map((_, n) => [n, isFaulty(n) ? 422 : 202]),
    );
    const ids = answer.body.data.filter((one: Body) => one.status === 202).map((one: Body) => one.body.id);
    expect(ids).toEqual(expect.arrayContaining(survived));
    const all = await made();
    expect(all.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    expect(all.every((one) => one.deliveries_total === 1)).toBe(true);
  }, 120_000);
});
