// The last line of a test run: how many tests passed, failed and were skipped, for people and machines to read.

import type { Reporter } from "vitest/node";

/** Prints `N passed, N failed, N skipped` when the process ends, so that nothing of vitest's own comes after it. */
export default class TotalsReporter implements Reporter {
  onTestRunEnd: NonNullable<Reporter["onTestRunEnd"]> = (modules, unhandledErrors) => {
    // Nothing ran: no totals, since "0 failed" would read as a success.
    if (modules.length === 0) return;
    const totals = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      let failedTests = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        // A test that never came to an end has not passed.
        const outcome = state === "pending" ? "failed" : state;
        totals[outcome] += 1;
        if (outcome === "failed") failedTests += 1;
      }
      // A file that could not be loaded, or whose hooks failed, fails the run without a failing test.
      if (!module.ok() && failedTests === 0) totals.failed += 1;
    }
    totals.failed += unhandledErrors.length;
    const earlier = process.env.CHECK_FAILED_STEPS ?? "";
    process.once("exit", () => {
      if (earlier !== "") process.stdout.write(`\nFailed before the tests: ${earlier}\n`);
      process.stdout.write(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`);
    });
  };
}
