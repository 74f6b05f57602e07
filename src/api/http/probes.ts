// For operators: whether the process lives, whether it can serve, and what it measures.
import { setTimeout as sleep } from "node:timers/promises";
import { Counter, Histogram, type Registry } from "@prometheus-io/client";
import type { Limits } from "../../app/rate-limit.ts";
import type { NodeServices } from "../../app/services.ts";
import { addProcessMetrics } from "../../platform/metrics.ts";
import type { ApiRouter } from "./api.ts";
import { operatorCheck } from "./authentication.ts";
import { sendJson } from "./pages.ts";
import { Problem } from "./problems.ts";

/** How a part is: whether it can serve, and what an operator wants to know of it. */
type ProbeResult = { readonly ok: boolean; readonly detail?: Readonly<Record<string, unknown>> };
/** Checks a part; one that throws or takes too long cannot serve. */
type Probe = () => ProbeResult | Promise<ProbeResult>;
export type Probes = Readonly<Record<string, Probe>>;

/** When to look again at a node that is not ready. */
const RETRY_AFTER_SECONDS = "1";
/** How long the check of a part may take. */
const PROBE_TIMEOUT_MS = 2_000;

/** The states of the read models with which a node can serve. */
const HEALTHY: ReadonlySet<string> = new Set(["live", "catching_up", "standby", "following"]);

/** The parts that every node has. */
const commonProbes = ({ store, readSide }: NodeServices): Probes => ({
  store: async () => {
    await store.ping();
    return { ok: true };
  },
  read_models: async () => {
    const status = await readSide.status();
    return { ok: HEALTHY.has(status.state), detail: { ...status } };
  },
});

async function run(probe: Probe): Promise<ProbeResult> {
  const timeout = sleep(PROBE_TIMEOUT_MS, { ok: false, detail: { error: "no answer in time" } }, { ref: false });
  try {
    return await Promise.race([probe(), timeout]);
  } catch (error) {
    return { ok: false, detail: { error: error instanceof Error ? error.message : String(error) } };
  }
}

/** `/livez`, `/readyz`, `/metrics`. Details and metrics are the operator's, and open in development mode. */
export function addProbes(
  router: ApiRouter,
  services: NodeServices,
  probes: Probes,
  registry: Registry,
  limits: Limits,
): void {
  const { config } = services;
  const isAllowed = operatorCheck(config, limits);
  const all = Object.entries({ ...commonProbes(services), ...probes });
  router.get("/livez", (ctx) => sendJson(ctx, { status: "ok" }));
  router.get("/readyz", async (ctx) => {
    const results = await Promise.all(all.map(async ([name, probe]) => [name, await run(probe)] as const));
    const isReady = results.every(([, { ok }]) => ok);
    const status = isReady ? "ready" : "not_ready";
    const parts = Object.fromEntries(results.map(([name, { ok, detail }]) => [name, { ok, ...detail }]));
    const shown = (await isAllowed(ctx.req)) ? { status, parts } : { status };
    if (!isReady) ctx.set("Retry-After", RETRY_AFTER_SECONDS);
    sendJson(ctx, shown, isReady ? 200 : 503);
  });
  router.get("/metrics", async (ctx) => {
    if (!(await isAllowed(ctx.req))) throw new Problem("unauthenticated");
    const metrics = await registry.metrics();
    ctx.set("Content-Type", registry.contentType);
    ctx.body = metrics;
  });
}

const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Counts an answered request; `path` is the route's own, with its parameters' names. No label names a client or a user. */
export type ObserveRequest = (method: string, path: string, status: number, seconds: number) => void;

/** Adds the metrics of the process and of HTTP to a registry. */
export function addHttpMetrics(registry: Registry): ObserveRequest {
  addProcessMetrics(registry);
  const durations = new Histogram({
    name: "chatapi_http_request_duration_seconds",
    help: "From a request's headers to its answer.",
    labelNames: ["method", "path"],
    buckets: BUCKETS,
    registers: [registry],
  });
  const requests = new Counter({
    name: "chatapi_http_requests_total",
    help: "Answered requests.",
    labelNames: ["method", "path", "status"],
    registers: [registry],
  });
  return (method, path, status, seconds) => {
    durations.observe({ method, path }, seconds);
    requests.inc({ method, path, status });
  };
}
