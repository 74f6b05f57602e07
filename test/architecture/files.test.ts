// The rules on single files catch the long ones and the open ends without a reason; the script fails a run on any.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  FRAGMENT_LINES,
  fragments,
  MAX_FILES,
  MAX_FRAGMENTS,
  MAX_LINES,
  reasons,
  size,
  WARN_LINES,
} from "../../scripts/rules/files.ts";
import { fixture, judge } from "./fixture.ts";

const lines = (count: number) => "// a line\n".repeat(count);

describe("size", () => {
  test.each(["src/a.ts", "test/a.test.ts", "scripts/a.ts", "bench/a.ts"])("limits the lines of %s", (path) => {
    expect(judge(size, { [path]: lines(MAX_LINES) }).faults).toEqual([]);
    const { read, faults } = judge(size, { [path]: lines(MAX_LINES + 1) });
    expect(read).toBe(1);
    expect(faults).toEqual([expect.stringMatching(`^${path} has ${MAX_LINES + 1} lines`)]);
  });

  test("warns before that", () => {
    expect(judge(size, { "src/a.ts": lines(WARN_LINES) }).warnings).toEqual([]);
    const { faults, warnings } = judge(size, { "src/a.ts": lines(WARN_LINES + 1) });
    expect(faults).toEqual([]);
    expect(warnings).toEqual([expect.stringMatching(`^src/a.ts has ${WARN_LINES + 1} lines`)]);
  });
});

describe("fragments", () => {
  const numbered = (count: number, text: (n: number) => string) =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [`src/f${n}.ts`, text(n)]));
  const importing = (count: number) => Array.from({ length: count }, (_, n) => `import "./f${n}.ts";\n`).join("");

  test("limits the files of src", () => {
    expect(
      judge(
        fragments,
        numbered(MAX_FILES, () => ""),
      ).faults,
    ).toEqual([]);
    const { faults } = judge(fragments, { ...numbered(MAX_FILES, () => ""), "src/more.ts": "" });
    expect(faults).toEqual([`src has ${MAX_FILES + 1} files, at most ${MAX_FILES}`]);
  });

  test("limits the short files with one importer, and names them", () => {
    const some = { ...numbered(MAX_FRAGMENTS + 1, () => ""), "src/a.ts": importing(MAX_FRAGMENTS) };
    expect(judge(fragments, some).faults).toEqual([]);
    const { faults } = judge(fragments, { ...some, "src/a.ts": importing(MAX_FRAGMENTS + 1) });
    expect(faults).toHaveLength(MAX_FRAGMENTS + 2);
    expect(faults[0]).toMatch(`src has ${MAX_FRAGMENTS + 1} files under ${FRAGMENT_LINES} lines`);
    expect(faults).toContain("src/f0.ts has 1 lines and one importer, src/a.ts");
    const long = { ...some, "src/a.ts": importing(MAX_FRAGMENTS + 1), "src/f0.ts": lines(FRAGMENT_LINES) };
    expect(judge(fragments, long).faults).toEqual([]);
    const shared = { ...some, "src/a.ts": importing(MAX_FRAGMENTS + 1), "src/b.ts": 'import "./f0.ts";' };
    expect(judge(fragments, shared).faults).toEqual([]);
  });
});

describe("reasons", () => {
  const mark = (word: string, rest: string) => `${word}${rest}`;

  test.each([
    ["a bare one", `// ${mark("TODO", " later")}`],
    ["one with a colon", `// ${mark("TODO", ": later")}`],
    ["one with an empty reason", `// ${mark("TODO", "(): later")}`],
    ["one that names nothing to do", `// ${mark("TODO", "(waits for a release)")}`],
    ["its other names", `/* ${mark("FIXME", " it")} */`],
  ])("%s is caught", (_name, comment) => {
    const { read, faults } = judge(reasons, { "src/a.ts": `export const a = 1;\n${comment}\n` });
    expect(read).toBe(1);
    expect(faults).toEqual([expect.stringMatching("^src/a.ts:2 .* without a reason")]);
  });

  test("one with a reason passes, and so does the word in a string", () => {
    const text = `// ${mark("TODO", "(waits for pg 19): drop the cast")}\nexport const a = "TODO list";`;
    expect(judge(reasons, { "src/a.ts": text }).faults).toEqual([]);
  });
});

describe("the script", () => {
  const run = (files: Readonly<Record<string, string>>) => {
    const script = fileURLToPath(new URL("../../scripts/rules.ts", import.meta.url));
    return spawnSync(process.execPath, [script, fixture(files)], { encoding: "utf8" });
  };
  const CLEAN = {
    "package.json": JSON.stringify({ dependencies: {} }),
    "src/main.ts": 'import { a } from "./domain/a.ts";\nimport { b } from "./projections/b.ts";\nconsole.log(a, b);',
    "src/domain/a.ts": "export const a = 1;",
    "src/projections/b.ts": "export const b = 1;",
  };

  test("passes a tree without faults and says how many files each rule read", () => {
    const { status, stdout, stderr } = run(CLEAN);
    expect(stderr).toBe("");
    expect(stdout).toContain("ok       layers, 3 files read");
    expect(stdout).toContain("ok       purity, 2 files read");
    expect(status).toBe(0);
  });

  test.each([
    ["layers", { "src/domain/a.ts": 'import { b } from "../projections/b.ts";\nexport const a = b;' }],
    ["purity", { "src/domain/a.ts": "export const a = Date.now();" }],
    ["circles", { "src/domain/a.ts": 'import { a as b } from "./a.ts";\nexport const a = () => b;' }],
    ["barrels", { "src/domain/a.ts": 'export { b as a } from "../projections/b.ts";' }],
    ["resolves", { "src/domain/a.ts": 'import "./gone.ts";\nexport const a = 1;' }],
    ["unused", { "src/domain/a.ts": "export const a = 1, b = 2;" }],
    ["size", { "src/domain/a.ts": `${lines(MAX_LINES)}export const a = 1;\n` }],
    ["reasons", { "src/domain/a.ts": `export const a = 1; // ${["FIX", "ME"].join("")}` }],
  ])("runs the rule %s and fails on it", (rule, files) => {
    const { status, stdout, stderr } = run({ ...CLEAN, ...files });
    expect(stdout).toContain(`FAILED   ${rule},`);
    expect(stderr).toContain(`error    ${rule}: src/domain/a.ts`);
    expect(status).toBe(1);
  });

  test("fails on an empty tree", () => {
    expect(run({}).status).toBe(1);
  });
});
