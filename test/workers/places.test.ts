// Places at a host: bounded, fair between clients, given up in time.
import { describe, expect, test } from "vitest";
import type { ClientId } from "../../src/contract/ids.ts";
import { Pace, Places } from "../../src/workers/places.ts";

const A: ClientId = "cli_a";
const B: ClientId = "cli_b";
const open = new AbortController().signal;
const ask = (places: Places, client: ClientId, waitMs = 5_000, signal = open) =>
  places.enter({ host: "h", client, limit: 2, waitMs, signal });

describe("places", () => {
  test("a place that comes free goes to the client that has the fewest, then to who waits longest", async () => {
    const places = new Places();
    const first = await ask(places, A);
    await ask(places, A);
    const order: string[] = [];
    const note = (name: string) => (leave: (() => void) | undefined) => {
      order.push(name);
      return leave;
    };
    const waiting = [ask(places, A).then(note("a3")), ask(places, A).then(note("a4")), ask(places, B).then(note("b1"))];
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

  test("who waits too long, or is asked to stop, gets none, and takes none from others", async () => {
    const places = new Places();
    const leave = await ask(places, A);
    await ask(places, A);
    expect(await ask(places, B, 5)).toBeUndefined();
    const stopping = new AbortController();
    const stopped = ask(places, B, 5_000, stopping.signal);
    stopping.abort();
    expect(await stopped).toBeUndefined();
    const next = ask(places, B);
    leave?.();
    expect(await next).toBeTypeOf("function");
  });

  test("hosts do not share places", async () => {
    const places = new Places();
    await Promise.all([ask(places, A), ask(places, A)]);
    const other = places.enter({ host: "other", client: A, limit: 1, waitMs: 0, signal: open });
    expect(await other).toBeTypeOf("function");
  });

  test("a pace spaces turns evenly, and a turn that is too far away is not taken", () => {
    const pace = new Pace();
    expect([pace.take("p", 10, 1_000, 150), pace.take("p", 10, 1_000, 150)]).toEqual([0, 100]);
    expect([pace.take("p", 10, 1_000, 150), pace.take("p", 10, 1_000, 150)]).toEqual([200, 200]);
    expect(pace.take("other", 10, 1_000, 150)).toBe(0);
    expect(pace.take("p", 10, 1_300, 150)).toBe(0);
  });
});
