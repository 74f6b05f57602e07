// Metrics that are read when they are scraped: how far things are behind, and how much is open. None names a client or a user.
import { Gauge, type Registry } from "@prometheus-io/client";

/** What a gauge shows: one value, or one for each value of its label. Null while it cannot be told. */
type Reading = number | null | { readonly label: string; readonly values: Readonly<Record<string, number>> };

export type GaugeDefinition = {
  readonly name: string;
  readonly help: string;
  readonly read: () => Reading | Promise<Reading>;
};

/** Adds gauges to a registry. One that cannot be read shows no value, and does not fail the scrape. */
export function addGauges(registry: Registry, definitions: readonly GaugeDefinition[]): void {
  for (const { name, help, read } of definitions) {
    new Gauge({
      ...{ name, help, registers: [registry] },
      labelNames: LABELS[name] ?? [],
      async collect() {
        this.reset();
        const reading = await Promise.resolve(read()).catch(() => null);
        if (typeof reading === "number") this.set(reading);
        else if (reading !== null) {
          for (const [value, amount] of Object.entries(reading.values)) this.set({ [reading.label]: value }, amount);
        }
      },
    });
  }
}

const LABELS: Readonly<Record<string, readonly string[]>> = {
  chatapi_build_info: ["version"],
  chatapi_database_connections: ["state"],
};
