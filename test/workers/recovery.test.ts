// After a crash, a stop, or the loss of `jobs` and `read`: what is unfinished is finished, once.
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import { JobQueue } from "../../src/workers/queue.ts";
import { until } from "../support/until.ts";
import { receiver, statusIs, webhookOf } from "./webhooks.ts";
import { openWorld } from "./world.ts";

const POLICY = { policy: { scheduleMs: [50, 50], jitter: 0 }, random: 0 };

describe("recovery", () => {
  test("an attempt that a crashed worker left open: unknown when its lease ends, then a retry with the same id", async () => {
    await using world = await openWorld({ limits: { sweepEveryMs: 200 } });
    const client = await world.client();
    let answer = 503;
    await using target = await receiver(() => answer);
    const id = await webhookOf(world, client, target.url);
    await until(() => world.delivery(id), statusIs("retrying"));
    await world.stopWorkers();
    const { n } = await until(
      () => world.delivery(id),
      (state) => state.status !== "none",
    ).then((state) => (state.status === "none" ? { n: 0 } : state));
    // What the log holds when a process ends between start and outcome; its job is gone with the schema.
    const crashed = { type: "StartAttempt", n, provider: "webhook", leaseMs: 700, domain: null, ...POLICY } as const;
    await world.onDelivery(client, id, { ...crashed, at: Date.now() + 60 });
    expect(await world.delivery(id)).toMatchObject({ status: "sending" });
    answer = 200;
    await world.restart("jobs");
    await world.startWorkers();
    await until(() => world.delivery(id), statusIs("delivered"));
    const kinds = (await world.events(id)).flatMap((event) =>
      event.type === "DeliveryAttemptFailed" ? [event.data.kind] : [],
    );
    expect(kinds.at(-1)).toBe("unknown");
    expect(new Set(target.ids)).toEqual(new Set([id]));
  });

  test("workers that stop record what is under way as unknown, and it goes on with the next ones", async () => {
    await using world = await openWorld();
    const client = await world.client();
    let answer: number | null = null;
    await using target = await receiver(() => answer);
    const id = await webhookOf(world, client, target.url);
    await until(
      () => target.ids.length,
      (count) => count === 1,
    );
    await world.stopWorkers();
    expect(await world.types(id)).toEqual([
      ...["DeliveryRequested", "DeliveryAttemptStarted", "DeliveryAttemptFailed", "DeliveryRetryScheduled"],
    ]);
    answer = 200;
    await world.startWorkers();
    await until(() => world.delivery(id), statusIs("delivered"));
    expect(target.ids).toEqual([id, id]);
  });

  test("an attempt is believed to be under way for as long as its channel takes, and a margin", async () => {
    await using world = await openWorld();
    const client = await world.client();
    await using target = await receiver(() => 204);
    const id = await webhookOf(world, client, target.url);
    await until(() => world.delivery(id), statusIs("delivered"));
    const started = (await world.events(id)).find(({ type }) => type === "DeliveryAttemptStarted");
    if (started?.type !== "DeliveryAttemptStarted") throw new Error("it was never attempted");
    // The world's webhooks take a second at most.
    expect(started.data.leaseUntil - started.meta.at).toBe(16_000);
  });

  test("work that a crashed worker had in hand is done at once", async () => {
    await using world = await openWorld({ startWorkers: false });
    const client = await world.client();
    // The event becomes a job, and nobody handles it.
    await world.startWorkers({ tasks: { running: 0, perClient: 0, waitingPerClient: 0 } });
    await world.notify(client, "email", ["a@example.com"]);
    const waiting = async () => (await world.database.pool.query("select from jobs.job where name = 'tasks'")).rowCount;
    await until(waiting, (count) => count === 1);
    await world.stopWorkers();
    // Another process takes it, then is gone.
    const jobs = await JobQueue.open({ pool: world.database.pool, logger: pino({ level: "silent" }), now: Date.now });
    expect(await jobs.fetch("tasks", 10, [])).toHaveLength(1);
    await jobs[Symbol.asyncDispose]();
    await world.startWorkers();
    const mails = () => world.mailbox.list({ to: "a@example.com" }).length;
    await until(mails, (count) => count === 1, 3_000);
  });

  test("with `jobs` and `read` dropped, everything unfinished is finished once", async () => {
    await using world = await openWorld({ scheduleMs: [1_000, 300, 300, 300, 300] });
    const client = await world.client();
    let answer = 503;
    await using target = await receiver(() => answer);
    const retrying = await webhookOf(world, client, target.url);
    await until(() => world.delivery(retrying), statusIs("retrying"));
    await world.user(client, "ann", "ann@example.com");
    const fallback = { to: null, subject: null, content: null, afterMs: 1_000 };
    const waiting = await world.notify(client, "websocket", ["ann"], { fallback });
    const subject = await world.keyring.subjectOfUser(client, "ann");
    await until(() => world.delivery(deliveryId(waiting, subject, "websocket")), statusIs("pending"));
    await world.notify(client, "email", ["later@example.com"], { sendAt: Date.now() + 1_000 });
    await world.stopWorkers();
    const before = target.ids.length;
    // Released while nobody routes.
    await world.notify(client, "email", ["now@example.com", "too@example.com"]);
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    answer = 200;
    await world.restart("jobs", "read");
    await world.startWorkers();
    const counts = () =>
      ["ann", "later", "now", "too"].map((name) => world.mailbox.list({ to: `${name}@example.com` }).length);
    await until(counts, (all) => all.every((count) => count > 0));
    await until(() => world.delivery(retrying), statusIs("delivered"));
    await world.startWorkers();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(counts()).toEqual([1, 1, 1, 1]);
    expect(target.ids).toHaveLength(before + 1);
  });

  test("two processes share the work: everything is done once", async () => {
    await using world = await openWorld();
    await using other = await world.anotherProcess();
    const client = await world.client();
    const to = Array.from({ length: 120 }, (_, n) => `user${n}@example.com`);
    for (let from = 0; from < to.length; from += 30) await world.notify(client, "email", to.slice(from, from + 30));
    await until(
      () => world.mailbox.list().length,
      (count) => count >= to.length,
      20_000,
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(to.map((one) => world.mailbox.list({ to: one }).length)).toEqual(to.map(() => 1));
    expect((await other.status()).reactors.lastError).toBeNull();
  });

  test("reactors that lost their checkpoint for a while are well again once they have it", async () => {
    await using world = await openWorld();
    const client = await world.client();
    const place = async (position: string) =>
      void (await world.database.pool.query("update jobs.reactor_checkpoints set position = $1", [position]));
    const lastError = async () => (await world.workers.status()).reactors.lastError;
    await place("other.0000000000000001"); // as after a backup was put back
    await world.notify(client, "email", ["away@example.com"]);
    await until(lastError, (error) => error !== null);
    await place(await world.store.tail().then((tail) => tail.replace(/.{16}$/, "0000000000000001")));
    await until(
      () => world.mailbox.list({ to: "away@example.com" }).length,
      (count) => count === 1,
    );
    await until(lastError, (error) => error === null);
  });

  test("a checkpoint of another log stops the start", async () => {
    await using world = await openWorld();
    await world.stopWorkers();
    await world.database.pool.query("update jobs.reactor_checkpoints set position = 'other.0000000000000001'");
    await expect(world.startWorkers()).rejects.toThrow(/another log/);
  });
});
