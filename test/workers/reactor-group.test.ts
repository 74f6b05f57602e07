// The reactors' lease: who lost it, and does not know yet, makes no jobs.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { openWorld } from "./world.ts";

/** Longer than a holder takes to look after its lease. */
const NOTICED_MS = 1_500;

test("jobs of a batch whose lease is over are not made", async () => {
  await using world = await openWorld();
  const { pool } = world.database;
  const client = await world.client();
  await world.notify(client, "email", ["before@example.com"]);
  const count = async (to: string) => world.mailbox.list({ to }).length;
  for (let tries = 0; (await count("before@example.com")) === 0 && tries < 500; tries += 1) await sleep(20);
  expect(await count("before@example.com")).toBe(1);
  const position = async () =>
    (await pool.query("select position from jobs.reactor_checkpoints where name = 'reactors'")).rows[0].position;
  // Another process has taken the lease over, and does nothing yet.
  const taken = await pool.query(
    "update jobs.leases set generation = generation + 1, holder = 'another', expires_at = now() + interval '1 h' where name = 'reactors'",
  );
  expect(taken.rowCount).toBe(1);
  const before = await position();
  await world.notify(client, "email", ["after@example.com"]);
  await sleep(NOTICED_MS);
  expect(await position()).toBe(before);
  expect(await count("after@example.com")).toBe(0);
});
