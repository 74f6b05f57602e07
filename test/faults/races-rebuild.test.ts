// A rebuild while the live group goes on, in every order of their statements: the tables are what the log says, row by row.
import { afterAll, beforeAll, expect, test } from "vitest";
import { readGroup } from "../../src/projections/group.ts";
import { createProjector } from "../../src/projections/projector.ts";
import { rebuild } from "../../src/projections/rebuild.ts";
import { writerTo } from "../projections/log.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { testDatabase } from "../support/postgres.ts";
import fc from "../support/seed.ts";
import { orders } from "./support/interleaving.ts";
import { bothLedgers, ledger, movesOf, newLedger, roomWriter } from "./support/ledger.ts";
import { racingStore } from "./support/racing-store.ts";
import { scheduledTimers } from "./support/scheduled-timers.ts";
import { SteppedDatabase } from "./support/stepped-database.ts";

const keyring = memoryKeyring();
const logger = { warn: () => undefined };
let stepped: SteppedDatabase;
beforeAll(async () => {
  stepped = new SteppedDatabase(await testDatabase(), ["live", "second", "rebuild"]);
});
afterAll(() => stepped[Symbol.asyncDispose]());

const room = fc.nat({ max: 1 });
const scene = fc.record({
  /** In the log when the group is built, and what is written meanwhile, by room. */
  before: fc.array(room, { maxLength: 4 }),
  meanwhile: fc.array(room, { minLength: 1, maxLength: 8, size: "max" }),
  rest: fc.nat({ max: 8 }),
  second: fc.boolean(),
  rebuilds: fc.array(fc.record({ names: fc.constantFrom("all" as const, ["trails"]), verify: fc.boolean() }), {
    minLength: 1,
    maxLength: 2,
  }),
  lost: fc.array(fc.boolean(), { maxLength: 6 }),
});
type Scene = typeof scene extends fc.Arbitrary<infer S> ? S : never;

async function race(scheduler: fc.Scheduler, { before, meanwhile, rest, second, rebuilds, lost }: Scene) {
  const { database } = stepped;
  const interleaving = stepped.interleaving(scheduler);
  const log = await openInMemoryLog();
  const write = roomWriter(writerTo(log, keyring));
  for (const one of before) await write(one);
  await newLedger({ pool: database.pool, store: log, keyring, logger, projections: ledger });
  using _timers = scheduledTimers(interleaving, 10_000);
  const store = racingStore(log, interleaving, { appends: [], reads: [] });
  const answers = lost.values();
  const partsOf = (process: string) => ({
    ...{ store, keyring, logger, projections: ledger },
    pool: stepped.pool(process, interleaving, () => answers.next().value ?? false),
  });
  const projectors = (second ? ["live", "second"] : ["live"]).map((name) => createProjector(partsOf(name)));
  for (const one of projectors) await one.start();

  const writing = async () => {
    for (const one of meanwhile) {
      for (let steps = 0; steps <= rest; steps += 1) await interleaving.step("an event comes");
      await write(one);
    }
  };
  const differences: unknown[] = [];
  const rebuilding = async () => {
    for (const options of rebuilds) {
      // One whose answer was lost may have been done, or not: the live tables are right all the same.
      const rebuilt = await rebuild(partsOf("rebuild"), options).catch((error: unknown) => {
        if (!String(error).includes("the connection was cut")) throw error;
      });
      differences.push(...(rebuilt?.differences ?? []));
    }
  };
  await interleaving.until(Promise.all([writing(), rebuilding()]));
  const tail = await log.tail();
  const caughtUp = async () => {
    while ((await readGroup(database.pool))?.checkpoint !== tail) await interleaving.step("a look");
  };
  await interleaving.until(caughtUp());
  await interleaving.until(Promise.all(projectors.map((one) => one[Symbol.asyncDispose]())));
  return { differences, moves: await movesOf(database), ...(await bothLedgers(database, log, keyring)) };
}

test("nothing is lost, folded twice or out of order", { timeout: orders.timeout }, async () => {
  const swapped = { times: 0 };
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), scene, async (scheduler, drawn) => {
      const { differences, moves, kept, folded } = await race(scheduler, drawn);
      expect(kept).toEqual(folded);
      expect(differences).toEqual([]);
      for (const { before, after } of moves) expect(after >= (before ?? "")).toBe(true);
      swapped.times += moves.filter(({ process }) => process === "rebuild").length;
    }),
    orders.of(8, 500),
  );
  expect(swapped.times).toBeGreaterThan(0);
});
