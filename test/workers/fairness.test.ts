// Fairness in one process: how many jobs of a client run, how many attempts reach a host, at what rate.
import { describe, expect, test } from "vitest";
import type { ClientId } from "../../src/contract/ids.ts";
import { HostLimiter, RateLimiter, TenantConcurrency } from "../../src/workers/fairness.ts";

const A: ClientId = "cli_a";
const B: ClientId = "cli_b";
type J = { readonly client: ClientId; readonly n: number };

describe("the concurrency of clients", () => {
  const limits = { running: 3, perClient: 2, waitingPerClient: 2 };
  const concurrency = () => new TenantConcurrency<J>(limits);

  test("starts as many jobs of a client as may run, lets some wait, and returns the others", () => {
    const all = concurrency();
    const admitted = [1, 2, 3, 4, 5].map((n) => all.admit({ client: A, n }));
    expect(admitted).toEqual(["start", "start", "wait", "wait", "return"]);
    expect(all.admit({ client: B, n: 1 })).toBe("start");
    expect({ running: all.running, waiting: all.waiting }).toEqual({ running: 3, waiting: 2 });
  });

  test("counts a client as saturated when half of its jobs that may wait do", () => {
    const all = concurrency();
    for (const n of [1, 2]) all.admit({ client: A, n });
    expect(all.saturated()).toEqual([]);
    all.admit({ client: A, n: 3 });
    expect(all.saturated()).toEqual([A]);
    expect([all.needsMore(A), all.needsMore(B)]).toEqual([false, true]);
  });

  test("starts a waiting job for each that ends, in order, of the same client first", () => {
    const all = concurrency();
    for (const n of [1, 2, 3]) all.admit({ client: A, n });
    for (const n of [1, 2]) all.admit({ client: B, n });
    expect(all.release(A)).toEqual([{ client: A, n: 3 }]);
    expect(all.release(A)).toEqual([{ client: B, n: 2 }]);
    expect(all.release(B)).toEqual([]);
    expect(all.release(B)).toEqual([]);
    expect(all.release(A)).toEqual([]);
    expect({ running: all.running, waiting: all.waiting, capacity: all.capacity }).toEqual({
      ...{ running: 0, waiting: 0, capacity: 6 },
    });
  });

  test("gives back the jobs that wait, and never has capacity beyond its bound", () => {
    const all = concurrency();
    for (const n of [1, 2, 3, 4]) all.admit({ client: A, n });
    for (const n of [1, 2]) all.admit({ client: B, n });
    expect(all.capacity).toBe(0);
    expect(all.drain().map((job) => job.client)).toEqual([A, A, B]);
    expect(all.waiting).toBe(0);
  });
});

describe("the limiter of hosts", () => {
  const open = new AbortController().signal;
  const acquire = (limiter: HostLimiter, client: ClientId, waitMs = 5_000, signal = open) =>
    limiter.acquire({ host: "h", client, limit: 2, waitMs, signal });

  test("lets the client with the fewest attempts at the host go next, then the one that waits longest", async () => {
    const limiter = new HostLimiter();
    const first = await acquire(limiter, A);
    await acquire(limiter, A);
    const order: string[] = [];
    const note = (name: string) => (release: (() => void) | undefined) => {
      order.push(name);
      return release;
    };
    const waiting = [
      acquire(limiter, A).then(note("a3")),
      acquire(limiter, A).then(note("a4")),
      acquire(limiter, B).then(note("b1")),
    ];
    first?.();
    const b = await waiting[2];
    expect(order).toEqual(["b1"]);
    b?.();
    const a3 = await waiting[0];
    expect(order).toEqual(["b1", "a3"]);
    a3?.();
    await waiting[1];
    expect(order).toEqual(["b1", "a3", "a4"]);
  });

  test("gives nothing to who waits too long or is aborted, and takes nothing from others for them", async () => {
    const limiter = new HostLimiter();
    const release = await acquire(limiter, A);
    await acquire(limiter, A);
    expect(await acquire(limiter, B, 5)).toBeUndefined();
    const stopping = new AbortController();
    const stopped = acquire(limiter, B, 5_000, stopping.signal);
    stopping.abort();
    expect(await stopped).toBeUndefined();
    const next = acquire(limiter, B);
    release?.();
    expect(await next).toBeTypeOf("function");
  });

  test("limits each host for itself", async () => {
    const limiter = new HostLimiter();
    await Promise.all([acquire(limiter, A), acquire(limiter, A)]);
    const other = limiter.acquire({ host: "other", client: A, limit: 1, waitMs: 0, signal: open });
    expect(await other).toBeTypeOf("function");
  });
});

test("the limiter of rates spaces time slots evenly, and takes none that is too far away", () => {
  const limiter = new RateLimiter();
  expect([limiter.take("p", 10, 1_000, 150), limiter.take("p", 10, 1_000, 150)]).toEqual([0, 100]);
  expect([limiter.take("p", 10, 1_000, 150), limiter.take("p", 10, 1_000, 150)]).toEqual([200, 200]);
  expect(limiter.take("other", 10, 1_000, 150)).toBe(0);
  expect(limiter.take("p", 10, 1_300, 150)).toBe(0);
});
