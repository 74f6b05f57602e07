// Projectors that take over from one another by the lease, in every order of their statements: one writes at a time, the
// one that leads, and the tables are what the log says, row by row.
import { afterAll, beforeAll, expect, test } from "vitest";
import { readGroup } from "../../src/projections/group.ts";
import { openReadSide } from "../../src/projections/read-side.ts";
import { writerTo } from "../projections/log.ts";
import { surrounded } from "../projections/setting.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { testDatabase } from "../support/postgres.ts";
import fc from "../support/seed.ts";
import { sized } from "../support/size.ts";
import { orders } from "./support/interleaving.ts";
import { bothLedgers, leasesOf, ledger, movesOf, newLedger, roomWriter } from "./support/ledger.ts";
import { racingStore } from "./support/racing-store.ts";
import { scheduledTimers } from "./support/scheduled-timers.ts";
import { SteppedDatabase } from "./support/stepped-database.ts";

const PROCESSES = ["one", "two", "three"];
const keyring = memoryKeyring();
const logger = { warn: () => undefined };
let stepped: SteppedDatabase;
beforeAll(async () => {
  stepped = new SteppedDatabase(await testDatabase(), PROCESSES);
});
afterAll(() => stepped[Symbol.asyncDispose]());

/** Steps between two looks whether all is done. */
const LOOK_STEPS = 100;

const rest = fc.nat({ max: 8 });
const scene = fc.record({
  processes: fc.integer({ min: 2, max: PROCESSES.length }),
  meanwhile: fc.array(fc.nat({ max: 1 }), { minLength: 1, maxLength: 8, size: "max" }),
  rest,
  /** The lease runs out under its holder, who is slow to notice and has something to write: after so many steps each. */
  lapses: fc.array(fc.record({ steps: rest, event: fc.nat({ max: 4 }) }), { minLength: 1, maxLength: 4, size: "max" }),
  /** The first process stops in order after so many steps; or stays. */
  stops: fc.option(rest),
  lost: fc.array(fc.boolean(), { maxLength: 6 }),
});
type Scene = typeof scene extends fc.Arbitrary<infer S> ? S : never;

async function race(scheduler: fc.Scheduler, drawn: Scene) {
  const { database } = stepped;
  const interleaving = stepped.interleaving(scheduler);
  const log = await openInMemoryLog();
  const write = roomWriter(writerTo(log, keyring));
  await newLedger({ pool: database.pool, store: log, keyring, logger, projections: ledger });
  using _timers = scheduledTimers(interleaving, 10_000);
  const store = racingStore(log, interleaving, { appends: [], reads: [] });
  const parts = { store, keyring, logger, projections: ledger };
  const answers = drawn.lost.values();
  /** Those that have begun: a start whose answer is lost fails as a whole. */
  const begun = new Set<string>();
  let refused = 0;
  const poolOf = (name: string) =>
    surrounded(
      stepped.pool(name, interleaving, () => begun.has(name) && (answers.next().value ?? false)),
      async (text, query) => {
        const result = await query();
        if (text.startsWith("with moved") && movedNothing(result)) refused += 1;
        return result;
      },
    );
  const pass = async (steps: number, what: string) => {
    for (let passed = 0; passed <= steps; passed += 1) await interleaving.step(what);
  };

  const names = PROCESSES.slice(0, drawn.processes);
  const sides = names.map((name) => openReadSide({ ...parts, pool: poolOf(name) }));
  const standing = sides.map(async (side, number) => {
    await (await side).start();
    begun.add(names[number] ?? "");
  });
  const stopping = async () => {
    const [first] = await Promise.all(sides.slice(0, 1));
    if (drawn.stops === null) return;
    await pass(drawn.stops, "until the first stops");
    await standing[0];
    await first?.[Symbol.asyncDispose]();
  };
  const lapse = () => database.pool.query("update read.leases set expires_at = clock_timestamp()");
  const lapsing = async () => {
    for (const { steps, event } of drawn.lapses) {
      await pass(steps, "until the lease lapses");
      await lapse();
      await pass(event, "until an event comes");
      await write(0);
    }
  };
  const writing = async () => {
    for (const one of drawn.meanwhile) {
      await pass(drawn.rest, "until an event comes");
      await write(one);
    }
  };
  await interleaving.until(Promise.all([...standing, stopping(), lapsing(), writing()]));
  const tail = await log.tail();
  const caughtUp = async () => {
    while ((await readGroup(database.pool))?.checkpoint !== tail) {
      await pass(LOOK_STEPS, "until a look");
      await lapse(); // who took it, but never heard so, has it until then
    }
  };
  await interleaving.until(caughtUp());
  await interleaving.until(Promise.all(sides.map(async (side) => (await side)[Symbol.asyncDispose]())));
  const noted = { moves: await movesOf(database), leases: await leasesOf(database) };
  return { refused, ...noted, ...(await bothLedgers(database, log, keyring)) };
}

/** Of a batch's answer: that nothing was written. */
const movedNothing = (result: unknown): boolean =>
  (result as { readonly rows: readonly { readonly moved: number }[] }).rows[0]?.moved === 0;

test("only who leads writes; nothing is lost, folded twice or out of order", { timeout: orders.timeout }, async () => {
  const seen = { takenOver: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), scene, async (scheduler, drawn) => {
      const { moves, leases, refused, kept, folded } = await race(scheduler, drawn);
      expect(kept).toEqual(folded);
      for (const { before, after, process, leader } of moves) {
        expect(after > (before ?? "")).toBe(true);
        expect(process).toBe(leader);
      }
      for (const { wasFree } of leases) expect(wasFree).toBe(true);
      seen.takenOver += leases.filter(({ process }, at) => at > 0 && process !== leases[at - 1]?.process).length;
      seen.refused += refused;
    }),
    orders.of(5, 500),
  );
  expect(seen.takenOver).toBeGreaterThan(0);
  // One take-over in five meets a write that is late: hardly ever none of a short run's, never none of a long one's.
  expect(seen.refused).toBeGreaterThanOrEqual(sized(0, 1));
});
