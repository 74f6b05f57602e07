// Metrics that are read when they are scraped, and those of the process and of Node. None names a client or a user.
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { Counter, collectDefaultMetrics, Gauge, type Registry } from "@prometheus-io/client";

/** What a metric shows: one value, or one for each value of its label. Null while it cannot be told. */
type Reading = number | null | Readonly<Record<string, number>>;

export type ReadMetric = {
  readonly name: string;
  readonly help: string;
  /** Default: gauge. A counter's reading only grows while the process runs. */
  readonly type?: "gauge" | "counter";
  readonly label?: string;
  readonly read: () => Reading | Promise<Reading>;
};

/** What a request that writes passes through, in order. */
export const STAGES = ["admission", "queue", "decide", "seal", "flush", "answer"] as const;
type Stage = (typeof STAGES)[number];
export type ObserveStage = (stage: Stage, ms: number) => void;

/** Times the stages of one request: each begins where the one before ended, so that together they are the request. */
export class StageClock {
  readonly #observe: ObserveStage;
  #since: number;

  /** `since`: when the request came, on the monotonic clock. */
  constructor(observe: ObserveStage, since: number) {
    this.#observe = observe;
    this.#since = since;
  }

  /** The stage ends now. */
  passed(stage: Stage): void {
    const now = performance.now();
    this.#observe(stage, now - this.#since);
    this.#since = now;
  }
}

/** One reading for all metrics of a scrape: who asks while it is under way is given the same. */
export function shared<T>(read: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  return () => {
    running ??= read().finally(() => {
      running = undefined;
    });
    return running;
  };
}

/** Adds metrics to a registry. One that cannot be read shows no value, and does not fail the scrape. */
export function addReadMetrics(registry: Registry, definitions: readonly ReadMetric[]): void {
  for (const { name, help, type = "gauge", label, read } of definitions) {
    const labelNames: string[] = label === undefined ? [] : [label];
    const options = { name, help, registers: [registry], labelNames };
    const collect = async (metric: Gauge<string> | Counter<string>) => {
      const reading = await Promise.resolve()
        .then(read)
        .catch(() => null);
      metric.reset();
      // A reset metric without labels is 0, which nobody has told.
      if (reading === null) return label === undefined ? metric.remove() : undefined;
      if (typeof reading === "number") return metric.inc(reading);
      for (const [value, amount] of Object.entries(reading)) metric.inc({ [label ?? ""]: value }, amount);
    };
    if (type === "counter") {
      new Counter<string>({
        ...options,
        collect() {
          return collect(this);
        },
      });
    } else {
      new Gauge<string>({
        ...options,
        collect() {
          return collect(this);
        },
      });
    }
  }
}

// The process and Node: what timers sample is sampled seldom while the process has nothing to do.

/** How often it is measured how busy the event loop was. */
const UTILIZATION_MS = 5_000;
/** Interval of the samples of the event loop's delay, which each delay includes. */
const SAMPLE_MS = 10;
/** The library's own samples of it, in their place. */
const NEVER_MS = 2 ** 30;
/** Share of time in which an event loop works that is sampled: waking an idle one 100 times a second costs more than all else. */
const BUSY = 0.1;
const BUSY_CHECK_MS = 1_000;

const LAG = ["min", "max", "mean", "stddev", "p50", "p90", "p99"] as const;

export function addProcessMetrics(register: Registry): void {
  collectDefaultMetrics({
    register,
    eventLoopMonitoringPrecision: NEVER_MS,
    eventLoopUtilizationTimeout: UTILIZATION_MS,
  });
  for (const name of LAG) register.removeSingleMetric(lagName(name));
  const lag = shared(sampleLag());
  addReadMetrics(
    register,
    LAG.map((name) => ({
      name: lagName(name),
      help: `Delays of the event loop since the last scrape, sampled while it is busy: ${name}.`,
      read: async () => (await lag())?.[name] ?? 0,
    })),
  );
}

const lagName = (name: (typeof LAG)[number]): string => `nodejs_eventloop_lag_${name}_seconds`;

/** Gives the delays sampled since the last call, in seconds; undefined when there are none. */
function sampleLag(): () => Promise<Readonly<Record<(typeof LAG)[number], number>> | undefined> {
  const samples = monitorEventLoopDelay({ resolution: SAMPLE_MS });
  let before = performance.eventLoopUtilization();
  setInterval(() => {
    const { utilization } = performance.eventLoopUtilization(before);
    before = performance.eventLoopUtilization();
    if (utilization >= BUSY) samples.enable();
    else samples.disable();
  }, BUSY_CHECK_MS).unref();
  return async () => {
    if (samples.count === 0) return undefined;
    const { min, max, mean, stddev } = samples;
    const [p50 = 0, p90 = 0, p99 = 0] = [50, 90, 99].map((percent) => samples.percentile(percent));
    samples.reset();
    const nanoseconds = { min, max, mean, stddev, p50, p90, p99 };
    return Object.fromEntries(
      Object.entries(nanoseconds).map(([name, value]) => [name, value / 1e9]),
    ) as typeof nanoseconds;
  };
}
