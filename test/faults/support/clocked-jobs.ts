// Jobs under a clock of the test's own: log, commands, reactors and the jobs' handlers as they are, days in a moment.
import { type Instant, SECOND_MS } from "../../../src/contract/time.ts";
import { decode, type StoredEvent } from "../../../src/event-store/envelope.ts";
import type { EventStore } from "../../../src/event-store/event-store.ts";
import type { Keyring } from "../../../src/event-store/sealing.ts";
import { handleJob } from "../../../src/workers/handle-job.ts";
import type { JobServices } from "../../../src/workers/job-services.ts";
import { DONE, type Job, queueOf, type Verdict } from "../../../src/workers/jobs.ts";
import { jobsOf } from "../../../src/workers/reactors.ts";
import { CLIENT } from "../../projections/log.ts";
import type { DueJob } from "./due-jobs.ts";

/** Somebody sets the clock, just before it is read for the so-manieth time. */
export type ClockStep = { readonly reading: number; readonly byMs: number };

export class SteppedClock {
  #at: Instant;
  #readings = 0;
  readonly #steps: readonly ClockStep[];

  constructor(at: Instant, steps: readonly ClockStep[]) {
    this.#at = at;
    this.#steps = steps;
  }
  read(): Instant {
    this.#readings += 1;
    for (const { reading, byMs } of this.#steps) if (reading === this.#readings) this.#at += byMs;
    return this.#at;
  }
  pass(ms: number): void {
    this.#at += ms;
  }
  /** Time goes by until it shows this. */
  reach(at: Instant): void {
    this.#at = Math.max(this.#at, at);
  }
}

export type JobStory = {
  readonly start: Instant;
  /** Which jobs get lost, counted as they come; the sweep has to find what they were for. */
  readonly lostJobs: readonly number[];
  /** Every job runs twice, as one whose worker was thought to be dead. */
  readonly twice: boolean;
};
/** The process is gone, and with it what it was about. */
export type Die = () => Promise<never>;
/** What a client does at a time. */
export type Act = { readonly at: Instant; act(): Promise<void> };

/** A job comes back this long after its worker died. */
const BACK_AFTER_MS = 20 * SECOND_MS;
/** Who takes more turns than this runs in a circle. */
const MAX_TURNS = 2_000;

type Options = {
  readonly story: JobStory;
  readonly clock: SteppedClock;
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly acts?: readonly Act[];
  /** A process: another one after each death. */
  process(die: Die): JobServices;
  /** What is due where no job waits any more. */
  sweepOf(events: readonly StoredEvent[]): readonly DueJob[];
  /** Whether a job that an event leads to is carried out here. */
  isAsked?(job: Job): boolean;
  /** Whether work that only the sweep finds should have had a job. */
  isMissed?(job: Job): boolean;
};
export type JobRun = { readonly events: readonly StoredEvent[]; readonly sweeps: number };

type Waiting = { readonly at: Instant; run(services: JobServices): Promise<Verdict> };

const ofJob = (job: Job, at: Instant): Waiting => ({
  at,
  run(services) {
    const taken = { ...job, at: null, queue: queueOf(job.work), round: 1, retryCount: 0, failures: 0 };
    return handleJob(services, taken, new AbortController().signal);
  },
});
const ofAct = ({ at, act }: Act): Waiting => ({
  at,
  async run() {
    await act();
    return DONE;
  },
});

/** Carries out all that events lead to, in the order of its times, until nothing is left to do. */
export async function runJobs(options: Options): Promise<JobRun> {
  const { story, clock, store, keyring, acts = [], process, sweepOf } = options;
  const { isAsked = () => true, isMissed = () => true } = options;
  let [sweeps, queued, seen] = [0, 0, 0];
  let died = Promise.withResolvers<"died">();
  const die: Die = () => {
    died.resolve("died");
    return new Promise(() => {});
  };
  let services = process(die);
  let waiting: Waiting[] = acts.map(ofAct);

  const react = async () => {
    const all = await decode(keyring, await store.readAll({ after: "start", limit: 1_000 }));
    const events = all.filter(({ meta }) => meta.client === CLIENT);
    for (const job of events.slice(seen).flatMap(jobsOf).filter(isAsked)) {
      queued += 1;
      if (story.lostJobs.includes(queued)) continue;
      for (let times = story.twice ? 2 : 1; times > 0; times -= 1) waiting.push(ofJob(job, job.at ?? story.start));
    }
    seen = events.length;
    return events;
  };

  for (let turns = 0; turns < MAX_TURNS; turns += 1) {
    const events = await react();
    const [next, ...others] = waiting.toSorted((one, other) => one.at - other.at);
    if (next === undefined) {
      const due = sweepOf(events);
      if (due.length === 0) return { events, sweeps };
      if (due.some(isMissed)) sweeps += 1;
      waiting.push(...due.map((job) => ofJob(job, job.at)));
      continue;
    }
    waiting = others;
    clock.reach(next.at);
    const verdict = await Promise.race([next.run(services), died.promise]);
    if (verdict === "died") {
      died = Promise.withResolvers();
      services = process(die);
      waiting.push({ ...next, at: clock.read() + BACK_AFTER_MS });
    } else if (verdict.kind === "retry") waiting.push({ ...next, at: verdict.at });
  }
  throw new Error("it never ends");
}
