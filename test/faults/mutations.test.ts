// The list of mutations is up to date: each fence still stands where it is taken out, and a test that has to fail does.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { mutations, tableOf } from "./mutations/all.ts";
import { withTable } from "./mutations/page.ts";
import { caught, copyOfTree, mutated, ROOT } from "./mutations/runner.ts";

const FAST = "number of an attempt that is started";

describe("the list of mutations", () => {
  test("has at least forty, each under a name of its own", () => {
    expect(mutations.length).toBeGreaterThanOrEqual(40);
    expect(new Set(mutations.map((one) => one.name)).size).toBe(mutations.length);
  });

  test.each(mutations.map((one) => [one.name, one] as const))(
    "finds its place, and its test: %s",
    async (_name, one) => {
      expect(await mutated(ROOT, one)).not.toBe(await readFile(join(ROOT, one.file), "utf8"));
      expect(await readFile(join(ROOT, one.caughtBy.file), "utf8")).toMatch(/from "vitest"|eventStoreContract\(/);
    },
  );

  test("stands in the page for developers", async () => {
    const page = await readFile(join(ROOT, "docs/testing.md"), "utf8");
    expect(withTable(page, tableOf(mutations))).toBe(page);
  });

  test("a place that is not there, or there twice, is out of date", async () => {
    const [first] = mutations;
    if (first === undefined) throw new Error("there is no mutation");
    const change = (find: string) => ({ ...first, changes: [{ find, replace: "" }] });
    await expect(mutated(ROOT, change("what nobody has ever written"))).rejects.toThrow("0 times");
    await expect(mutated(ROOT, change("const"))).rejects.toThrow(/stands \d+ times/);
  });
});

test("one fence that is taken out is missed, and the copy is whole again afterwards", {
  timeout: 120_000,
}, async () => {
  const one = mutations.find(({ name }) => name === FAST);
  if (one === undefined) throw new Error("there is no such mutation");
  await using copy = await copyOfTree();
  expect(await caught(copy.path, one)).toEqual([
    expect.stringContaining("of another number than the next does nothing"),
  ]);
  expect(await readFile(join(copy.path, one.file), "utf8")).toBe(await readFile(join(ROOT, one.file), "utf8"));
});
