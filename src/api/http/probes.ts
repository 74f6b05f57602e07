// For operators: whether the process lives, whether it can serve, what it measures.
import { setTimeout as sleep } from "node:timers/promises";
import type { Services } from "../../app/services.ts";
import type { Admission } from "./admission.ts";
import type { HttpMetrics } from "./metrics.ts";
import { Problem } from "./problems.ts";
import { json, type SiteRoute } from "./site.ts";

/** How a part is: able to serve or not, and what an operator wants to know of it. */
type ProbeResult = { readonly ok: boolean; readonly detail?: Readonly<Record<string, unknown>> };
/** Asks a part how it is; one that throws or takes too long is not able to serve. */
type Probe = () => ProbeResult | Promise<ProbeResult>;
export type Probes = Readonly<Record<string, Probe>>;

/** How long a part may take to say how it is. */
const PROBE_TIMEOUT_MS = 2_000;

type Parts = Pick<Services, "config" | "store" | "readSide">;

/** How the read models may be on a node that can serve. */
const WELL: ReadonlySet<string> = new Set(["live", "catching_up", "standby", "following"]);

/** What every node stands on. */
const ownProbes = ({ store, readSide }: Parts): Probes => ({
  store: async () => {
    await store.ping();
    return { ok: true };
  },
  read_models: async () => {
    const status = await readSide.status();
    return { ok: WELL.has(status.state), detail: { ...status } };
  },
});

async function ask(probe: Probe): Promise<ProbeResult> {
  const timeUp = sleep(PROBE_TIMEOUT_MS, { ok: false, detail: { error: "no answer in time" } }, { ref: false });
  try {
    return await Promise.race([probe(), timeUp]);
  } catch (error) {
    return { ok: false, detail: { error: error instanceof Error ? error.message : String(error) } };
  }
}

/** `/livez`, `/readyz`, `/metrics`. Details and metrics are the operator's, and open in development mode. */
export function probeRoutes(
  services: Parts,
  { admission, metrics, probes }: { admission: Pick<Admission, "isOperator">; metrics: HttpMetrics; probes: Probes },
): readonly SiteRoute[] {
  const { config } = services;
  const all = Object.entries({ ...ownProbes(services), ...probes });
  return [
    { path: "/livez", methods: { GET: () => json({ status: "ok" }) } },
    {
      path: "/readyz",
      methods: {
        GET: async ({ request }) => {
          const results = await Promise.all(all.map(async ([name, probe]) => [name, await ask(probe)] as const));
          const ready = results.every(([, { ok }]) => ok);
          const status = ready ? "ready" : "not_ready";
          const code = ready ? 200 : 503;
          if (!config.development && !admission.isOperator(request)) return json({ status }, code);
          const parts = results.map(([name, { ok, detail }]) => [name, { ok, ...detail }]);
          return json({ status, parts: Object.fromEntries(parts) }, code);
        },
      },
    },
    {
      path: "/metrics",
      methods: {
        GET: async ({ request }) => {
          if (!config.development && !admission.isOperator(request)) throw new Problem("unauthenticated");
          return { status: 200, type: metrics.registry.contentType, body: await metrics.registry.metrics() };
        },
      },
    },
  ];
}
