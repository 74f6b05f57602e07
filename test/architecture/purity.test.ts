// The purity rule catches each way to the clock, to dice and, in deciders, to I/O.

import { describe, expect, test } from "vitest";
import { purity } from "../../scripts/rules/purity.ts";
import { judge } from "./fixture.ts";

const CLEAN = { "src/domain/a.ts": "export const a = 1;", "src/projections/a.ts": "export const a = 1;" };

const IMPURE: readonly (readonly [string, string])[] = [
  ["Date.now", "export const a = () => Date.now();"],
  ["Date.now", "export const a = Date.now;"],
  ["Date.now", 'export const a = Date["now"]();'],
  ["Date.now", "export const a = globalThis.Date.now();"],
  ["new Date()", "export const a = new Date();"],
  ["new Date()", "export const a = new Date;"],
  ["Date()", "export const a = Date();"],
  ["Math.random", "export const a = Math.random();"],
  ["performance.now", "export const a = performance.now();"],
  ["crypto.randomUUID", "export const a = crypto.randomUUID();"],
  ["crypto.getRandomValues", "export const a = globalThis.crypto.getRandomValues(new Uint8Array(1));"],
  ["randomUUID of node:crypto", 'import { randomUUID } from "node:crypto";\nrandomUUID();'],
  ["randomBytes of node:crypto", 'import { randomBytes as dice } from "node:crypto";\ndice(1);'],
  ["tools.randomBytes", 'import tools from "node:crypto";\ntools.randomBytes(1);'],
  ["tools.randomInt", 'import * as tools from "node:crypto";\ntools.randomInt(1);'],
  ["v4 of uuid", 'import { v4 } from "uuid";\nv4();'],
];

describe.each(["src/domain/b.ts", "src/projections/b.ts"])("in %s", (path) => {
  test.each(IMPURE)("%s is caught: %s", (what, text) => {
    const { read, faults } = judge(purity, { ...CLEAN, [path]: text });
    expect(read).toBe(3);
    expect(faults).toEqual([expect.stringContaining(`${what}: take it as an argument`)]);
    expect(faults[0]).toMatch(path);
  });

  test.each([
    "export const a = (at: number) => new Date(at).toISOString();",
    'import { createHash } from "node:crypto";\nexport const a = createHash("sha256");',
    'import { v5 } from "uuid";\nexport const a = v5("a", "b");',
    "export const a = Math.max(1, 2);",
    "export const a = (clock: { now(): number }) => clock.now();",
  ])("pure code passes: %s", (text) => {
    expect(judge(purity, { ...CLEAN, [path]: text }).faults).toEqual([]);
  });
});

describe("I/O", () => {
  const texts: readonly (readonly [string, string])[] = [
    ["setTimeout", "setTimeout(() => {}, 1);"],
    ["fetch", 'await fetch("http://localhost");'],
    ["console", 'console.log("a");'],
    ["process", "export const a = process.env;"],
    ["globalThis.process", "export const a = globalThis.process;"],
  ];

  test.each(texts)("%s is caught in a decider", (what, text) => {
    const { faults } = judge(purity, { ...CLEAN, "src/domain/b.ts": text });
    expect(faults).toEqual([expect.stringContaining(`src/domain/b.ts:1 ${what}:`)]);
  });

  test.each(texts)("%s is left to the runners of projections and to the other parts", (_what, text) => {
    const files = { ...CLEAN, "src/projections/b.ts": text, "src/api/b.ts": text };
    expect(judge(purity, files).faults).toEqual([]);
  });
});

test("the clock is free elsewhere", () => {
  expect(judge(purity, { ...CLEAN, "src/main.ts": "export const now = () => Date.now();" }).faults).toEqual([]);
});

test("a pure folder that is gone proves nothing and fails", () => {
  expect(judge(purity, { "src/domain/a.ts": "" }).faults).toEqual([expect.stringMatching("^src/projections/")]);
});
