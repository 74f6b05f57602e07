// What the benchmarks call processor time: of a process, its children, and those that have ended.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { canMeasure, endedChildrenMs, parentOf, processorMs } from "../../bench/support/processor-time.ts";

const BUSY_MS = 300;
/** The kernel counts in hundredths of a second. */
const COUNTED_MS = 200;
const busy = `const end = process.cpuUsage().user + ${BUSY_MS} * 1000; while (process.cpuUsage().user < end);`;
const parent = `require("node:child_process").spawnSync(process.execPath, ["-e", ${JSON.stringify(busy)}]);`;

test.runIf(canMeasure)("counts a process with a child that has ended, and knows whose child it is", async () => {
  const child = spawn(process.execPath, ["-e", `${parent} console.log("done"); setInterval(() => {}, 1000);`]);
  await once(child.stdout, "data");
  expect(processorMs(child.pid ?? 0)).toBeGreaterThan(COUNTED_MS);
  expect(parentOf(child.pid ?? 0)).toBe(process.pid);
  child.kill();
  await once(child, "exit");
  expect(processorMs(child.pid ?? 0)).toBe(0);
});

test.runIf(canMeasure)("counts what children took that have ended", () => {
  const before = endedChildrenMs();
  spawnSync(process.execPath, ["-e", busy]);
  expect(endedChildrenMs() - before).toBeGreaterThan(COUNTED_MS);
});
