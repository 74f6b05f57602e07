// Falling back: acknowledgement or mail, never both, never neither, never two mails to one address.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId, NotificationId } from "../../src/contract/ids.ts";
import { seal } from "../../src/domain/event.ts";
import type { Fallback } from "../../src/domain/notification.ts";
import { deliveryId, fallbackMailId } from "../../src/event-store/derived-ids.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "./world.ts";

let world: World;
let client: ClientId;
beforeAll(async () => {
  world = await openWorld();
  client = await world.client("Shop");
});
afterAll(() => world[Symbol.asyncDispose]());

const fallback = (afterMs: number, more: Partial<Fallback> = {}): Fallback => ({
  to: null,
  subject: null,
  content: null,
  afterMs,
  ...more,
});
const subjectOf = (user: string) => world.keyring.subjectOfUser(client, user);
const deliveryOf = async (id: NotificationId, user: string) => deliveryId(id, await subjectOf(user), "websocket");
const mailsTo = (to: string) => world.mailbox.list({ to });
const statusIs = (wanted: string) => (state: { readonly status: string }) => state.status === wanted;

describe("falling back", () => {
  test("who does not acknowledge gets one mail, to the address of that moment", async () => {
    await world.user(client, "ann", null);
    const id = await world.notify(client, "websocket", ["ann"], { fallback: fallback(300), subject: null });
    await world.user(client, "ann", "ann@example.com");
    const delivery = await deliveryOf(id, "ann");
    await until(() => world.delivery(delivery), statusIs("fell_back"));
    await until(
      () => mailsTo("ann@example.com").length,
      (count) => count === 1,
    );
    expect(mailsTo("ann@example.com")[0]).toMatchObject({ subject: "Notification from Shop" });
    const mail = fallbackMailId(id, await world.keyring.subjectOfAddress(client, "ann@example.com"));
    const state = await until(() => world.delivery(mail), statusIs("sent"));
    expect(state).toMatchObject({ request: { channel: "email", fallbackOf: delivery } });
  });

  test("who acknowledges in time gets none", async () => {
    await world.user(client, "ben", "ben@example.com");
    const id = await world.notify(client, "websocket", ["ben"], { fallback: fallback(300) });
    const delivery = await deliveryOf(id, "ben");
    await until(() => world.delivery(delivery), statusIs("pending"));
    await world.onDelivery(client, delivery, { type: "Acknowledge", at: Date.now(), subject: await subjectOf("ben") });
    await new Promise((resolve) => setTimeout(resolve, 800));
    expect(await world.types(delivery)).toEqual(["DeliveryRequested", "DeliveryAcknowledged"]);
    expect(mailsTo("ben@example.com")).toEqual([]);
  });

  test("an acknowledgement that races the deadline: never both, never neither", async () => {
    const users = Array.from({ length: 30 }, (_, n) => `racer${n}`);
    for (const user of users) await world.user(client, user, `${user}@example.com`);
    const id = await world.notify(client, "websocket", users, { fallback: fallback(400) });
    const [{ createdAt }] = [await world.notification(id)];
    await Promise.all(
      users.map(async (user, n) => {
        const delivery = await deliveryOf(id, user);
        await until(
          () => world.delivery(delivery),
          (state) => state.status !== "none",
        );
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, createdAt + 390 + n * 3 - Date.now())));
        await world.onDelivery(client, delivery, {
          type: "Acknowledge",
          at: Date.now(),
          subject: await subjectOf(user),
        });
      }),
    );
    for (const user of users) {
      const delivery = await deliveryOf(id, user);
      const state = await until(
        () => world.delivery(delivery),
        (one) => one.status === "delivered" || one.status === "fell_back",
      );
      if (state.status === "fell_back")
        await until(
          () => mailsTo(`${user}@example.com`).length,
          (count) => count > 0,
        );
      expect(mailsTo(`${user}@example.com`)).toHaveLength(state.status === "fell_back" ? 1 : 0);
    }
  });

  test("deliveries that fall back to one address share one mail, with a subject and content of its own", async () => {
    const to = {
      subject: await world.keyring.subjectOfAddress(client, "team@example.com"),
      address: seal("team@example.com"),
    };
    const own = { to, subject: seal("You missed this"), content: seal("Mail text") };
    await world.notify(client, "websocket", ["dan", "eve", "fay"], { fallback: fallback(200, own) });
    await until(
      () => mailsTo("team@example.com").length,
      (count) => count > 0,
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(mailsTo("team@example.com")).toHaveLength(1);
    expect(mailsTo("team@example.com")[0]).toMatchObject({
      subject: "You missed this",
      text: expect.stringContaining("Mail text"),
    });
  });

  test("without an address the mail is exhausted: no_address", async () => {
    const id = await world.notify(client, "websocket", ["gus"], { fallback: fallback(200) });
    const mail = fallbackMailId(id, await subjectOf("gus"));
    await until(() => world.delivery(mail), statusIs("exhausted"));
    expect((await world.events(mail)).at(-1)?.data).toMatchObject({ reason: "no_address" });
  });

  test("an unacknowledged delivery without fallback stays open until it expires", async () => {
    const id = await world.notify(client, "websocket", ["hal"], { expiresAt: Date.now() + 700 });
    const delivery = await deliveryOf(id, "hal");
    await until(() => world.delivery(delivery), statusIs("pending"));
    await until(() => world.delivery(delivery), statusIs("expired"));
  });
});
