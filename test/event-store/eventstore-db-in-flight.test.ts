// The gate for appends: first come, first served, within its bounds, and shut while somebody needs to be alone.

import { expect, test } from "vitest";
import { AppendGate } from "../../src/event-store/eventstoredb/append-gate.ts";
import { eventually } from "../contracts/subject.ts";

const MB = 1024 * 1024;

/** Enters with so many, and says who is in. */
function entered(gate: AppendGate, sizes: readonly number[], timeoutMs = 60_000): { readonly inside: number[] } {
  const inside: number[] = [];
  for (const [index, bytes] of sizes.entries()) {
    void Promise.resolve(gate.enter(bytes, timeoutMs)).then((isIn) => {
      if (isIn) inside.push(index);
    });
  }
  return { inside };
}

test("lets in as many appends as it has places, and the others in order", async () => {
  const gate = new AppendGate();
  const { inside } = entered(gate, Array<number>(600).fill(10));
  await eventually(() => expect(inside).toHaveLength(512));
  for (let left = 0; left < 20; left += 1) gate.leave(10);
  await eventually(() => expect(inside).toHaveLength(532));
  expect(inside).toEqual([...Array(532).keys()]);
});

test("lets in as many bytes as it has room for; the large are not overtaken, and alone they fit", async () => {
  const gate = new AppendGate();
  const { inside } = entered(gate, [3 * MB, MB, MB, 10, 5 * MB, 10]);
  await eventually(() => expect(inside).toEqual([0, 1]));
  gate.leave(3 * MB);
  await eventually(() => expect(inside).toEqual([0, 1, 2, 3]));
  for (const bytes of [MB, MB]) gate.leave(bytes);
  expect(inside).not.toContain(4);
  gate.leave(10);
  await eventually(() => expect(inside).toEqual([0, 1, 2, 3, 4]));
  gate.leave(5 * MB);
  await eventually(() => expect(inside).toEqual([0, 1, 2, 3, 4, 5]));
});

test("lets nobody wait longer than it may, and those behind it in", async () => {
  const gate = new AppendGate();
  expect(await gate.enter(3 * MB, 1)).toBe(true);
  const late = gate.enter(3 * MB, 30);
  const behind = gate.enter(10, 60_000);
  expect(await late).toBe(false);
  expect(await behind).toBe(true);
});

test("bounds those who wait", async () => {
  const gate = new AppendGate();
  await gate.enter(5 * MB, 1);
  const { inside } = entered(gate, Array<number>(20_000).fill(1), 60_000);
  expect(await gate.enter(1, 60_000)).toBe(false);
  gate.leave(5 * MB);
  await eventually(() => expect(inside.length).toBe(512));
});

test("lets one be alone: when all have left, or its patience is over", async () => {
  const gate = new AppendGate();
  await gate.enter(10, 1);
  const said: string[] = [];
  const alone = gate.alone(60_000, async () => said.push("alone"));
  const next = Promise.resolve(gate.enter(10, 60_000)).then(() => said.push("next"));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(said).toEqual([]);
  gate.leave(10);
  await Promise.all([alone, next]);
  expect(said).toEqual(["alone", "next"]);
  await gate.alone(20, async () => said.push("impatient"));
  expect(said).toEqual(["alone", "next", "impatient"]);
});
