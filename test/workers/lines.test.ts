// Who may run: bounds by client and in all, and who comes next.
import { describe, expect, test } from "vitest";
import type { ClientId } from "../../src/contract/ids.ts";
import { Lines } from "../../src/workers/lines.ts";

const A: ClientId = "cli_a";
const B: ClientId = "cli_b";
type J = { readonly client: ClientId; readonly n: number };
const lines = () => new Lines<J>({ running: 3, perClient: 2, waitingPerClient: 2 });

describe("lines", () => {
  test("a client starts as many as it may, then some wait, then they go back", () => {
    const all = lines();
    expect([1, 2, 3, 4, 5].map((n) => all.enter({ client: A, n }))).toEqual(["start", "start", "wait", "wait", "back"]);
    expect(all.enter({ client: B, n: 1 })).toBe("start");
    expect({ running: all.running, waiting: all.waiting }).toEqual({ running: 3, waiting: 2 });
  });

  test("a client whose line is half full is busy, and another is not", () => {
    const all = lines();
    for (const n of [1, 2]) all.enter({ client: A, n });
    expect(all.busy()).toEqual([]);
    all.enter({ client: A, n: 3 });
    expect(all.busy()).toEqual([A]);
    expect([all.wants(A), all.wants(B)]).toEqual([false, true]);
  });

  test("the place of one that ends goes to the line, in order, whoever waits", () => {
    const all = lines();
    for (const n of [1, 2, 3]) all.enter({ client: A, n });
    for (const n of [1, 2]) all.enter({ client: B, n });
    expect(all.leave(A)).toEqual([{ client: A, n: 3 }]);
    expect(all.leave(A)).toEqual([{ client: B, n: 2 }]);
    expect(all.leave(B)).toEqual([]);
    expect(all.leave(B)).toEqual([]);
    expect(all.leave(A)).toEqual([]);
    expect({ running: all.running, waiting: all.waiting, room: all.room }).toEqual({ running: 0, waiting: 0, room: 6 });
  });

  test("what waits can be taken out, and there is never room beyond the bound", () => {
    const all = lines();
    for (const n of [1, 2, 3, 4]) all.enter({ client: A, n });
    for (const n of [1, 2]) all.enter({ client: B, n });
    expect(all.room).toBe(0);
    expect(all.drain().map((job) => job.client)).toEqual([A, A, B]);
    expect(all.waiting).toBe(0);
  });
});
