// A flood of what a vendor reports, beside mails that are sent: as SendGrid posts it, which repeats what is not answered 2xx.
import { createSign, generateKeyPairSync } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { sendgridApi } from "../../channels/email/fakes/sendgrid.ts";
import { type Body, newClient, notificationUntil, until } from "../../e2e/support/api.ts";
import { startTestServer } from "../../support/server.ts";
import { sized, sizedTimeout } from "../../support/size.ts";

const SECONDS = sized(1, 10);
const EVENTS_A_SECOND = sized(160, 1_000);
const EVENTS_A_POST = sized(40, 100);
const KINDS = ["delivered", "open", "click", "spamreport"] as const;
/** Each is reported as all of that. */
const MAILS = (SECONDS * EVENTS_A_SECOND) / KINDS.length;
const MAILS_A_NOTIFICATION = 500;
const WAIT_MS = sizedTimeout(30_000, 300_000);
const AGAIN_MS = 1_000;

test("a flood of reports beside mails that are sent loses none, and doubles none", {
  timeout: 3 * WAIT_MS,
}, async () => {
  await using server = await startTestServer();
  const api = await newClient(server.url);
  await using vendor = await sendgridApi();
  const keys = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const webhook_public_key = keys.publicKey.export({ format: "der", type: "spki" }).toString("base64");
  const config = { base_url: vendor.origin, api_key: "SG.sendgrid-secret", webhook_public_key };
  const about = { type: "sendgrid", config, from_email: "a@example.com" };
  const { body: provider } = await api.put("/email-providers/sendgrid", about);
  const url = server.url + new URL(provider.events_url).pathname;
  const sendTo = async (name: string, count: number): Promise<Body> => {
    const to = Array.from({ length: count }, (_, n) => ({ email: `${name}${n}@example.com` }));
    const { body } = await api.post("/notifications", { type: "email", to, subject: "Hello", content: "Hello" });
    return notificationUntil(api, body.id, (one) => one.status === "sent", WAIT_MS);
  };
  for (let from = 0; from < MAILS; from += MAILS_A_NOTIFICATION) {
    await sendTo(`jane${from}-`, Math.min(MAILS_A_NOTIFICATION, MAILS - from));
  }
  const ids: string[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const more: string = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { body }: { body: Body } = await api.get(`/deliveries?channel=email&limit=100${more}`);
    ids.push(...body.data.map((one: Body) => one.id));
    cursor = body.next_cursor;
  }
  expect(ids).toHaveLength(MAILS);

  let repeats = 0;
  const post = async (events: readonly object[]): Promise<void> => {
    const body = JSON.stringify(events);
    for (;;) {
      const timestamp = String(Math.floor(Date.now() / 1_000));
      const signature = createSign("sha256")
        .update(timestamp + body)
        .sign(keys.privateKey, "base64");
      const name = "X-Twilio-Email-Event-Webhook";
      const headers = { [`${name}-Signature`]: signature, [`${name}-Timestamp`]: timestamp };
      const answer = await fetch(url, { method: "POST", body, headers });
      if (answer.ok) return;
      repeats += 1;
      expect([429, 503]).toContain(answer.status);
      await sleep(AGAIN_MS);
    }
  };
  const reports = KINDS.flatMap((event) =>
    ids.map((chatapi_delivery) => ({
      ...{ event, chatapi_delivery, email: "jane@example.com", timestamp: 1_700_000_000 },
      ...{ sg_event_id: `${chatapi_delivery}-${event}`, sg_message_id: "id.filter0001" },
    })),
  );

  const beside = sendTo("joe-", sized(20, 500));
  const begun = performance.now();
  const everyMs = (EVENTS_A_POST * 1_000) / EVENTS_A_SECOND;
  const posts: Promise<void>[] = [];
  for (let from = 0; from < reports.length; from += EVENTS_A_POST) {
    await sleep(Math.max(0, begun + (from / EVENTS_A_POST) * everyMs - performance.now()));
    posts.push(post(reports.slice(from, from + EVENTS_A_POST)));
  }
  await Promise.all(posts);
  const took = Math.round(performance.now() - begun);
  await beside;
  console.log(
    `reports: ${reports.length} posted within ${SECONDS} s were taken after ${took} ms, ${repeats} posts repeated`,
  );

  const count = async () => {
    let found = 0;
    for (let after = ""; ; ) {
      const more = after === "" ? "" : `&cursor=${encodeURIComponent(after)}`;
      const { body } = await api.get(`/audit/events?type=DeliveryReported&limit=100${more}`);
      found += body.data.length;
      if (body.next_cursor === null) return found;
      after = body.next_cursor;
    }
  };
  expect(await until(count, (found) => found >= reports.length, WAIT_MS)).toBe(reports.length);
  await post(reports.slice(0, EVENTS_A_POST));
  expect(await count()).toBe(reports.length);
});
