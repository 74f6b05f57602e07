// Who leads: one at a time, the next when it stops or falls silent, and nothing is written under a lease that is over.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createLeases, holds, Leader, type LeaseTerm } from "../../src/platform/leader.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { until } from "../support/until.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
  await database.pool.query("create schema read");
  await database.pool.query(createLeases("read.leases"));
});
afterAll(() => database[Symbol.asyncDispose]());

const logger = { warn: () => {} };

/** Stands for a lease, and keeps what became of it. */
function candidate(name: string, options: { alone?: boolean; lead?: () => Promise<void> } = {}) {
  const terms: LeaseTerm[] = [];
  let working = 0;
  const leader = new Leader({
    ...{ pool: database.pool, table: "read.leases", name, logger, alone: options.alone ?? false },
    lead: async (term) => {
      await options.lead?.();
      terms.push(term);
      working += 1;
      return {
        [Symbol.asyncDispose]: async () => {
          working -= 1;
        },
      };
    },
  });
  return { leader, terms, working: () => working, [Symbol.asyncDispose]: () => leader[Symbol.asyncDispose]() };
}

const mayWrite = async (term: LeaseTerm): Promise<boolean> => {
  const values: unknown[] = [];
  const condition = holds(term, (value) => `$${values.push(value)}`);
  return (await database.pool.query(`select ${condition} as held`, values)).rows[0].held;
};

/** As when the holder has fallen silent: its time is over. */
const expire = (name: string) =>
  database.pool.query("update read.leases set expires_at = clock_timestamp() where name = $1", [name]);

test("one of two leads; when it stops the other one does, with a higher generation", async () => {
  const first = candidate("stop");
  await first.leader.decided;
  await using second = candidate("stop");
  await second.leader.decided;
  expect([first.working(), second.working()]).toEqual([1, 0]);
  await first[Symbol.asyncDispose]();
  expect(first.working()).toBe(0);
  await until(() => second.working() === 1);
  expect(second.terms[0]?.generation).toBe(2);
});

test("a holder whose time ran out while it was paused may write no more, notices and stops", async () => {
  await using first = candidate("pause");
  await first.leader.decided;
  await using second = candidate("pause");
  await second.leader.decided;
  await expire("pause");
  await until(() => second.working() === 1);
  const [before, after] = [first.terms[0], second.terms[0]];
  if (before === undefined || after === undefined) throw new Error("nobody led");
  expect([await mayWrite(before), await mayWrite(after)]).toEqual([false, true]);
  first.leader.renewNow();
  await until(() => first.working() === 0);
  expect(first.leader.leads).toBe(false);
});

test("a holder that goes on keeps the lease", async () => {
  await using first = candidate("keep");
  await first.leader.decided;
  await using second = candidate("keep");
  await sleep(5_000);
  expect([first.working(), second.working(), first.terms.length]).toEqual([1, 0, 1]);
}, 10_000);

test("who is alone takes what a crashed one left at once", async () => {
  await database.pool.query(
    "insert into read.leases values ('crashed', 'gone', 7, clock_timestamp() + interval '1 hour')",
  );
  await using waiting = candidate("crashed");
  await waiting.leader.decided;
  expect(waiting.working()).toBe(0);
  await using alone = candidate("crashed", { alone: true });
  await alone.leader.decided;
  expect(alone.terms).toMatchObject([{ generation: 8 }]);
});

test("work that cannot begin gives the lease back, and is tried again", async () => {
  let faults = 2;
  await using first = candidate("fault", {
    lead: async () => {
      if (faults > 0) throw new Error(`fault ${faults--}`);
    },
  });
  await first.leader.decided;
  expect(first.leader.lastError).toBe("fault 2");
  await until(() => first.working() === 1);
  expect(first.leader.lastError).toBeNull();
});
