// Runs the given npm scripts one after another, all of them even when one fails, so that one run shows every fault.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";

const steps = process.argv.slice(2);
const failed: string[] = [];
let running: ReturnType<typeof spawn> | undefined;

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    running?.kill(signal);
    process.exit(128 + constants.signals[signal]);
  });
}

for (const step of steps) {
  console.log(`\n== ${step}`);
  // The tests' last line has to stay the last: what failed before is told to them, and they print it above.
  const env = { ...process.env, CHECK_FAILED_STEPS: failed.join(", ") };
  running = spawn("npm", ["run", "--silent", step], { stdio: "inherit", env });
  const [code] = await once(running, "exit");
  if (code !== 0) failed.push(step);
}

if (failed.length > 0 || steps.length === 0) process.exitCode = 1;
