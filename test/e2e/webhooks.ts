// Webhooks against receivers that fail, stall, flood and redirect.
import type { IncomingMessage, ServerResponse } from "node:http";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { bodyOf, httpServer } from "../channels/servers.ts";
import { type Body, notificationUntil } from "./support/api.ts";
import type { Opened } from "./support/setups.ts";

type Received = { readonly headers: Record<string, string>; readonly body: string };
type Receiver = AsyncDisposable & { readonly url: string; readonly received: Received[] };

/** A receiver that answers the n-th request (from 0) as told. */
async function receiver(
  answer: (n: number, response: ServerResponse, request: IncomingMessage) => void,
): Promise<Receiver> {
  const received: Received[] = [];
  const http = await httpServer(async (request, response) => {
    const body = await bodyOf(request);
    received.push({ headers: request.headers as Record<string, string>, body });
    answer(received.length - 1, response, request);
  });
  const close = () => http[Symbol.asyncDispose]();
  return { url: `http://127.0.0.1:${http.port}/hook`, received, [Symbol.asyncDispose]: close };
}

/** The tests of them, on a set-up with a client whose RETRY_SCHEDULE is 1s,1s. */
export function webhooks(given: Opened): void {
  const send = async (url: string): Promise<Body> => {
    const { status, body } = await given.api.post("/notifications", {
      type: "webhook",
      url,
      content: { hello: "world" },
    });
    expect(status).toBe(202);
    return body;
  };
  const status = (wanted: string) => (body: Body) => body.status === wanted;

  test.concurrent("one that fails twice, then answers 200: three attempts, one webhook-id, a signature that verifies", async () => {
    await using target = await receiver((n, response) => response.writeHead(n < 2 ? 500 : 200).end("thanks"));
    const asked = await send(target.url);
    const done = await notificationUntil(given.api, asked.id, status("delivered"));
    expect(done.deliveries[0]).toMatchObject({ status: "delivered", attempt_count: 3 });
    expect(done.deliveries[0].attempts.map((one: Body) => one.outcome)).toEqual([
      "transient",
      "transient",
      "succeeded",
    ]);
    const timeline = await given.api.get(`/notifications/${asked.id}/timeline`);
    const started = timeline.body.data.filter((event: Body) => event.type === "DeliveryAttemptStarted");
    expect(started).toHaveLength(3);
    expect(new Set(target.received.map((one) => one.headers["webhook-id"]))).toEqual(new Set([done.deliveries[0].id]));
    for (const { body, headers } of target.received) {
      const verified = new Webhook(given.api.secret).verify(body, headers) as Body;
      expect(verified).toMatchObject({
        type: "notification",
        data: { notification_id: asked.id, content: { hello: "world" } },
      });
    }
  });

  test.concurrent("one that always fails ends exhausted, and retry starts it again", async () => {
    let failing = true;
    await using target = await receiver((_n, response) => response.writeHead(failing ? 503 : 204).end());
    const asked = await send(target.url);
    const failed = await notificationUntil(given.api, asked.id, status("failed"));
    expect(failed.deliveries[0]).toMatchObject({ status: "exhausted", attempt_count: 3 });
    failing = false;
    expect((await given.api.post(`/notifications/${asked.id}/retry`)).status).toBe(200);
    const done = await notificationUntil(given.api, asked.id, status("delivered"));
    expect(done.deliveries[0].attempts.map((one: Body) => one.number)).toEqual([1, 2, 3, 4]);
    expect((await given.api.post(`/notifications/${asked.id}/retry`)).body.code).toBe("nothing_to_retry");
  });

  test.concurrent("receivers that stall, flood or redirect to a loopback address hold nothing up and get nowhere", async () => {
    let inside = 0;
    await using hidden = await receiver((_n, response) => {
      inside += 1;
      response.end();
    });
    await using stalling = await receiver(() => undefined);
    await using flooding = await receiver((_n, response) => {
      response.writeHead(500);
      const flood = () => {
        while (!response.destroyed && response.write("x".repeat(65_536)));
      };
      response.on("drain", flood);
      flood();
    });
    await using redirecting = await receiver((_n, response) => response.writeHead(302, { location: hidden.url }).end());
    await using good = await receiver((_n, response) => response.end());

    const bad = await Promise.all([stalling, flooding, redirecting].map((target) => send(target.url)));
    const fine = await send(good.url);
    const delivered = await notificationUntil(given.api, fine.id, status("delivered"));
    expect(delivered.status).toBe("delivered");
    const [stalled, flooded, redirected] = await Promise.all([
      notificationUntil(
        given.api,
        bad[0].id,
        (body) => body.deliveries[0]?.attempt_count >= 1 && body.deliveries[0].status !== "sending",
        60_000,
      ),
      notificationUntil(given.api, bad[1].id, status("failed"), 60_000),
      notificationUntil(given.api, bad[2].id, status("failed"), 60_000),
    ]);
    expect(stalled.deliveries[0].attempts[0]).toMatchObject({ outcome: "transient", error: { code: "timeout" } });
    expect(flooded.deliveries[0]).toMatchObject({ status: "exhausted" });
    expect(redirected.deliveries[0].attempts[0]).toMatchObject({ outcome: "transient", response: { status: 302 } });
    expect(inside).toBe(0);
  }, 180_000);
}
