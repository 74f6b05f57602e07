// Loops: one is woken at every time that it was told of, and rests otherwise.
import { expect, test } from "vitest";
import { Loop } from "../../src/platform/supervise.ts";
import { quietLogger } from "../support/live.ts";
import { until } from "../support/until.ts";

const HOUR_MS = 3_600_000;

/** A loop that would rest for an hour, and when its steps began. */
function restingLoop() {
  const steps: number[] = [];
  const step = async () => {
    steps.push(performance.now());
    return HOUR_MS;
  };
  return { steps, loop: new Loop({ name: "resting", step, logger: quietLogger }) };
}

test("a loop is woken at each of several times, a later one that was set first among them", async () => {
  const { steps, loop } = restingLoop();
  await using _ = loop;
  await loop.begun;
  const begun = performance.now();
  for (const ms of [400, 150, 700]) loop.wakeIn(ms);
  await until(() => steps.length === 4);
  const after = steps.slice(1).map((at) => at - begun);
  for (const [index, ms] of [150, 400, 700].entries()) expect(after[index]).toBeGreaterThanOrEqual(ms);
});

test("a time that comes while a step runs is not lost", async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  let steps = 0;
  const step = async () => {
    steps += 1;
    if (steps === 1) await held;
    return HOUR_MS;
  };
  await using loop = new Loop({ name: "held", step, logger: quietLogger });
  await until(() => steps === 1);
  loop.wakeIn(1);
  const past = performance.now() + 50;
  await until(() => performance.now() > past);
  release();
  await until(() => steps === 2);
});
