// Metrics that are read when they are scraped: how far things are behind, and how much is open. None names a client or a user.
import { Counter, Gauge, type Registry } from "@prometheus-io/client";

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
