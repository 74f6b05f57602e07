// One tenant's flood is its own: thousands of mails wait on a slow server, and another client's goes out at once.
import type { AddressInfo } from "node:net";
import { SMTPServer } from "smtp-server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId } from "../../src/contract/ids.ts";
import { until } from "../support/until.ts";
import { openWorld, type World } from "./world.ts";

const FLOOD = 5_000;
const SLOW_MS = 300;
/** Fewer than would wait for the slow server by themselves, so that it is this bound that holds the flood back. */
const PER_CLIENT = 30;
let world: World;
let slow: SMTPServer;
const taken: string[] = [];

beforeAll(async () => {
  world = await openWorld({ limits: { attempts: { running: 200, perClient: PER_CLIENT, waitingPerClient: 100 } } });
  slow = new SMTPServer({
    disabledCommands: ["STARTTLS", "AUTH"],
    onData(stream, { envelope }, done) {
      stream.resume();
      stream.on("end", () => {
        taken.push(envelope.rcptTo[0]?.address ?? "");
        setTimeout(() => done(), SLOW_MS);
      });
    },
  });
  await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await new Promise<void>((resolve) => slow.close(() => resolve()));
});

const withSlowServer = (name: string): Promise<ClientId> => {
  const { port } = slow.server.address() as AddressInfo;
  return world.client(name, { host: "127.0.0.1", port });
};
/** Attempts that run now, of all clients. */
const running = async () => (await world.workers.status()).queues.attempts.running;
const waitingAttempts = async () => {
  const { rows } = await world.database.pool.query(
    "select count(*)::int as count from jobs.job where name in ('attempts', 'later') and state in ('created', 'active')",
  );
  return Number(rows[0]?.count);
};

describe("fairness", () => {
  test("the first mail of another client goes out within the next batch, on its own server and on the same one", async () => {
    const flooder = await withSlowServer("Flooder");
    for (let n = 0; n < 5; n += 1) {
      await world.notify(
        flooder,
        "email",
        Array.from({ length: FLOOD / 5 }, (_, k) => `flood-${n}-${k}@example.com`),
      );
    }
    await until(waitingAttempts, (count) => count > FLOOD * 0.9, 60_000);
    const before = taken.length;
    const [other, neighbour] = await Promise.all([world.client("Other"), withSlowServer("Neighbour")]);
    await world.notify(other, "email", ["other@example.com"]);
    await world.notify(neighbour, "email", ["neighbour@example.com"]);
    await until(
      () => world.mailbox.list({ to: "other@example.com" }).length,
      (count) => count === 1,
    );
    await until(
      () => taken,
      (all) => all.includes("neighbour@example.com"),
    );
    expect(taken.indexOf("neighbour@example.com") - before).toBeLessThan(100);
    expect(await waitingAttempts()).toBeGreaterThan(FLOOD * 0.8);
    // The flood goes on meanwhile in all the places that one client may have, and in no more; each of the others has one.
    const now = taken.length;
    let most = 0;
    await until(async () => {
      most = Math.max(most, await running());
      return taken.length > now + 50 && most >= PER_CLIENT;
    });
    expect(most).toBeLessThanOrEqual(PER_CLIENT + 2);
  }, 120_000);
});
