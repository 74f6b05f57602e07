// Emails, from a notification's event to the mailbox.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { seal } from "../../src/domain/event.ts";
import type { ClientId } from "../../src/domain/ids.ts";
import { deliveryId } from "../../src/event-store/delivery-ids.ts";
import { openWorld, until, type World } from "./world.ts";

let world: World;
let client: ClientId;
beforeAll(async () => {
  world = await openWorld();
  client = await world.client("Shop");
});
afterAll(() => world[Symbol.asyncDispose]());

const mailsTo = (to: string) => world.mailbox.list({ to });

describe("emails", () => {
  test("one mail goes to the development mailbox, every step in the log", async () => {
    const id = await world.notify(client, "email", ["a@example.com"], { content: seal("<h1>Welcome</h1>") });
    const [mail] = await until(
      () => mailsTo("a@example.com"),
      (mails) => mails.length > 0,
    );
    expect(mail).toMatchObject({
      subject: "News",
      html: expect.stringContaining("<h1>Welcome</h1>"),
      text: expect.stringContaining("Welcome"),
    });
    const delivery = deliveryId(id, await world.keyring.subjectOfAddress(client, "a@example.com"), "email");
    await until(
      () => world.delivery(delivery),
      (state) => state.status === "sent",
    );
    expect(await world.types(delivery)).toEqual(["DeliveryRequested", "DeliveryAttemptStarted", "DeliverySucceeded"]);
    expect(await world.notification(id)).toMatchObject({ status: "released", routed: true });
  });

  test("each event carries on the correlation and names its cause", async () => {
    const id = await world.notify(client, "email", ["b@example.com"]);
    const delivery = deliveryId(id, await world.keyring.subjectOfAddress(client, "b@example.com"), "email");
    await until(
      () => world.delivery(delivery),
      (state) => state.status === "sent",
    );
    const [requested, started, succeeded] = await world.events(delivery);
    const correlation = requested?.meta.correlation;
    expect(correlation).toMatch(/^req-/);
    expect(started?.meta).toMatchObject({
      correlation,
      causation: requested?.id,
      actor: { type: "system", id: "worker" },
      client,
    });
    expect(succeeded?.meta).toMatchObject({ correlation, causation: started?.id });
  });

  test("several recipients get one mail each, a single one shares it with its copies", async () => {
    await world.notify(client, "email", ["c@example.com", "d@example.com"], { cc: seal(["never@example.com"]) });
    await world.notify(client, "email", ["e@example.com"], {
      cc: seal(["f@example.com"]),
      bcc: seal(["g@example.com"]),
    });
    await until(
      () => ["c", "d", "g"].map((one) => mailsTo(`${one}@example.com`).length),
      (counts) => counts.every((one) => one === 1),
    );
    expect(mailsTo("c@example.com")[0]?.to.map((one) => one.address)).toEqual(["c@example.com"]);
    expect(mailsTo("g@example.com")[0]?.cc.map((one) => one.address)).toEqual(["f@example.com"]);
    expect(mailsTo("never@example.com")).toEqual([]);
  });

  test("an erased address ends exhausted, without a mail", async () => {
    const id = await world.notify(client, "email", ["h@example.com"], { sendAt: Date.now() + 400 });
    const subject = await world.keyring.subjectOfAddress(client, "h@example.com");
    await world.keyring.destroy(subject);
    const delivery = deliveryId(id, subject, "email");
    await until(
      () => world.notification(id),
      (state) => state.routed || state.status !== "scheduled",
    );
    expect(mailsTo("h@example.com").length).toBeLessThanOrEqual(1);
    await until(
      () => world.delivery(delivery),
      (state) => state.status === "sent" || state.status === "exhausted",
    );
  });
});
