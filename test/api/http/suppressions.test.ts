// The list of addresses that a client's mails do not go to, what puts them there, and what becomes of mails to them.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { recordReport } from "../../../src/app/delivery-reports.ts";
import type { ClientId } from "../../../src/contract/ids.ts";
import type { MailReport } from "../../../src/domain/delivery-reports.ts";
import { type Api, type Body, mails, newClient, notificationUntil } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api & { readonly id: string };
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const send = async (to: string, more: Body = {}): Promise<Body> => {
  const about = { type: "email", to_email: to, subject: "Hello", content: "Hello" };
  const { body, status } = await api.post("/notifications", { ...about, ...more });
  expect(status, JSON.stringify(body)).toBe(202);
  return notificationUntil(api, body.id, (one) => !["pending", "processing"].includes(one.status));
};
let made = 0;
const report = (delivery: string, changes: Partial<MailReport>, client = api.id) => {
  made += 1;
  const nothing = { bounce: null, code: null, message: null, address: null, providerMessageId: null, happenedAt: null };
  const source = { client: client as ClientId, provider: "mailer" };
  return recordReport(server.services, source, { id: `r${made}`, kind: "delivered", delivery, ...nothing, ...changes });
};
const HARD = { kind: "bounced", bounce: "hard", code: "unknown_recipient", message: "550 no such user" } as const;

describe("the list", () => {
  test("takes addresses by hand, shows them in lower case, and gives them up again", async () => {
    const put = await api.put("/suppressions/Former@Example.com", { reason: "manual" });
    expect(put.status).toBe(201);
    expect(put.body).toEqual({
      ...{ email: "former@example.com", reason: "manual", category: null, delivery_id: null },
      created_at: expect.any(String),
    });
    const again = await api.put("/suppressions/former@example.com", { reason: "manual" });
    expect({ status: again.status, body: again.body }).toEqual({ status: 200, body: put.body });
    const onlyNew = { "if-none-match": "*" };
    const there = await api.call("PUT", "/suppressions/former@example.com", { reason: "manual" }, onlyNew);
    expect([there.status, there.body.code]).toEqual([412, "precondition_failed"]);
    expect((await api.get("/suppressions/FORMER@example.com")).body).toEqual(put.body);
    expect((await api.get("/suppressions?search=ORMER@")).body).toEqual({ data: [put.body], next_cursor: null });
    expect((await api.get("/suppressions?reason=bounced,complained")).body.data).toEqual([]);
    expect((await send("former@EXAMPLE.com")).deliveries[0]).toMatchObject({
      ...{ status: "suppressed", attempt_count: 0, error: { code: "suppressed" } },
    });
    expect((await api.delete("/suppressions/former@example.com")).status).toBe(204);
    expect((await api.get("/suppressions/former@example.com")).status).toBe(404);
    expect((await api.delete("/suppressions/former@example.com")).status).toBe(404);
    expect((await send("former@example.com")).status).toBe("sent");
    const anew = await api.call("PUT", "/suppressions/former@example.com", {}, onlyNew);
    expect(anew.status).toBe(201);
    await api.delete("/suppressions/former@example.com");
  });

  test("is a client's own", async () => {
    await api.put("/suppressions/own@example.com", { reason: "manual" });
    const other = await newClient(server.url);
    expect((await other.get("/suppressions/own@example.com")).status).toBe(404);
    expect((await other.get("/suppressions")).body.data).toEqual([]);
    expect((await other.delete("/suppressions/own@example.com")).status).toBe(404);
    expect((await api.get("/suppressions/own@example.com")).status).toBe(200);
  });

  test("refuses what is no address, and other reasons", async () => {
    expect((await api.put("/suppressions/nobody", { reason: "manual" })).body.code).toBe("validation_failed");
    expect((await api.put("/suppressions/a@example.com", { reason: "bounced" })).status).toBe(422);
    expect((await api.get("/suppressions?reason=spite")).status).toBe(422);
  });
});

describe("what is reported of a mail", () => {
  test("a lasting bounce makes it bounced and suppresses the address; the next mail there is not attempted", async () => {
    const { id, deliveries } = await send("gone@example.com");
    const delivery = deliveries[0].id;
    expect(await report(delivery, HARD)).toBe("recorded");
    const bounced = await notificationUntil(api, id, (one) => one.status !== "sent");
    expect(bounced.status).toBe("failed");
    expect(bounced.deliveries[0]).toMatchObject({
      ...{ status: "bounced", error: { code: "unknown_recipient", message: "550 no such user" } },
    });
    expect((await api.get("/suppressions/gone@example.com")).body).toMatchObject({
      ...{ reason: "bounced", category: null, delivery_id: delivery },
    });
    const next = await send("Gone@example.com", { priority: "critical" });
    expect(next.status).toBe("suppressed");
    expect(await mails(server.url, "gone@example.com")).toHaveLength(1);
    const timeline = await api.get(`/notifications/${id}/timeline`);
    const last = timeline.body.data.at(-1);
    expect(last).toMatchObject({ type: "DeliveryReported", data: { kind: "bounced", bounce: "hard", to: "bounced" } });
  });

  test("comes again, and counts once: what was taken off the list meanwhile does not come back", async () => {
    const { id, deliveries } = await send("twice@example.com");
    const same = { ...HARD, id: "the-same" };
    await report(deliveries[0].id, same);
    await api.delete("/suppressions/twice@example.com");
    expect(await report(deliveries[0].id, same)).toBe("recorded");
    expect((await api.get("/suppressions/twice@example.com")).status).toBe(404);
    const timeline = await api.get(`/notifications/${id}/timeline`);
    expect(timeline.body.data.filter((event: Body) => event.type === "DeliveryReported")).toHaveLength(1);
  });

  test("of a copy is in the timeline, and suppresses the copy alone", async () => {
    const { id, deliveries } = await send("main@example.com", { bcc: ["copy@example.com"] });
    await report(deliveries[0].id, { ...HARD, address: "COPY@example.com" });
    expect((await api.get("/suppressions/copy@example.com")).body.reason).toBe("bounced");
    expect((await api.get("/suppressions/main@example.com")).status).toBe(404);
    expect((await api.get(`/notifications/${id}`)).body.status).toBe("sent");
    expect((await send("main@example.com", { bcc: ["copy@example.com"], subject: "Second" })).status).toBe("sent");
    const [second] = await mails(server.url, "main@example.com");
    expect(second.subject).toBe("Second");
    expect(await mails(server.url, "copy@example.com")).toHaveLength(1);
  });

  test("a soft bounce says why, and changes no status; rejected is bounced, and suppresses nothing", async () => {
    const { id, deliveries } = await send("full@example.com");
    await report(deliveries[0].id, { kind: "bounced", bounce: "soft", code: "mailbox_full" });
    const soft = await notificationUntil(api, id, (one) => one.deliveries[0].error !== null);
    expect(soft.deliveries[0]).toMatchObject({ status: "sent", error: { code: "mailbox_full" } });
    await report(deliveries[0].id, { kind: "bounced", bounce: "rejected", code: "spam" });
    const rejected = await notificationUntil(api, id, (one) => one.deliveries[0].status === "bounced");
    expect(rejected.deliveries[0].error.code).toBe("spam");
    expect((await api.get("/suppressions/full@example.com")).status).toBe(404);
  });

  test("opens say when; what a provider calls unsubscribed holds for all categories, but not for critical mails", async () => {
    const { id, deliveries } = await send("tired@example.com", { category: "news" });
    await report(deliveries[0].id, { kind: "opened", happenedAt: 1_700_000_000_000 });
    await report(deliveries[0].id, { kind: "unsubscribed" });
    const opened = await notificationUntil(api, id, (one) => one.deliveries[0].opened_at !== null);
    expect(opened.deliveries[0]).toMatchObject({ status: "sent", opened_at: "2023-11-14T22:13:20.000Z" });
    const next = await send("tired@example.com", { category: "orders" });
    expect(next.deliveries[0]).toMatchObject({ status: "suppressed", error: { code: "unsubscribed" } });
    expect((await send("tired@example.com", { priority: "critical" })).status).toBe("sent");
  });

  test("is nothing to another client, nor of what is no mail, or was never sent", async () => {
    const { id, deliveries } = await send("safe@example.com");
    const other = await newClient(server.url);
    expect(await report(deliveries[0].id, HARD, other.id)).toBe("unknown");
    const { provider_message_id: messageId } = deliveries[0];
    const found = { ...HARD, delivery: null as never, providerMessageId: messageId };
    expect(await report("", found, other.id)).toBe("unknown");
    expect(await report("dlv_none", HARD)).toBe("unknown");
    expect((await api.get(`/notifications/${id}`)).body.deliveries[0].status).toBe("sent");
    expect((await api.get("/suppressions/safe@example.com")).status).toBe(404);
    expect(await report("", { ...found, kind: "delivered", bounce: null })).toBe("recorded");
    await notificationUntil(api, id, (one) => one.status === "delivered");
  });
});
