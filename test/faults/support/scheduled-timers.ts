// Timers as steps of an interleaving: however long one is, it may fire before or after anything else.
import { syncBuiltinESMExports } from "node:module";
import promised from "node:timers/promises";
import { vi } from "vitest";
import type { Interleaving } from "./interleaving.ts";

/** A timer takes a step for each of these: long ones seldom fire before what takes few steps, but they may. */
const STRIDE_MS = 1_000;

/**
 * Takes the place of the process's timers and of its monotonic clock, which moves when one fires, until it is disposed.
 * Timers longer than `longestMs` never fire.
 */
export function scheduledTimers(interleaving: Interleaving, longestMs: number): Disposable {
  const before = { setTimeout, clearTimeout };
  const running = new Set<object>();
  let now = 0;

  async function fire(timer: object, ms: number, callback: () => void): Promise<void> {
    const due = now + ms;
    // One of no time at all fires later than it is started, too.
    for (let left = Math.max(ms, 1); left > 0; left -= STRIDE_MS) {
      if (running.has(timer)) await interleaving.step(`of ${ms} ms ${left} are left`);
    }
    if (!running.delete(timer)) return;
    now = Math.max(now, due);
    callback();
  }

  function start(callback: (...values: unknown[]) => void, ms = 0, ...values: unknown[]): object {
    const timer = { unref: () => timer, ref: () => timer };
    running.add(timer);
    if (ms <= longestMs) void fire(timer, ms, () => callback(...values));
    return timer;
  }

  function clear(timer: object | undefined): void {
    // One that was started before, or somewhere else.
    if (timer === undefined || !running.delete(timer)) before.clearTimeout(timer as NodeJS.Timeout | undefined);
  }

  vi.stubGlobal("setTimeout", start);
  vi.stubGlobal("clearTimeout", clear);
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
  const sleep = vi.spyOn(promised, "setTimeout").mockImplementation(async (ms = 0) => {
    await new Promise<void>((resolve) => start(() => resolve(), ms));
    return undefined as never;
  });
  syncBuiltinESMExports();
  return {
    [Symbol.dispose]() {
      vi.stubGlobal("setTimeout", before.setTimeout);
      vi.stubGlobal("clearTimeout", before.clearTimeout);
      clock.mockRestore();
      sleep.mockRestore();
      syncBuiltinESMExports();
      running.clear();
    },
  };
}
