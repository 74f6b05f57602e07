// The failpoints: each is placed once, and one that is set kills the process there and lets nothing run after it.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { ConfigError, readConfig } from "../../src/config.ts";
import { FAILPOINTS, type FailpointName } from "../../src/platform/failpoint.ts";

const SRC = fileURLToPath(new URL("../../src", import.meta.url));

/** Runs a program that passes the given points, saying where it is after each. */
function passing(set: string | undefined, ...points: readonly FailpointName[]) {
  const steps = points.map((name) => `failpoint(${JSON.stringify(name)}); console.log(${JSON.stringify(name)});`);
  const program = `import { failpoint } from ${JSON.stringify(join(SRC, "platform", "failpoint.ts"))};\n${steps.join("\n")}`;
  const { CHATAPI_FAILPOINT: _outer, ...inherited } = process.env;
  const env = set === undefined ? inherited : { ...inherited, CHATAPI_FAILPOINT: set };
  const { signal, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", program], {
    env,
    encoding: "utf8",
  });
  return { signal, passed: stdout.split("\n").slice(0, -1), stderr };
}

test("each point is placed exactly once", () => {
  const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  const placed = files.flatMap((file) =>
    Array.from(readFileSync(join(SRC, file), "utf8").matchAll(/\bfailpoint\("([^"]+)"\)/g), ([, name]) => name),
  );
  expect(placed.toSorted()).toEqual(FAILPOINTS.toSorted());
  expect(new Set(FAILPOINTS).size).toBe(FAILPOINTS.length);
});

describe("a process", () => {
  test("goes on when no point is set, or another", () => {
    const all = { signal: null, passed: ["decide/append", "append/answer"], stderr: "" };
    expect(passing(undefined, "decide/append", "append/answer")).toEqual(all);
    expect(passing("", "decide/append", "append/answer")).toEqual(all);
    expect(passing("built/swap", "decide/append", "append/answer")).toEqual(all);
  });

  test("kills itself at the one that is set, and runs nothing after it", () => {
    const { signal, passed, stderr } = passing("append/answer", "decide/append", "append/answer", "append/answer");
    expect({ signal, passed, stderr }).toEqual({
      signal: "SIGKILL",
      passed: ["decide/append"],
      stderr: "failpoint append/answer\n",
    });
  });

  test("does so at the hit that is asked for", () => {
    const { signal, passed } = passing("decide/append:3", ...Array<FailpointName>(5).fill("decide/append"));
    expect({ signal, passed }).toEqual({ signal: "SIGKILL", passed: ["decide/append", "decide/append"] });
  });
});

describe("the configuration", () => {
  const refusal = (value: string) => {
    try {
      readConfig({ CHATAPI_FAILPOINT: value });
      return undefined;
    } catch (error) {
      if (error instanceof ConfigError) return error.message;
      throw error;
    }
  };

  test.each(["", "decide/append", "decide/append:12"])("takes %j", (value) => {
    expect(refusal(value)).toBeUndefined();
  });

  test.each(["decide", "decide/append:0", "decide/append:", "decide/append:x", "decide/append:1:2", ":1", " "])(
    "refuses %j in one line",
    (value) => {
      expect(refusal(value)).toMatch(/^CHATAPI_FAILPOINT: "[^\n]*" is no failpoint[^\n]*$/);
    },
  );
});
