// What a server logs of its own accord: nothing to warn of while all is well, and at debug each refusal with its code.
import { afterAll, beforeAll, expect, test } from "vitest";
import { closedPort } from "../../channels/servers.ts";
import { type Api, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer({ logLevel: "debug", env: { RETRY_SCHEDULE: "1h" } });
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const DEBUG = 20;
const WARN = 40;

test("each problem of 4xx is a line at debug, with its code, its client and the route, never the path", async () => {
  const { body: me } = await api.get("/clients/me");
  const stranger = api.as("ck_nonsense");
  const refused = [
    { answer: await api.get("/rooms/room_unknown"), code: "not_found", client: me.id, route: "/rooms/:room_id" },
    { answer: await api.post("/rooms", { name: 7 }), code: "validation_failed", client: me.id, route: "/rooms" },
    { answer: await stranger.get("/rooms"), code: "unauthenticated", client: undefined, route: "/rooms" },
  ];
  for (const { answer, code, client, route } of refused) {
    const line = server.logged.find((one) => one.request_id === answer.body.request_id && one.code === code);
    expect(line, code).toMatchObject({ level: DEBUG, code, status: answer.status });
    expect(line?.client).toBe(client);
    expect(String(line?.route)).toMatch(new RegExp(`${route}$`));
  }
  expect(JSON.stringify(server.logged)).not.toContain("room_unknown");
});

test("each refused delivery is a line at debug, with its code and its client", async () => {
  const url = `http://127.0.0.1:${await closedPort()}/`;
  const { body } = await api.post("/notifications", { type: "webhook", url, content: {} });
  const [delivery] = (await notificationUntil(api, body.id, (one) => one.deliveries[0]?.status === "retrying"))
    .deliveries;
  const { body: me } = await api.get("/clients/me");
  const line = server.logged.find((one) => one.delivery === delivery.id);
  expect(line).toMatchObject({ level: DEBUG, client: me.id, code: "connection_refused", outcome: "transient", n: 1 });
});

test("a first start, and what was refused since, leave nothing at warn or above", () => {
  expect(server.logged.length).toBeGreaterThan(0);
  expect(server.logged.filter(({ level }) => Number(level) >= WARN)).toEqual([]);
});
