// Webhooks: attempts, their times, their outcomes, and receivers that misbehave.
import type { RequestListener } from "node:http";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId, DeliveryId } from "../../src/contract/ids.ts";
import type { NotificationData } from "../../src/domain/notification.ts";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import { bodyOf, httpServer, type TestServer } from "../channels/servers.ts";
import { until } from "../support/until.ts";
import { openWorld, SECRET, type World } from "./world.ts";

let world: World;
let client: ClientId;
beforeAll(async () => {
  world = await openWorld();
  client = await world.client();
});
afterAll(() => world[Symbol.asyncDispose]());

type Received = { readonly headers: Record<string, string>; readonly body: string };
type Receiver = AsyncDisposable & { readonly url: string; readonly received: Received[]; readonly server: TestServer };

async function receiver(answer: (n: number) => number | RequestListener): Promise<Receiver> {
  const received: Received[] = [];
  const server = await httpServer(async (request, response) => {
    const body = await bodyOf(request);
    const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]));
    received.push({ headers, body });
    const reply = answer(received.length);
    if (typeof reply === "number") response.writeHead(reply).end("said");
    else reply(request, response);
  });
  const url = `http://127.0.0.1:${server.port}/hook`;
  return { url, received, server, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

async function send(url: string, more: Partial<NotificationData> = {}): Promise<DeliveryId> {
  const id = await world.notify(client, "webhook", [url], more);
  return deliveryId(id, await world.keyring.subjectOfAddress(client, url), "webhook");
}
const statusOf = async (id: DeliveryId) => (await world.delivery(id)).status;
const ends = (id: DeliveryId, status: string) =>
  until(
    () => statusOf(id),
    (one) => one === status,
  );

describe("webhooks", () => {
  test("fails twice, then is taken: three attempts, one webhook-id, each signed for its own time", async () => {
    await using target = await receiver((n) => (n < 3 ? 503 : 200));
    const id = await send(target.url);
    await ends(id, "delivered");
    const failed = ["DeliveryAttemptStarted", "DeliveryAttemptFailed", "DeliveryRetryScheduled"];
    expect(await world.types(id)).toEqual([
      "DeliveryRequested",
      ...failed,
      ...failed,
      "DeliveryAttemptStarted",
      "DeliverySucceeded",
    ]);
    expect(target.received.map((one) => one.headers["webhook-id"])).toEqual([id, id, id]);
    const verifier = new Webhook(SECRET);
    for (const { body, headers } of target.received) expect(() => verifier.verify(body, headers)).not.toThrow();
    const [first, , third] = target.received.map((one) => JSON.parse(one.body));
    expect(third).toEqual(first);
    expect(first).toEqual({
      type: "notification",
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
      data: {
        notification_id: expect.stringMatching(/^ntf_/),
        delivery_id: id,
        subject: "News",
        content: "Hello",
        meta: { a: 1 },
        priority: "normal",
        room_id: null,
      },
    });
  });

  test("one that always fails ends exhausted, and a redrive starts it again, numbers counting on", async () => {
    await using target = await receiver((n) => (n <= 3 ? 500 : 204));
    const id = await send(target.url);
    await ends(id, "exhausted");
    expect(target.received).toHaveLength(3);
    await world.onDelivery(client, id, { type: "Redrive", at: Date.now() });
    await ends(id, "delivered");
    const numbers = (await world.events(id)).flatMap((event) =>
      event.type === "DeliveryAttemptStarted" ? [event.data.n] : [],
    );
    expect(numbers).toEqual([1, 2, 3, 4]);
    expect(new Set(target.received.map((one) => one.headers["webhook-id"]))).toEqual(new Set([id]));
  });

  test("410 ends it at once", async () => {
    await using target = await receiver(() => 410);
    const id = await send(target.url);
    await ends(id, "exhausted");
    expect(target.received).toHaveLength(1);
  });

  test("what stalls, never ends or redirects gets nowhere and holds nothing up", async () => {
    await using hidden = await receiver(() => 200);
    await using stalling = await receiver(() => () => {});
    await using endless = await receiver(() => (_request, response) => {
      const write = () => {
        while (!response.destroyed && response.write("x".repeat(65_536)));
      };
      response.writeHead(500).on("drain", write);
      write();
    });
    await using redirecting = await receiver(() => (_request, response) => {
      response.writeHead(302, { location: hidden.url }).end();
    });
    await using good = await receiver(() => 200);
    const stalled = await Promise.all(Array.from({ length: 40 }, (_, n) => send(`${stalling.url}/${n}`)));
    const [flooded, redirected] = await Promise.all([send(endless.url), send(redirecting.url)]);
    await ends(await send(good.url), "delivered");
    // Nobody has waited for those that stall.
    expect(new Set(await Promise.all(stalled.map(statusOf)))).not.toContain("exhausted");
    await Promise.all([ends(flooded, "exhausted"), ends(redirected, "exhausted")]);
    expect(hidden.received).toEqual([]);
    const first = stalled[0];
    if (first === undefined) throw new Error("nothing was sent");
    await until(
      () => world.types(first),
      (types) => types.includes("DeliveryAttemptFailed"),
      20_000,
    );
    expect(stalling.server.open()).toBeLessThanOrEqual(40);
  });

  test("a retry that would come after the expiry expires the delivery", async () => {
    await using target = await receiver(() => (_request, response) => {
      response.writeHead(429, { "retry-after": "3600" }).end();
    });
    const id = await send(target.url, { expiresAt: Date.now() + 60_000 });
    await ends(id, "expired");
    expect(target.received).toHaveLength(1);
  });
});
