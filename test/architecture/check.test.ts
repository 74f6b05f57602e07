// The test command itself: every step runs, a failed one fails the run, and the totals are the last and true word.

import { spawnSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { fixture } from "./fixture.ts";

const repository = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

describe("the steps", () => {
  const check = (scripts: Readonly<Record<string, string>>, ...steps: readonly string[]) => {
    const cwd = fixture({ "package.json": JSON.stringify({ name: "steps", scripts }) });
    return spawnSync(process.execPath, [repository("scripts/check.ts"), ...steps], { cwd, encoding: "utf8" });
  };

  test("a failed step fails the run, the later ones run all the same and are told", () => {
    const scripts = { good: "echo one", bad: "exit 3", last: 'echo "before: $CHECK_FAILED_STEPS"' };
    const { status, stdout } = check(scripts, "good", "bad", "last");
    expect(stdout).toContain("one\n");
    expect(stdout).toContain("before: bad\n");
    expect(status).toBe(1);
  });

  test("passes when each step does", () => {
    expect(check({ good: "exit 0" }, "good", "good").status).toBe(0);
  });

  test("no step, or one that does not exist, is a failure", () => {
    expect(check({}).status).toBe(1);
    expect(check({}, "absent").status).toBe(1);
  });
});

describe("the totals", () => {
  const run = (files: Readonly<Record<string, string>>, failedBefore = "") => {
    const cwd = fixture(files);
    symlinkSync(repository("node_modules"), join(cwd, "node_modules"));
    const reporter = `--reporter=${repository("scripts/totals-reporter.ts")}`;
    const args = [repository("node_modules/vitest/vitest.mjs"), "run", "--reporter=default", reporter];
    const env = { ...process.env, CHECK_FAILED_STEPS: failedBefore };
    const { status, stdout } = spawnSync(process.execPath, args, { cwd, env, encoding: "utf8" });
    return { status, lines: stdout.trimEnd().split("\n") };
  };
  const suite = (body: string) => `import { test, expect } from "vitest";\n${body}`;

  test("a run that passes", () => {
    const { status, lines } = run({ "a.test.ts": suite('test("a", () => {}); test.skip("b", () => {});') });
    expect(lines.at(-1)).toBe("1 passed, 0 failed, 1 skipped");
    expect(status).toBe(0);
  });

  test("failing tests, a file that does not load and an error outside of a test each count as failed", () => {
    const { status, lines } = run(
      {
        "a.test.ts": suite('test("a", () => {}); test("b", () => { expect(1).toBe(2); });'),
        "b.test.ts": 'import "./gone.ts";',
        "c.test.ts": suite(
          'test("c", async () => { Promise.reject(1); await new Promise((r) => setTimeout(r, 10)); });',
        ),
      },
      "types, lint",
    );
    expect(lines.at(-1)).toBe("2 passed, 3 failed, 0 skipped");
    expect(lines.at(-3)).toBe("Failed before the tests: types, lint");
    expect(status).toBe(1);
  });

  test("a run without tests has no totals to show", () => {
    const { status, lines } = run({});
    expect(lines.join("\n")).not.toMatch(/\d passed/);
    expect(status).toBe(1);
  });
});
