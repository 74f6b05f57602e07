// Emails, from a notification's event to the mailbox.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId } from "../../src/contract/ids.ts";
import { seal } from "../../src/domain/event.ts";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import { mailServer, reply } from "../channels/email/mail-server.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "./world.ts";

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

  test("what was erased is not sent: the mail ends exhausted", async () => {
    const id = await world.notify(client, "email", ["h@example.com"], { sendAt: Date.now() + 600 });
    const subject = await world.keyring.subjectOfAddress(client, "h@example.com");
    await world.restart();
    await world.keyring.destroy(subject);
    await world.startWorkers();
    const delivery = deliveryId(id, subject, "email");
    await until(
      () => world.delivery(delivery),
      (state) => state.status === "exhausted",
    );
    expect(mailsTo("h@example.com")).toEqual([]);
  });

  test("without a provider and without a mailbox it is tried again, in case one is configured meanwhile", async () => {
    await using bare = await openWorld({ withMailbox: false });
    const shop = await bare.client();
    const id = await bare.notify(shop, "email", ["i@example.com"]);
    const delivery = deliveryId(id, await bare.keyring.subjectOfAddress(shop, "i@example.com"), "email");
    await until(
      () => bare.delivery(delivery),
      (state) => state.status === "exhausted",
    );
    const failed = (await bare.events(delivery)).filter((event) => event.type === "DeliveryAttemptFailed");
    expect(failed.map((event) => event.data.error)).toEqual(
      failed.map(() => ({ open: expect.objectContaining({ code: "email_provider_not_configured" }) })),
    );
    expect(failed).toHaveLength(3);
  });

  test("content that its sender calls plain is plain, whatever it looks like", async () => {
    const plain = "Error <code=503> in <b>module</b>";
    await world.notify(client, "email", ["plain@example.com"], { content: seal(plain), contentType: "text" });
    const [mail] = await until(
      () => mailsTo("plain@example.com"),
      (mails) => mails.length > 0,
    );
    expect(mail).toMatchObject({ text: expect.stringContaining(plain), html: null });
  });

  test("a copy that was deferred is tried again, it alone, by a worker that knows nothing of the first attempt", async () => {
    let later = true;
    await using world = await openWorld({ scheduleMs: [3_000, 3_000] });
    await using server = await mailServer({
      onRcptTo: ({ address }, _session, callback) => {
        callback(address.startsWith("cc") && later ? reply(451, "4.7.1 greylisted") : null);
      },
    });
    const shop = await world.client("Copies", { host: "127.0.0.1", port: server.port });
    const copies = { cc: seal(["cc@example.com"]), bcc: seal(["bcc@example.com"]) };
    const id = await world.notify(shop, "email", ["to@example.com"], copies);
    const delivery = deliveryId(id, await world.keyring.subjectOfAddress(shop, "to@example.com"), "email");
    await until(
      () => world.delivery(delivery),
      (state) => state.status === "retrying",
    );
    later = false;
    await world.restart();
    await world.startWorkers();
    await until(
      () => world.delivery(delivery),
      (state) => state.status === "sent",
      15_000,
    );
    expect(server.received.map(({ to }) => to)).toEqual([["to@example.com", "bcc@example.com"], ["cc@example.com"]]);
    const ids = new Set(server.received.map(({ mail }) => mail.messageId));
    expect([...ids]).toEqual([`<${delivery}@example.com>`]);
    const failed = (await world.events(delivery)).find((event) => event.type === "DeliveryAttemptFailed");
    expect(failed?.data.recipients.map(({ outcome, status }) => [outcome, status])).toEqual([
      ["taken", 250],
      ["deferred", 451],
      ["taken", 250],
    ]);
  });
});
