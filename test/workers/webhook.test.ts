// Webhooks: attempts, their times, their outcomes, and receivers that misbehave.
import type { RequestListener } from "node:http";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { emptyResult } from "../../src/channels/attempt-result.ts";
import type { ClientId, DeliveryId } from "../../src/contract/ids.ts";
import { seal } from "../../src/domain/event.ts";
import type { NotificationData } from "../../src/domain/notification.ts";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import { attemptDelivery } from "../../src/workers/attempts.ts";
import { createJob, type TakenJob } from "../../src/workers/jobs.ts";
import { bodyOf, httpServer, type TestServer } from "../channels/servers.ts";
import { jobServices } from "../support/job-services.ts";
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

test("large contents under way have a bound: what finds no room comes again, and is sent once there is room", async () => {
  await using own = await openWorld({ scheduleMs: [3_600_000] });
  const shop = await own.client();
  await using target = await receiver(() => 503);
  const notification = await own.notify(shop, "webhook", [target.url], { content: seal("x".repeat(262_144)) });
  const id = deliveryId(notification, await own.keyring.subjectOfAddress(shop, target.url), "webhook");
  await until(
    async () => (await own.delivery(id)).status,
    (status) => status === "retrying",
  );
  await own.stopWorkers();

  const MIB = 1_048_576;
  const sending = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  let sends = 0;
  const webhook = {
    attemptTimeoutMs: 1_000,
    async send() {
      sends += 1;
      sending.resolve();
      await goOn.promise;
      return { ...emptyResult("webhook"), outcome: "succeeded" } as const;
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
  const at = Date.now() + 7_200_000;
  const { store, keyring, readSide } = own;
  const services = jobServices({ store, keyring, readSide, commands: own.elsewhere(), webhook, now: () => at });
  const work = { kind: "attempt", delivery: id, n: null } as const;
  const more = { queue: "attempts", round: 0, failures: 0, retryCount: 0 } as const;
  const job: TakenJob = {
    ...createJob({ client: shop, priority: "normal", cause: null, work, at: null }, "x"),
    ...more,
  };
  const attempt = () => attemptDelivery(services, job, work, new AbortController().signal);
  const others = services.memoryBudget.take(shop, 24 * MIB - 200_000);
  const refused = await attempt();
  expect(refused).toEqual({ kind: "retry", at: expect.any(Number) });
  expect([refused.kind === "retry" && refused.at > at, sends]).toEqual([true, 0]);

  others?.[Symbol.dispose]();
  const made = attempt();
  await sending.promise;
  expect(services.memoryBudget.take(shop, 24 * MIB - 200_000)).toBeUndefined();
  goOn.resolve();
  expect([await made, sends]).toEqual([{ kind: "done" }, 1]);
  expect(services.memoryBudget.take(shop, 24 * MIB)).toBeDefined();
});
