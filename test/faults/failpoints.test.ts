// Each failpoint on each set-up: a node dies there, comes back, and nothing that was answered is lost or done twice.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { missingOwnEventStore } from "../support/eventstored.ts";
import { seed } from "../support/seed.ts";
import { isLong } from "../support/size.ts";
import { exportDies, importDies } from "./support/failpoint-moving.ts";
import {
  afterwards,
  type Client,
  deathFault,
  hitOf,
  pointsOf,
  type Run,
  runsOn,
  settleIn,
  untilDeath,
} from "./support/failpoint-runs.ts";
import { openScene, type Scene, SETUPS, type SetupName } from "./support/failpoint-scene.ts";

/** Of the short form; each commit has another one. */
const SHORT_RUNS = 1;
const RUN_TIMEOUT_MS = 180_000;

/** The same for the same seed, spread over all. */
const pick = (salt: number, below: number): number =>
  Number(((BigInt(seed * 7_919 + salt) * 2_654_435_761n) >> 9n) % BigInt(below));

function chosen(setup: SetupName): readonly Run[] {
  const only = process.env.FAULTS_POINT;
  const runs = runsOn(setup).filter(({ point }) => only === undefined || point === only);
  if (isLong || only !== undefined) return runs;
  const lives = runs.filter(({ way }) => way === "life");
  const first = pick(0, lives.length);
  return Array.from({ length: SHORT_RUNS }, (_, n) => lives[(first + n * 17) % lives.length]).filter(
    (run) => run !== undefined,
  );
}

const setups = (isLong ? SETUPS : (["embedded"] as const)).filter((setup) => {
  const missing = setup === "eventstoredb" ? missingOwnEventStore : undefined;
  if (missing !== undefined) console.log(`${setup}: ${missing}`);
  return missing === undefined;
});
console.log(`failpoints: seed ${seed} (set FAULTS_SEED), of one point alone with FAULTS_POINT`);

describe.each(setups)("%s", (setup) => {
  const stack = new AsyncDisposableStack();
  const ring = randomBytes(32).toString("base64");
  const died = new Set<string>();
  let scene: Scene;
  let client: Client;

  beforeAll(async () => {
    scene = stack.use(await openScene(setup, { ENCRYPTION_KEYS: ring }));
    client = await settleIn(scene);
  }, RUN_TIMEOUT_MS);
  afterAll(() => stack.disposeAsync(), RUN_TIMEOUT_MS);

  const runs = chosen(setup).map((run, number) => ({ ...run, hit: hitOf(run, pick(number, 6)) }));

  test.each(runs)("$point, hit $hit ($way)", { timeout: RUN_TIMEOUT_MS }, async ({ hit, ...run }) => {
    const faults =
      run.way === "first start"
        ? await firstStart(setup, run)
        : run.way === "export"
          ? await exportDies(scene, run, ring)
          : run.way === "import"
            ? await importDies(scene, run, ring)
            : await alongTheWay(scene, client, run, hit);
    if (faults.length > 0) console.log(`${run.point} (${run.way}): ${faults.join("\n")}`);
    if (!faults.some((fault) => fault.startsWith("nothing reached"))) died.add(run.point);
    expect(faults).toEqual([]);
  });

  test.runIf(isLong && setup === "embedded")(
    "a point that nothing reaches is told",
    { timeout: RUN_TIMEOUT_MS },
    async () => {
      // Only EventStoreDB's appends pass it.
      await using node = scene.launch("append-sent/answered");
      expect(await node.ready).toMatch(/^http/);
      expect(deathFault(await node.stop(), "append-sent/answered")).toMatch(/^nothing reached append-sent\/answered/);
    },
  );

  test.runIf(isLong)(
    "in the end everything has ended, in the log, at the receivers and for those who listened",
    async () => {
      expect(await afterwards(scene, client, undefined)).toEqual([]);
    },
    2 * RUN_TIMEOUT_MS,
  );

  test.runIf(isLong && process.env.FAULTS_POINT === undefined)("every point of this set-up was reached", () => {
    expect(pointsOf(setup).filter((point) => !died.has(point))).toEqual([]);
  });
});

async function alongTheWay(scene: Scene, client: Client, run: Run, hit: number): Promise<readonly string[]> {
  const name = `${run.point.replaceAll(/[^a-z]+/g, "-")}-${run.way.replaceAll(" ", "-")}`;
  const { ended, faults } = await untilDeath(scene, client, run, name, hit);
  const alive = deathFault(ended, run.point);
  return [...faults, ...(alive === undefined ? [] : [alive]), ...(await afterwards(scene, client, name))];
}

async function firstStart(setup: SetupName, { point }: Run): Promise<readonly string[]> {
  await using scene = await openScene(setup, {}, { empty: true });
  const alive = deathFault(await scene.launch(point).ended, point);
  if (alive !== undefined) return [alive];
  const client = await settleIn(scene);
  return await afterwards(scene, client, point);
}
