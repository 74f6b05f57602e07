// WebSocket notifications: acknowledged, ignored, or to somebody who is away; and the one fallback mail.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { notificationUntil, tokenOf, until } from "./support/api.ts";
import type { Opened } from "./support/setups.ts";
import { connect } from "./support/socket.ts";

/** Longer than an acknowledgement takes to come on a busy machine. */
const FALLBACK_SECONDS = 6;

/** The tests of them, on a set-up with a client. */
export function websocketNotifications(given: Opened): void {
  const notify = async (user: string, afterSeconds: number) => {
    await given.api.put(`/users/${user}`, { name: user, email: `${user}@example.com` });
    const { body, status } = await given.api.post("/notifications", {
      type: "websocket",
      user_ids: [user],
      subject: "News",
      content: "Something happened",
      email_fallback: { enabled: true, after_seconds: afterSeconds },
    });
    expect(status).toBe(202);
    return body;
  };

  test.concurrent("who is there and acknowledges has it delivered, and gets no mail", async () => {
    await using socket = await connect(given.setup.url, await tokenOf(given.api, "ann"));
    await using other = await connect(given.setup.other, await tokenOf(given.api, "ann"));
    const begun = Date.now();
    const asked = await notify("ann", FALLBACK_SECONDS);
    const frame = await socket.next((one) => one.type === "notification");
    expect(frame).toMatchObject({ notification_id: asked.id, subject: "News", content: "Something happened" });
    socket.send({ type: "ack", delivery_id: frame.delivery_id, ref: "1" });
    await socket.next((one) => one.type === "ok" && one.ref === "1");
    await other.next((one) => one.type === "acked" && one.delivery_id === frame.delivery_id);
    const delivered = await notificationUntil(given.api, asked.id, (body) => body.status === "delivered");
    expect(delivered).toMatchObject({ status: "delivered", deliveries: [{ status: "delivered", fallback_of: null }] });
    await sleep(begun + (FALLBACK_SECONDS + 1) * 1_000 - Date.now());
    expect(await given.setup.mails("ann@example.com")).toEqual([]);
  });

  test.concurrent("who is there and stays silent gets exactly one mail, after the time", async () => {
    await using socket = await connect(given.setup.url, await tokenOf(given.api, "ben"));
    const begun = Date.now();
    const asked = await notify("ben", 1);
    await socket.next((one) => one.type === "notification");
    const [mail] = await until(
      () => given.setup.mails("ben@example.com"),
      (all) => all.length > 0,
    );
    expect(Date.now() - begun).toBeGreaterThanOrEqual(1_000);
    expect(mail).toMatchObject({ subject: "News" });
    const sent = await notificationUntil(given.api, asked.id, (body) => body.status === "sent");
    expect(sent.deliveries.map((one: { status: string }) => one.status).sort()).toEqual(["fell_back", "sent"]);
    await sleep(1_500);
    expect(await given.setup.mails("ben@example.com")).toHaveLength(1);
  });

  test.concurrent("who is away gets exactly one mail, is offered it on connecting, and a late acknowledgement says when it was read", async () => {
    const asked = await notify("cat", 1);
    await notificationUntil(given.api, asked.id, (body) => body.status === "sent");
    await using socket = await connect(given.setup.other, await tokenOf(given.api, "cat"));
    const frame = await socket.next((one) => one.type === "notification");
    socket.send({ type: "ack", delivery_id: frame.delivery_id, ref: "1" });
    await socket.next((one) => one.type === "ok" && one.ref === "1");
    const read = await notificationUntil(given.api, asked.id, (body) =>
      body.deliveries.some((one: { read_at: string | null }) => one.read_at !== null),
    );
    expect(read.status).toBe("sent");
    await sleep(500);
    expect(await given.setup.mails("cat@example.com")).toHaveLength(1);
  });

  test.concurrent("an open delivery is sent again on every connect, until it is acknowledged", async () => {
    const asked = await notify("dan", 600);
    for (let n = 0; n < 2; n += 1) {
      await using socket = await connect(given.setup.url, await tokenOf(given.api, "dan"));
      expect(await socket.next((one) => one.type === "notification")).toMatchObject({ notification_id: asked.id });
    }
    const { body } = await given.api.get(`/notifications/${asked.id}`);
    const acknowledged = await given.api
      .as(await tokenOf(given.api, "dan"))
      .post(`/deliveries/${body.deliveries[0].id}/ack`);
    expect(acknowledged.status).toBe(200);
    await using later = await connect(given.setup.other, await tokenOf(given.api, "dan"));
    await sleep(300);
    expect(later.frames.filter((frame) => frame.type === "notification")).toEqual([]);
  });
}
