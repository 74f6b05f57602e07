// One interleaving: what runs side by side goes on one step at a time, in the order that fast-check draws.
import type fc from "../../support/seed.ts";
import { sized, sizedTimeout } from "../../support/size.ts";

/** How many orders are tried, in the short form and in the long, and how long that may take on a busy machine. */
export const orders = {
  of: (short: number, ifLong: number) => ({
    numRuns: sized(short, ifLong),
    // Hundreds of steps are not made fewer in a test's time. The seed and the path in its message say which they were.
    endOnFailure: true,
  }),
  timeout: sizedTimeout(300_000, 6 * 3_600_000),
};

/** What takes more steps than this runs in a circle. */
const MAX_STEPS = 50_000;

/** For so long nobody may be able to go on: work that is no step takes a moment. Real time, whatever timers are. */
const PATIENCE_MS = 10_000;
const startTimer = setTimeout;
const clock = performance.now.bind(performance);

/** Whatever was let go has come to its next step, or to what it waits for. */
export const nextMacrotask = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class Interleaving {
  readonly #scheduler: fc.Scheduler;
  readonly #settled: () => Promise<void>;

  /** `settled` resolves when what was let go last waits for its next step; by default after a turn of the event loop. */
  constructor(scheduler: fc.Scheduler, settled: () => Promise<void> = nextMacrotask) {
    this.#scheduler = scheduler;
    this.#settled = settled;
  }

  /** Waits until it is let go on. */
  step(what: string): Promise<void> {
    return this.#scheduler.schedule(Promise.resolve(), what);
  }

  /** Work on another machine: it is asked for, done, and answered at moments of their own. */
  async remotely<T>(what: string, work: () => Promise<T>): Promise<T> {
    await this.step(`${what} asked for`);
    const [done] = await Promise.allSettled([work()]);
    await this.step(`${what} answered`);
    if (done.status === "rejected") throw done.reason;
    return done.value;
  }

  /** Lets one after the other go on until it is over. Throws when nobody can, for then something waits for ever. */
  async until<T>(over: Promise<T>): Promise<T> {
    let ended = false;
    const end = () => {
      ended = true;
    };
    over.then(end, end);
    for (let steps = 0; steps < MAX_STEPS; steps += 1) {
      await this.#settled();
      for (const idleSince = clock(); !ended && this.#scheduler.count() === 0; ) {
        if (clock() - idleSince > PATIENCE_MS) throw new Error("something waits for ever");
        await new Promise((resolve) => startTimer(resolve, 1));
      }
      if (ended) return over;
      await this.#scheduler.waitNext(1);
    }
    throw new Error("it does not come to an end");
  }
}
