// Going on together in the next turn of the event loop.
import { expect, test } from "vitest";
import { nextTurn } from "../../src/platform/next-turn.ts";

test("all who ask in one turn go on in the next, step by step side by side, and later ones after them", async () => {
  const order: string[] = [];
  const work = async (name: string) => {
    await nextTurn();
    order.push(`${name}1`);
    await Promise.resolve();
    order.push(`${name}2`);
  };
  const first = [work("a"), work("b"), work("c")];
  const later = new Promise<void>((resolve) => setImmediate(() => resolve(work("d"))));
  await Promise.resolve();
  expect(order).toEqual([]);
  await Promise.all([...first, later]);
  expect(order).toEqual(["a1", "b1", "c1", "a2", "b2", "c2", "d1", "d2"]);
});
