// Listing deliveries, their timeline, and starting again what has failed for good, one or many.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bodyOf, httpServer } from "../../channels/servers.ts";
import { type Api, type Body, newClient, notificationUntil, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let target: Awaited<ReturnType<typeof httpServer>>;
let api: Api;
let hook: string;
/** By path. */
const received: string[] = [];
let refusing = true;
let failed: Body;
let mailed: Body;

beforeAll(async () => {
  server = await startTestServer();
  target = await httpServer(async (request, response) => {
    await bodyOf(request);
    received.push(request.url ?? "");
    response.writeHead(refusing ? 410 : 204).end();
  });
  api = await newClient(server.url);
  hook = `http://127.0.0.1:${target.port}`;
  const urls = ["/a", "/b", "/c"].map((path) => `${hook}${path}`);
  const webhooks = await api.post("/notifications", { type: "webhook", urls, content: {} });
  failed = await notificationUntil(api, webhooks.body.id, (one) => one.status === "failed");
  const mail = await api.post("/notifications", {
    type: "email",
    to_email: "Ann@example.com",
    subject: "S",
    content: "C",
  });
  mailed = await notificationUntil(api, mail.body.id, (one) => one.status === "sent");
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
});

const idsOf = async (query: string): Promise<string[]> => {
  const { status, body } = await api.get(`/deliveries${query}`);
  expect(status, JSON.stringify(body)).toBe(200);
  return body.data.map((one: Body) => one.id);
};
const ids = (notification: Body): string[] => notification.deliveries.map((one: Body) => one.id);

describe("the list", () => {
  test("is newest first, of the same shape as in notifications", async () => {
    const { body } = await api.get("/deliveries");
    expect(body.data).toHaveLength(4);
    expect(body.data[0]).toEqual(mailed.deliveries[0]);
    expect(body.data[0]).toMatchObject({ notification_id: mailed.id, source: null, channel: "email", attempts: [{}] });
    expect(body.next_cursor).toBeNull();
    const first = (await api.get("/deliveries?limit=3")).body;
    const second = (await api.get(`/deliveries?cursor=${first.next_cursor}`)).body;
    expect([...first.data, ...second.data]).toEqual(body.data);
  });

  test("is filtered by each of its parameters", async () => {
    expect((await idsOf("?status=exhausted")).toSorted()).toEqual(ids(failed).toSorted());
    expect(await idsOf("?status=sent,delivered")).toEqual(ids(mailed));
    expect(await idsOf("?channel=email")).toEqual(ids(mailed));
    expect(await idsOf("?provider=nobody")).toEqual([]);
    expect(await idsOf(`?provider=${mailed.deliveries[0].provider}`)).toEqual(ids(mailed));
    expect(await idsOf("?recipient=Ann@EXAMPLE.com")).toEqual(ids(mailed));
    expect(await idsOf(`?recipient=${encodeURIComponent(`${hook}/b`)}`)).toHaveLength(1);
    expect(await idsOf("?endpoint_id=whk_none")).toEqual([]);
    expect(await idsOf(`?from=${mailed.created_at}`)).toEqual(ids(mailed));
    expect(await idsOf("?to=2020-01-01")).toEqual([]);
  });

  test("refuses what is no status", async () => {
    const { status, body } = await api.get("/deliveries?status=lost");
    expect(status).toBe(422);
    expect(body.errors[0].path).toBe("?status");
  });
});

test("a delivery is read with its attempts, at once after its notification was accepted", async () => {
  expect((await api.get(`/deliveries/${ids(mailed)[0]}`)).body).toEqual(mailed.deliveries[0]);
  const { body } = await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "x" });
  const read = await api.get(`/deliveries/${body.deliveries[0].id}`);
  expect(read).toMatchObject({ status: 200, body: { id: body.deliveries[0].id, recipient: "ann" } });
});

test("its timeline has its own events alone", async () => {
  const { body } = await api.get(`/deliveries/${ids(failed)[0]}/timeline`);
  expect(body.data.map((event: Body) => event.type)).toEqual([
    ...["DeliveryRequested", "DeliveryAttemptStarted", "DeliveryAttemptFailed", "DeliveryExhausted"],
  ]);
  const page = (await api.get(`/deliveries/${ids(failed)[0]}/timeline?limit=3`)).body;
  const rest = (await api.get(`/deliveries/${ids(failed)[0]}/timeline?cursor=${page.next_cursor}`)).body;
  expect([...page.data, ...rest.data]).toEqual(body.data);
});

test("another client finds none of it", async () => {
  const other = await newClient(server.url);
  const [id] = ids(failed);
  expect((await other.get("/deliveries")).body.data).toEqual([]);
  for (const path of [`/deliveries/${id}`, `/deliveries/${id}/timeline`])
    expect((await other.get(path)).body).toMatchObject({ status: 404, code: "not_found" });
  expect((await other.post(`/deliveries/${id}/redrive`)).body).toMatchObject({ status: 404, code: "not_found" });
  expect((await other.post("/deliveries/redrive", {})).body).toMatchObject({ matched: 0 });
});

describe("a redrive", () => {
  test("of one delivery starts it again, and only what has failed for good", async () => {
    refusing = false;
    const [id] = ids(failed);
    const headers = { "idempotency-key": "again" };
    const { status, body } = await api.post(`/deliveries/${id}/redrive`, undefined, headers);
    expect({ status, body }).toMatchObject({ status: 202, body: { id, status: "pending", attempt_count: 1 } });
    const replayed = await api.post(`/deliveries/${id}/redrive`, undefined, headers);
    expect(replayed.body).toEqual(body);
    const done = await until(
      () => api.get(`/deliveries/${id}`),
      (answer) => answer.body.status === "delivered",
    );
    expect(done.body).toMatchObject({ attempt_count: 2, attempts: [{ number: 1 }, { number: 2 }] });
    const again = await api.post(`/deliveries/${id}/redrive`);
    expect(again.body).toMatchObject({ status: 409, code: "nothing_to_retry" });
  });

  test("of all that match is a job that says how far it is, requested once under its key", async () => {
    const headers = { "idempotency-key": "all" };
    const wanted = { channel: "webhook", status: ["exhausted", "expired"], error_code: "gone", limit: 10 };
    const none = await api.post("/deliveries/redrive", { ...wanted, error_code: "other" });
    expect(none.body.matched).toBe(0);
    const over = await api.get(`/redrives/${none.body.job_id}`);
    expect(over.body).toMatchObject({ status: "done", matched: 0, done: 0, finished_at: over.body.created_at });
    const code = (await api.get(`/deliveries/${ids(failed)[1]}`)).body.error.code;
    const accepted = await api.post("/deliveries/redrive", { ...wanted, error_code: code }, headers);
    expect(accepted).toMatchObject({ status: 202, body: { matched: 2 } });
    expect(accepted.headers.get("location")).toBe(`/api/v1/redrives/${accepted.body.job_id}`);
    const done = await until(
      () => api.get(`/redrives/${accepted.body.job_id}`),
      (answer) => answer.body.status === "done",
    );
    expect(done.body).toEqual({
      ...{ id: accepted.body.job_id, status: "done", matched: 2, done: 2 },
      created_at: expect.any(String),
      finished_at: expect.any(String),
    });
    await notificationUntil(api, failed.id, (one) => one.status === "delivered");
    const again = await api.post("/deliveries/redrive", { ...wanted, error_code: code }, headers);
    expect(again.body).toEqual(accepted.body);
    expect(received.toSorted()).toEqual(["/a", "/a", "/b", "/b", "/c", "/c"]);
  });

  test("of what cannot be started again is refused", async () => {
    const { status, body } = await api.post("/deliveries/redrive", { status: "delivered", limit: 0 });
    expect(status).toBe(422);
    expect(body.errors.map((fault: Body) => fault.path).toSorted()).toEqual(["limit", "status"]);
    expect((await api.get("/redrives/rdr_none")).status).toBe(404);
  });
});
