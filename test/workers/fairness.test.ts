// Fairness in one process: how many jobs of a client run, how many attempts reach a host, at what rate.
import { describe, expect, test } from "vitest";
import type { ClientId, EndpointId } from "../../src/contract/ids.ts";
import { MemoryBudget } from "../../src/workers/attachments.ts";
import { HostLimiter, TenantConcurrency } from "../../src/workers/fairness.ts";

const A: ClientId = "cli_a";
const B: ClientId = "cli_b";
const C: ClientId = "cli_c";
const job = (
  client: ClientId,
  round: number,
  { priority = "normal", endpoint = null }: { priority?: "normal" | "critical"; endpoint?: EndpointId | null } = {},
) => ({ client, endpoint, round, priority });

describe("the concurrency of clients", () => {
  const concurrency = (limits = { running: 8, perClient: 8, waitingPerClient: 4 }) =>
    new TenantConcurrency<ReturnType<typeof job>>(limits);

  test("gives one client half of all, lets some of its jobs wait, and returns the others", () => {
    const all = concurrency();
    const admitted = Array.from({ length: 9 }, (_, n) => all.admit(job(A, n)));
    expect(admitted).toEqual([...Array(4).fill("start"), ...Array(4).fill("wait"), "return"]);
    expect({ running: all.running, waiting: all.waiting }).toEqual({ running: 4, waiting: 4 });
  });

  test("always has room for a client that comes late, and more for what is critical", () => {
    const all = concurrency();
    for (const client of [A, B, C]) for (let n = 0; n < 4; n += 1) all.admit(job(client, n));
    expect(all.running).toBeLessThan(8);
    expect(all.admit(job("cli_d", 1))).toBe("start");
    const flooded = concurrency();
    for (let n = 0; n < 4; n += 1) flooded.admit(job(A, n));
    expect(flooded.admit(job(A, 9, { priority: "critical" }))).toBe("start");
  });

  test("holds one client to its own limit, when that is less", () => {
    const all = concurrency({ running: 8, perClient: 2, waitingPerClient: 4 });
    expect([1, 2, 3].map((n) => all.admit(job(A, n)))).toEqual(["start", "start", "wait"]);
  });

  test("counts a client as saturated when half of its jobs that may wait do", () => {
    const all = concurrency();
    for (let n = 0; n < 5; n += 1) all.admit(job(A, n));
    expect(all.saturated()).toEqual([]);
    all.admit(job(A, 5));
    expect(all.saturated()).toEqual([A]);
    expect([all.needsMore(job(A, 0)), all.needsMore(job(B, 0))]).toEqual([false, true]);
  });

  test("starts the waiting job of the first round for each that ends, whoever it is of", () => {
    const all = concurrency({ running: 2, perClient: 2, waitingPerClient: 4 });
    for (const n of [1, 9, 7, 8]) all.admit(job(A, n));
    all.admit(job(B, 3));
    all.admit(job(B, 5));
    expect(all.release(job(A, 0))).toEqual([job(A, 7)]);
    expect(all.release(job(B, 0))).toEqual([job(B, 5)]);
    // One client does not get both, though nobody else is there.
    expect(all.release(job(B, 0))).toEqual([]);
    expect(all.release(job(A, 0))).toEqual([job(A, 8)]);
    expect(all.release(job(A, 0))).toEqual([job(A, 9)]);
    expect(all.release(job(A, 0))).toEqual([]);
    expect({ running: all.running, waiting: all.waiting, capacity: all.capacity }).toEqual({
      ...{ running: 0, waiting: 0, capacity: 4 },
    });
  });

  test("gives back the jobs that wait, and never has capacity beyond its bound", () => {
    const all = concurrency({ running: 2, perClient: 2, waitingPerClient: 2 });
    for (const n of [1, 2, 3]) all.admit(job(A, n));
    all.admit(job(B, 1));
    expect(all.capacity).toBe(0);
    expect(all.drain().map(({ client }) => client)).toEqual([A, A]);
    expect(all.waiting).toBe(0);
  });

  test("gives each endpoint of a client slots of its own, however many jobs another has", () => {
    const all = concurrency({ running: 40, perClient: 12, waitingPerClient: 12 });
    const of = (endpoint: EndpointId, round: number) => job(A, round, { endpoint });
    const hanging = Array.from({ length: 40 }, (_, n) => all.admit(of("whk_hangs", n)));
    expect(hanging.filter((admitted) => admitted === "start")).toHaveLength(6);
    expect(hanging.filter((admitted) => admitted === "wait")).toHaveLength(6);
    expect(all.saturated()).toEqual(["whk_hangs"]);
    expect([all.admit(of("whk_other", 50)), all.admit(job(A, 50))]).toEqual(["start", "start"]);
    // What ends of one starts the next of that one, until others took its slots.
    expect(all.release(of("whk_hangs", 0))).toEqual([of("whk_hangs", 6)]);
    for (const endpoint of ["whk_3", "whk_4", "whk_5"] as const) expect(all.admit(of(endpoint, 51))).toBe("start");
    expect(all.release(of("whk_hangs", 1))).toEqual([]);
    expect(all.admit(of("whk_6", 60))).toBe("start");
  });

  test("forgets who has no jobs any more", () => {
    const all = concurrency({ running: 4, perClient: 2, waitingPerClient: 2 });
    const jobs = [job(A, 1, { endpoint: "whk_1" }), job(A, 1), job(A, 2), job(A, 2, { endpoint: "whk_2" })];
    for (const one of jobs) expect(all.admit(one)).not.toBe("return");
    const started = jobs.slice(0, 2).flatMap((one) => all.release(one));
    expect(started).toHaveLength(2);
    for (const one of started) all.release(one);
    expect({ running: all.running, waiting: all.waiting, capacity: all.capacity }).toEqual({
      ...{ running: 0, waiting: 0, capacity: 8 },
    });
    expect([1, 2].map((n) => all.admit(job(A, n)))).toEqual(["start", "start"]);
  });

  test("counts an endpoint as its client's, though none of its jobs found room before", () => {
    const all = concurrency({ running: 40, perClient: 2, waitingPerClient: 1 });
    const of = (endpoint: EndpointId) => job(A, 1, { endpoint });
    const four = [of("whk_1"), of("whk_2"), of("whk_3"), of("whk_4")] as const;
    expect(four.map((one) => all.admit(one))).toEqual(["start", "start", "wait", "return"]);
    for (const one of four.slice(0, 3)) all.release(one);
    expect(all.running).toBe(0);
    expect([of("whk_5"), of("whk_6"), of("whk_4")].map((one) => all.admit(one))).toEqual(["start", "start", "wait"]);
  });
});

describe("the limiter of hosts", () => {
  const open = new AbortController().signal;
  const limiterAt = () => {
    const clock = { now: 1_000 };
    return { clock, limiter: new HostLimiter(() => clock.now) };
  };
  const request = (client: ClientId, more: object = {}) => ({
    ...{ host: "h", client, limit: 8, critical: false, waitMs: 5_000, signal: open },
    ...more,
  });
  type Slot = Awaited<ReturnType<HostLimiter["acquire"]>>;
  const release = (slot: Slot | undefined, answered = true) => {
    if (slot === undefined || !("release" in slot)) throw new Error("it has no slot");
    slot.release(answered);
  };
  const take = (limiter: HostLimiter, count: number, client: ClientId) =>
    Promise.all(Array.from({ length: count }, () => limiter.acquire(request(client))));

  test("gives one client half of a host: another, and what is critical, find a slot at once", async () => {
    const { limiter } = limiterAt();
    const [first] = await take(limiter, 4, A);
    const order: string[] = [];
    const note = (name: string) => (slot: Slot) => {
      order.push(name);
      return slot;
    };
    const waiting = [
      limiter.acquire(request(A)).then(note("a5")),
      limiter.acquire(request(B)).then(note("b1")),
      limiter.acquire(request(A, { critical: true })).then(note("critical")),
    ];
    const [b1, critical] = await Promise.all([waiting[1], waiting[2]]);
    expect(order.toSorted()).toEqual(["b1", "critical"]);
    for (const slot of [first, b1, critical]) release(slot);
    await waiting[0];
    expect(order).toContain("a5");
  });

  test("goes on with what is critical, then with the client that has the fewest attempts there", async () => {
    const { limiter } = limiterAt();
    const held = await take(limiter, 4, A);
    held.push(...(await take(limiter, 2, B)));
    const order: string[] = [];
    const note = (name: string) => async (slot: Slot) => {
      order.push(name);
      release(slot);
    };
    const waiting = [
      limiter.acquire(request(A)).then(note("a")),
      limiter.acquire(request(B)).then(note("b")),
      limiter.acquire(request(A, { critical: true })).then(note("critical")),
    ];
    for (const slot of held) release(slot);
    await Promise.all(waiting);
    expect(order).toEqual(["critical", "b", "a"]);
  });

  test("puts off who waits too long or is aborted, and takes nothing from others for them", async () => {
    const { limiter } = limiterAt();
    const [held] = await take(limiter, 4, A);
    expect(await limiter.acquire(request(A, { waitMs: 5 }))).toEqual({ putOffUntil: 2_000 });
    const stopping = new AbortController();
    const stopped = limiter.acquire(request(A, { signal: stopping.signal }));
    stopping.abort();
    expect(await stopped).toHaveProperty("putOffUntil");
    const next = limiter.acquire(request(A));
    release(held);
    expect(await next).toHaveProperty("release");
  });

  test("limits each host for itself", async () => {
    const { limiter } = limiterAt();
    await take(limiter, 4, A);
    expect(await limiter.acquire(request(A, { host: "other", waitMs: 0 }))).toHaveProperty("release");
  });

  test("puts a host that hangs into the slow lane, and takes it out with the first answer", async () => {
    const { clock, limiter } = limiterAt();
    const wide = (client: ClientId) => request(client, { limit: 40 });
    const slots = await Promise.all(Array.from({ length: 12 }, () => limiter.acquire(wide(A))));
    clock.now += 3_000;
    // None waits in memory for a host that hangs, and each comes back later than the one before.
    const putOff = await Promise.all(Array.from({ length: 40 }, () => limiter.acquire(wide(B))));
    const times = putOff.map((slot) => ("putOffUntil" in slot ? slot.putOffUntil : 0));
    expect(times).toEqual(times.toSorted((one, other) => one - other));
    expect(times.every((at) => at >= clock.now + 1_000 && at <= clock.now + 30_000)).toBe(true);
    for (const slot of slots) release(slot, false);
    const lane = await Promise.all(Array.from({ length: 20 }, () => limiter.acquire(wide(A))));
    expect(lane.filter((slot) => "release" in slot)).toHaveLength(4);
    release(lane[0]);
    expect(await limiter.acquire(wide(B))).toHaveProperty("release");
    const again = await Promise.all(Array.from({ length: 16 }, () => limiter.acquire(wide(A))));
    expect(again.every((slot) => "release" in slot)).toBe(true);
  });

  test("puts off a flood by what the host takes, a few at a time in memory", async () => {
    const { clock, limiter } = limiterAt();
    for (let n = 0; n < 30; n += 1) {
      const slot = await limiter.acquire(request(A));
      clock.now += 400;
      release(slot);
    }
    await take(limiter, 4, A);
    const flood = Array.from({ length: 200 }, () => limiter.acquire(request(A, { waitMs: 1_000 })));
    const put = await Promise.race([
      Promise.all(flood.slice(100)),
      new Promise<undefined>((done) => setTimeout(() => done(undefined), 500)),
    ]);
    const times = (put ?? []).map((slot) => ("putOffUntil" in slot ? slot.putOffUntil - clock.now : 0));
    expect(times).toHaveLength(100);
    expect(times.at(-1)).toBeGreaterThan(5_000);
    expect(times.at(-1)).toBeLessThan(20_000);
  });
});

test("what finds no room in memory comes again one after the other, within half a minute", () => {
  const budget = new MemoryBudget();
  const times = Array.from({ length: 200 }, () => budget.putOff("cli_a", 262_144, 1_000_000) - 1_000_000);
  expect(times.slice(0, 3)).toEqual([510, 521, 531]);
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(budget.putOff("cli_b", 262_144, 1_000_000)).toBe(1_000_510); // nobody else's wait
  const many = Array.from({ length: 5_000 }, () => budget.putOff("cli_a", 262_144, 1_000_000));
  expect(Math.max(...many)).toBe(1_030_000);
  expect(budget.putOff("cli_a", 262_144, 2_000_000)).toBe(2_000_510);
});

test("attachments of mails under way have a bound, for one client and for all", () => {
  const MIB = 1_048_576;
  const budget = new MemoryBudget();
  const [one, two] = [budget.take("cli_a", 10 * MIB), budget.take("cli_a", 10 * MIB)];
  expect([one === undefined, two === undefined]).toEqual([false, false]);
  expect(budget.take("cli_a", 10 * MIB)).toBeUndefined();
  expect(budget.take("cli_a", 0)).toBeDefined();
  expect([budget.take("cli_b", 10 * MIB), budget.take("cli_c", 10 * MIB)].includes(undefined)).toBe(false);
  expect(budget.take("cli_d", 10 * MIB)).toBeUndefined();
  one?.[Symbol.dispose]();
  one?.[Symbol.dispose]();
  expect(budget.take("cli_d", 10 * MIB)).toBeDefined();
  expect(budget.take("cli_e", 10 * MIB)).toBeUndefined();
});
