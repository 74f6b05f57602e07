// What holds notifications back, over HTTP: preferences, quiet hours, dry runs, deduplication, throttles and collapse keys.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, type Body, newClient, notificationUntil, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const HOUR = 3_600_000;
const clock = (offset: number) => new Date(Date.now() + offset).toISOString().slice(11, 16);
const mail = { type: "email", subject: "Hi", content: "Hello" };
const send = async (body: Body, status = 202): Promise<Body> => {
  const answer = await api.post("/notifications", { ...mail, ...body });
  expect(answer.status, JSON.stringify(answer.body)).toBe(status);
  return answer.body;
};
const settled = (id: string) =>
  notificationUntil(api, id, (one: Body) => !["pending", "processing"].includes(one.status));

test("what a user does not want is suppressed, by the address that is theirs; critical mails go", async () => {
  await api.put("/users/ada", { email: "ada@example.com" });
  const chosen = { categories: { news: { email: false, websocket: null } }, quiet_hours: null };
  const put = await api.put("/users/ada/preferences", { categories: { news: { email: false } } });
  expect([put.status, put.body]).toEqual([200, chosen]);
  expect((await api.get("/users/ada/preferences")).body).toEqual(chosen);
  const news = { to_email: "ada@example.com", category: "news" };
  const one = await settled((await send(news)).id);
  expect(one.status).toBe("suppressed");
  expect(one.deliveries[0]).toMatchObject({ status: "suppressed", attempt_count: 0, error: { code: "preference" } });
  expect((await settled((await send({ ...news, priority: "critical" })).id)).status).toBe("sent");
  expect((await settled((await send({ ...news, category: "orders" })).id)).status).toBe("sent");
  const named = { to: [{ email: "other@example.com", user_id: "ada" }], category: "news" };
  expect((await settled((await send(named)).id)).status).toBe("suppressed");
  expect((await api.get("/notifications?category=news")).body.data).toHaveLength(3);
});

test("in quiet hours it waits until they end, known at acceptance and in a dry run", async () => {
  const quiet_hours = { from: clock(-HOUR), to: clock(2 * HOUR) };
  await api.put("/users/bob/preferences", { quiet_hours });
  const body = { to: [{ email: "bob@example.com", user_id: "bob" }], subject: "Night" };
  const dry = await send({ ...body, dry_run: true }, 200);
  expect(dry.status).toBe("dry_run");
  const heldUntil = dry.deliveries[0].held_until;
  expect(heldUntil?.slice(11, 16)).toBe(quiet_hours.to);
  const accepted = await send(body);
  expect(accepted.deliveries[0]).toMatchObject({ status: "pending", held_until: heldUntil });
  const held = await notificationUntil(api, accepted.id, (one: Body) => one.deliveries[0].next_attempt_at !== null);
  expect(held.deliveries[0]).toMatchObject({ status: "pending", held_until: heldUntil, next_attempt_at: heldUntil });
  expect((await api.get(`/notifications/${dry.id}`)).status).toBe(404);
  const socket = { type: "websocket", subject: null, user_ids: ["bob"] };
  expect((await send(socket)).deliveries[0]).toMatchObject({ status: "pending", held_until: heldUntil });
});

test("of a hundred at once with one throttle of 1 one is sent", async () => {
  const body = { to_email: "carl@example.com", throttle: { key: "alert", limit: 1, per_seconds: 3_600 } };
  const ids = (await Promise.all(Array.from({ length: 100 }, () => send(body)))).map((one) => one.id);
  const ended = await until(
    async () => (await api.get("/notifications?recipient=carl@example.com&limit=100")).body.data as Body[],
    (data) => data.length === ids.length && data.every((one) => ["sent", "suppressed"].includes(one.status)),
    30_000,
  );
  expect(ended.filter((one) => one.status === "sent")).toHaveLength(1);
  const refused = ended.find((one) => one.status === "suppressed");
  const { body: shown } = await api.get(`/notifications/${refused?.id}`);
  expect(shown.deliveries[0].error.code).toBe("throttled");
  expect((await send({ ...body, dry_run: true }, 200)).deliveries[0].status).toBe("suppressed");
}, 60_000);

test("of a hundred at once with one deduplication key one is made, and answers all", async () => {
  const body = { to_email: "dora@example.com", dedupe: { key: "order 1", window_seconds: 60 } };
  const answers = await Promise.all(Array.from({ length: 50 }, () => api.post("/notifications", { ...mail, ...body })));
  expect(new Set(answers.map((one) => one.body.id)).size).toBe(1);
  expect(answers.filter((one) => one.status === 202)).toHaveLength(1);
  expect(answers.filter((one) => one.status === 200)).toHaveLength(49);
}, 60_000);

test("a newer one replaces what is not yet acknowledged", async () => {
  const body = { type: "websocket", user_ids: ["erin"], collapse_key: "likes", subject: null };
  const older = await send({ ...body, content: "1 like" });
  await notificationUntil(api, older.id, (one: Body) => one.delivery_counts !== null && one.status === "pending");
  const newer = await send({ ...body, content: "2 likes" });
  const replaced = await settled(older.id);
  expect(replaced.deliveries[0]).toMatchObject({ status: "suppressed", error: { code: "collapsed" } });
  expect((await api.get(`/notifications/${newer.id}`)).body.status).toBe("pending");
});

test("what is redriven on a WebSocket goes out as its user wants by then, alone and among many", async () => {
  const expired = async () => {
    const expires_at = new Date(Date.now() + 1_500).toISOString();
    const about = { type: "websocket", subject: null, user_ids: ["fred"], category: "digest", expires_at };
    const { id } = await send({ ...about, content: "News" });
    return (await notificationUntil(api, id, (one: Body) => one.deliveries[0].status === "expired")).deliveries[0].id;
  };
  const [alone, among] = await Promise.all([expired(), expired()]);
  await api.put("/users/fred/preferences", { categories: { digest: { websocket: false } } });
  // The gate rests on the read model, which has the choice once a read of it was answered.
  expect((await api.get("/users/fred/preferences")).body.categories).toMatchObject({ digest: { websocket: false } });
  expect((await api.post(`/deliveries/${alone}/redrive`)).body).toMatchObject({ status: "suppressed" });
  expect((await api.post("/deliveries/redrive", { status: "expired" })).body.matched).toBe(1);
  const withheld = await until(
    async () => (await api.get(`/deliveries/${among}`)).body as Body,
    (one) => one.status !== "expired",
  );
  expect(withheld).toMatchObject({ status: "suppressed", error: { code: "preference" } });
});
