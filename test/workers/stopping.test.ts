// Scheduling and stopping: before the release, while deliveries wait, and while an attempt is open.
import type { ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId, NotificationId } from "../../src/contract/ids.ts";
import { MINUTE_MS } from "../../src/contract/time.ts";
import { deliveryId, fallbackMailId } from "../../src/event-store/derived-ids.ts";
import { httpServer } from "../channels/servers.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "./world.ts";

let world: World;
let client: ClientId;
beforeAll(async () => {
  world = await openWorld({ scheduleMs: [60_000] });
  client = await world.client();
});
afterAll(() => world[Symbol.asyncDispose]());

const mailsTo = (to: string) => world.mailbox.list({ to });
const emailOf = async (id: NotificationId, to: string) =>
  deliveryId(id, await world.keyring.subjectOfAddress(client, to), "email");
const stop = (id: NotificationId) =>
  world.onNotification(client, id, { type: "Cancel", at: Date.now(), openDeliveries: true, ifMatch: null });
const statusIs = (wanted: string) => (state: { readonly status: string }) => state.status === wanted;

describe("scheduling and stopping", () => {
  test("a scheduled one is released at its time, not before", async () => {
    const sendAt = Date.now() + 800;
    const id = await world.notify(client, "email", ["a@example.com"], { sendAt });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await world.notification(id)).toMatchObject({ status: "scheduled" });
    await until(
      () => mailsTo("a@example.com").length,
      (count) => count === 1,
    );
    expect(Date.now()).toBeGreaterThanOrEqual(sendAt);
  });

  test("one that is moved is released at its new time", async () => {
    const id = await world.notify(client, "email", ["b@example.com"], { sendAt: Date.now() + 400 });
    const sendAt = Date.now() + 1_200;
    await world.onNotification(client, id, {
      type: "Edit",
      at: Date.now(),
      ifMatch: null,
      patch: { send_at: sendAt },
    });
    await until(
      () => mailsTo("b@example.com").length,
      (count) => count === 1,
    );
    expect(Date.now()).toBeGreaterThanOrEqual(sendAt);
  });

  test("one that is cancelled before sends nothing", async () => {
    const id = await world.notify(client, "email", ["c@example.com"], { sendAt: Date.now() + 300 });
    await stop(id);
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect(mailsTo("c@example.com")).toEqual([]);
    expect(await world.types(await emailOf(id, "c@example.com"))).toEqual([]);
  });

  test("a stop cancels what waits, the retries of what failed, and lets an open attempt finish", async () => {
    const open: ServerResponse[] = [];
    await using target = await httpServer((request, response) => {
      if (request.url === "/open") open.push(response);
      else response.writeHead(500).end();
    });
    const urls = ["/open", "/failing"].map((path) => `http://127.0.0.1:${target.port}${path}`);
    const id = await world.notify(client, "webhook", urls);
    const [sending, retrying] = await Promise.all(
      urls.map(async (url) => deliveryId(id, await world.keyring.subjectOfAddress(client, url), "webhook")),
    );
    if (sending === undefined || retrying === undefined) throw new Error("no ids");
    await until(() => world.delivery(retrying), statusIs("retrying"));
    await until(
      () => open.length,
      (count) => count === 1,
    );
    await stop(id);
    await until(() => world.delivery(retrying), statusIs("cancelled"));
    await until(
      () => world.types(sending),
      (types) => types.includes("DeliveryCancelRequested"),
    );
    open[0]?.writeHead(200).end();
    await until(() => world.delivery(sending), statusIs("delivered"));
  });

  test("after a stop no attempt begins, however late the stop reaches a delivery that waits for its retry", async () => {
    await using own = await openWorld({ scheduleMs: [1_500] });
    const shop = await own.client();
    let calls = 0;
    await using target = await httpServer((_request, response) => {
      calls += 1;
      response.writeHead(500).end();
    });
    const url = `http://127.0.0.1:${target.port}/`;
    const id = await own.notify(shop, "webhook", [url]);
    const delivery = deliveryId(id, await own.keyring.subjectOfAddress(shop, url), "webhook");
    await until(() => own.delivery(delivery), statusIs("retrying"));
    // Nobody passes the stop on.
    await own.startWorkers({ tasks: { running: 0, perClient: 0, waitingPerClient: 0 } });
    await own.onNotification(shop, id, { type: "Cancel", at: Date.now(), openDeliveries: true, ifMatch: null });
    await until(() => own.delivery(delivery), statusIs("cancelled"));
    expect(calls).toBe(1);
  });

  test("a stop reaches fallbacks: no mail is made after it, one that waits is cancelled", async () => {
    await world.user(client, "ann", "ann@example.com");
    const fallback = { to: null, subject: null, content: null, afterMs: 400 };
    const early = await world.notify(client, "websocket", ["ann"], { fallback: { ...fallback, afterMs: MINUTE_MS } });
    const delivery = deliveryId(early, await world.keyring.subjectOfUser(client, "ann"), "websocket");
    await until(() => world.delivery(delivery), statusIs("pending"));
    await stop(early);
    await until(() => world.delivery(delivery), statusIs("cancelled"));
    // Its mail fails and waits for a retry when the stop comes.
    const nowhere = await world.client("Nowhere", { host: "127.0.0.1", port: 1 });
    const user = await world.user(nowhere, "bob", "bob@example.com");
    const late = await world.notify(nowhere, "websocket", ["bob"], { fallback });
    const mail = fallbackMailId(late, await world.keyring.subjectOfAddress(nowhere, "bob@example.com"));
    await until(() => world.delivery(mail), statusIs("retrying"));
    await world.onNotification(nowhere, late, { type: "Cancel", at: Date.now(), openDeliveries: true, ifMatch: null });
    await until(() => world.delivery(mail), statusIs("cancelled"));
    expect((await world.delivery(deliveryId(late, user, "websocket"))).status).toBe("fell_back");
    expect(mailsTo("ann@example.com")).toEqual([]);
  });

  test("a stop in the middle of routing ends every delivery that was made", async () => {
    const to = Array.from({ length: 400 }, (_, n) => `many${n}@example.com`);
    const slow = await world.client("Slow", { host: "127.0.0.1", port: 1 });
    const id = await world.notify(slow, "email", to);
    await world.onNotification(slow, id, { type: "Cancel", at: Date.now(), openDeliveries: true, ifMatch: null });
    const { routed } = await until(
      () => world.notification(id),
      (state) => state.routed,
      20_000,
    );
    expect(routed).toBe(true);
    const ids = await Promise.all(
      to.map(async (one) => deliveryId(id, await world.keyring.subjectOfAddress(slow, one), "email")),
    );
    const states = await until(
      async () => (await Promise.all(ids.map((one) => world.delivery(one)))).map((state) => state.status),
      (all) => all.every((status) => status === "none" || status === "cancelled"),
      20_000,
    );
    expect(states).toHaveLength(400);
  });
});
