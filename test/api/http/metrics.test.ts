// Metrics: every family is explained, promtool finds nothing wrong with them, and they count what happened.
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { httpServer } from "../../channels/servers.ts";
import { newClient, notificationUntil, tokenOf, until } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";

const scrape = async (): Promise<string> => (await raw(server.url, "/metrics")).text;
/** The value of a series, by its name and labels as they are written; undefined when there is none. */
const seriesValue = (text: string, series: string): number | undefined => {
  const line = text.split("\n").find((one) => one.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
};
const logged = async () => (await server.storage.store.readAll({ after: "start", limit: 10_000 })).length;

let server: TestServer;
let metrics: string;
/** What grew from before to after, and by how many events the log did. */
let grown: (series: string) => number;
let newEvents: number;
let framesGot: number;
beforeAll(async () => {
  server = await startTestServer();
  const api = await newClient(server.url);
  const token = await tokenOf(api, "ann");
  using socket = await SocketClient.connect(server.url.replace("http", "ws"), token);
  const { body: room } = await api.post("/rooms", { name: "Team", members: [{ user_id: "ann" }] });
  expect(await socket.ask({ type: "subscribe", room_id: room.id })).toMatchObject({ type: "subscribed" });
  await using target = await httpServer((_request, response) => void response.writeHead(204).end());
  const url = `http://127.0.0.1:${target.port}/`;
  expect((await api.post("/webhooks", { url, events: ["message.posted"] })).status).toBe(201);
  const before = await scrape();
  const eventsBefore = await logged();
  const posted = await api.post(`/rooms/${room.id}/messages`, { sender_id: "ann", content: "Hello" });
  expect(posted.status).toBe(201);
  await socket.next("event");
  const mail = { type: "email", to_email: "ben@example.com", subject: "Hi", content: "Hello" };
  const { body: sent } = await api.post("/notifications", mail);
  await notificationUntil(api, sent.id, (body) => body.status === "sent");
  const delivered = /^chatapi_deliveries_total\{.*source="endpoint".*\} 1$/m;
  metrics = await until(
    scrape,
    (text) => delivered.test(text) && seriesValue(text, "chatapi_projection_lag_events") === 0,
  );
  grown = (series) => (seriesValue(metrics, series) ?? 0) - (seriesValue(before, series) ?? 0);
  framesGot = socket.frames.length;
  newEvents = (await logged()) - eventsBefore;
});
afterAll(() => server[Symbol.asyncDispose]());

test("each family of ours is explained in docs/metrics.md, and has a value", async () => {
  const page = await readFile(new URL("../../../docs/metrics.md", import.meta.url), "utf8");
  const families = [...metrics.matchAll(/^# TYPE (chatapi_\w+) /gm)].map(([, name]) => String(name));
  expect(families.length).toBeGreaterThan(20);
  for (const name of families) {
    expect(page, name).toContain(`\`${name}\``);
    expect(metrics, name).toMatch(new RegExp(`^${name}\\S* [0-9]`, "m"));
  }
  const explained = [...page.matchAll(/\| `(chatapi_\w+)`/g)].map(([, name]) => String(name));
  expect(explained.toSorted()).toEqual(families.toSorted());
});

test("appends are counted with their events: as many as the log has", () => {
  expect(newEvents).toBeGreaterThan(3);
  expect(grown("chatapi_append_events_sum")).toBe(newEvents);
  const appends = grown('chatapi_appends_total{outcome="written"}');
  expect(appends).toBeGreaterThan(1);
  expect(appends).toBe(grown("chatapi_append_events_count"));
  expect(grown("chatapi_append_duration_seconds_count")).toBe(
    appends + grown('chatapi_appends_total{outcome="conflict"}') + grown('chatapi_appends_total{outcome="failed"}'),
  );
});

test("the stages of requests that write are counted, and take no longer than the requests", () => {
  const stages = ["admission", "queue", "decide", "seal", "flush", "answer"];
  const of = (part: string) =>
    stages.map((stage) => grown(`chatapi_write_stage_duration_seconds_${part}{stage="${stage}"}`));
  const [admission, queue = 0, decide = 0, seal = 0, flush, answer] = of("count");
  expect([admission, answer]).toEqual([2, 2]); // a message and a notification
  for (const written of [queue, decide, seal]) expect(written).toBeGreaterThanOrEqual(2);
  expect(flush).toBe(seal);
  const took = (path: string) =>
    grown(`chatapi_http_request_duration_seconds_sum{method="POST",path="/api/v1${path}"}`);
  const together = of("sum").reduce((sum, seconds) => sum + seconds, 0);
  expect(together).toBeGreaterThan(0);
  expect(together).toBeLessThanOrEqual(took("/rooms/:room_id/messages") + took("/notifications"));
});

test("a mail that was sent is one delivery and one attempt", () => {
  expect(grown('chatapi_deliveries_total{channel="email",provider="smtp",source="notification",outcome="sent"}')).toBe(
    1,
  );
  expect(
    grown('chatapi_attempt_duration_seconds_count{channel="email",source="notification",outcome="succeeded"}'),
  ).toBe(1);
  expect(metrics.match(/^chatapi_deliveries_total/gm)).toHaveLength(2);
});

test("an event to a webhook endpoint is told from a notification", () => {
  const labels = 'channel="webhook",provider="webhook",source="endpoint",outcome="delivered"';
  expect(grown(`chatapi_deliveries_total{${labels}}`)).toBe(1);
  const attempts = 'chatapi_attempt_duration_seconds_count{channel="webhook",source="endpoint",outcome="succeeded"}';
  expect(grown(attempts)).toBe(1);
  expect(seriesValue(metrics, "chatapi_endpoints_behind")).toBe(0);
  for (const unit of ["events", "seconds"])
    expect(seriesValue(metrics, `chatapi_endpoint_lag_${unit}`), unit).toBeTypeOf("number");
});

test("a socket, what it subscribed to and the frames of a message are counted", () => {
  for (const name of ["sockets", "rooms_followed", "subscriptions"]) {
    expect(seriesValue(metrics, `chatapi_${name}`), name).toBe(1);
  }
  expect(framesGot).toBeGreaterThanOrEqual(3); // welcome, subscribed, event
  expect(seriesValue(metrics, "chatapi_frames_sent_total")).toBe(framesGot);
  expect(seriesValue(metrics, "chatapi_frames_received_total")).toBe(1);
  expect(seriesValue(metrics, "chatapi_slow_consumers_total")).toBe(0);
});

test("nothing is behind, waits or is forged once all is done", () => {
  for (const name of ["projection_lag_seconds", "commands_waiting", "forged_events_total"]) {
    expect(seriesValue(metrics, `chatapi_${name}`), name).toBe(0);
  }
  for (const queue of ["attempts", "tasks", "later"]) {
    expect(seriesValue(metrics, `chatapi_jobs_waiting{queue="${queue}"}`), queue).toBeTypeOf("number");
    expect(seriesValue(metrics, `chatapi_jobs_oldest_seconds{queue="${queue}"}`), queue).toBeTypeOf("number");
  }
});

test("a forged event is counted once, however often it is read", async () => {
  const { pool } = server.storage;
  const { rows } = await pool.query<{ position: string; metadata: Buffer }>(
    "select position, metadata from log.events order by position desc limit 1",
  );
  const [last = expect.fail()] = rows;
  const flipped = Buffer.from(last.metadata);
  flipped[flipped.length - 4] = (flipped.at(-4) ?? 0) ^ 1;
  await pool.query("update log.events set metadata = $2 where position = $1", [last.position, flipped]);
  await logged();
  await logged();
  expect(seriesValue(await scrape(), "chatapi_forged_events_total")).toBe(1);
});

const hasPromtool = spawnSync("promtool", ["--version"]).status === 0;
if (!hasPromtool) console.log("promtool is not installed: its check of the metrics is skipped");

test.skipIf(!hasPromtool)("promtool finds nothing wrong", () => {
  const ours = metrics.split(/^(?=# HELP )/m).filter((family) => family.startsWith("# HELP chatapi_"));
  const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input: ours.join("") });
  expect([status, String(stdout), String(stderr)]).toEqual([0, "", ""]);
});
