// The rows of the benchmarks' table, and how they are shown.
import { describe, expect, test } from "vitest";
import { notMeasured, ratioRow, rowOf, shown } from "../../bench/harness/row.ts";
import { markdownTable, textTable } from "../../bench/harness/table.ts";

const atLeast = { name: "fast", goal: 3, direction: "at least", unit: "x" } as const;
const atMost = { name: "slow", goal: 2, direction: "at most", unit: "x" } as const;

describe("a row", () => {
  test("holds by its median, in the direction of its goal", () => {
    expect(rowOf(atLeast, [2, 3, 9], { baseline: "" })).toMatchObject({ result: 3, holds: true });
    expect(rowOf(atLeast, [2, 2.9, 9], { baseline: "" })).toMatchObject({ result: 2.9, holds: false });
    expect(rowOf(atMost, [1, 2, 9], { baseline: "" })).toMatchObject({ result: 2, holds: true });
    expect(rowOf(atMost, [1, 2.1, 9], { baseline: "" })).toMatchObject({ result: 2.1, holds: false });
  });

  test("of a ratio tells both figures", () => {
    const rounds = new Map([
      ["ours", [30_000, 32_000, 31_000]],
      ["theirs", [10_000, 10_000, 10_000]],
    ]);
    expect(ratioRow(atLeast, rounds, "ours", "theirs")).toEqual({
      ...{ ...atLeast, result: 3.1, holds: true, baseline: "theirs: 10,000 /s", ours: "ours: 31,000 /s" },
      spread: expect.closeTo(0.0645, 3),
    });
  });

  test("that was not measured never holds, and says why", () => {
    const row = notMeasured(atMost, "no server");
    expect(row).toMatchObject({ result: null, holds: false, baseline: "not measured: no server" });
  });
});

describe("the table", () => {
  const rows = [
    rowOf(atLeast, [3], { baseline: "theirs" }),
    rowOf(atMost, [5], { baseline: "a|b" }),
    notMeasured(atMost, "so"),
  ];

  test("lines up as text", () => {
    const lines = textTable(rows).split("\n");
    const column = lines[0]?.indexOf("goal") ?? -1;
    expect(lines.map((line) => line.slice(column, column + 3))).toEqual(["goa", "≥ 3", "≤ 2", "≤ 2"]);
    expect(lines.slice(1).map((line) => line.split(" ")[0])).toEqual(["ok", "MISSED", "-"]);
  });

  test("is Markdown whose cells keep their bars", () => {
    const lines = markdownTable(rows).split("\n");
    expect(lines).toHaveLength(5);
    expect(lines[3]).toContain("a\\|b");
  });

  test.each([
    [0, "0"],
    [0.01234, "0.0123"],
    [2.4681, "2.47"],
    [31.4159, "31.4"],
    [31_415.9, "31,416"],
  ])("%d is shown as %s", (value, text) => {
    expect(shown(value)).toBe(text);
  });
});
