// For operators: whether the process lives, whether it can serve, and what it measures.
import { setTimeout as sleep } from "node:timers/promises";
import { Counter, Histogram, type Registry } from "@prometheus-io/client";
import { z } from "zod";
import type { Limits } from "../../app/rate-limit.ts";
import type { NodeServices } from "../../app/services.ts";
import { addProcessMetrics } from "../../platform/metrics.ts";
import type { Peers } from "../../platform/processes.ts";
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

type Checked = { readonly ok: boolean; readonly parts: Readonly<Record<string, object>> };

async function check(probes: Probes): Promise<Checked> {
  const results = await Promise.all(
    Object.entries(probes).map(async ([name, probe]) => [name, await run(probe)] as const),
  );
  const parts = Object.fromEntries(results.map(([name, { ok, detail }]) => [name, { ok, ...detail }]));
  return { ok: results.every(([, { ok }]) => ok), parts };
}

const PeerChecked = z.object({ ok: z.boolean(), pid: z.int(), parts: z.record(z.string(), z.looseObject({})) });

/** The other processes of the node, by number: it is ready when all of them are. */
const peersProbe =
  (peers: Peers): Probe =>
  async () => {
    const answers = await peers.query("readiness");
    const others = answers.map(({ number, text }) => {
      const checked = text === null ? { ok: false } : PeerChecked.parse(JSON.parse(text));
      return [number, checked] as const;
    });
    return { ok: others.every(([, { ok }]) => ok), detail: Object.fromEntries(others) };
  };

/** The samples of several processes, which a label tells apart, with each family's head once. */
function mergeMetrics(texts: readonly string[]): string {
  const families = new Map<string, string[]>();
  for (const text of texts) {
    let family: string[] = [];
    let isKnown = false;
    for (const line of text.split("\n")) {
      if (line.startsWith("# HELP ")) {
        const [, , name = ""] = line.split(" ");
        isKnown = families.has(name);
        family = families.get(name) ?? [];
        families.set(name, family);
      }
      if (line !== "" && !(isKnown && line.startsWith("# "))) family.push(line);
    }
  }
  return `${[...families.values()].map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

type ProbeOptions = {
  readonly probes: Probes;
  readonly registry: Registry;
  readonly limits: Limits;
  readonly peers: Peers | undefined;
};

/**
 * `/livez`, `/readyz`, `/metrics`: of all processes of the node. Details and metrics are the operator's, and open in development
 * mode.
 */
export function addProbes(
  router: ApiRouter,
  services: NodeServices,
  { probes, registry: measured, limits, peers }: ProbeOptions,
): void {
  const { config } = services;
  const isAllowed = operatorCheck(config, limits);
  const own = { ...commonProbes(services), ...probes };
  const all = peers === undefined ? own : { ...own, processes: peersProbe(peers) };
  if (peers !== undefined) {
    measured.setDefaultLabels({ process: String(peers.task.number) });
    const readiness = async () => JSON.stringify({ pid: process.pid, ...(await check(own)) });
    peers.answer({ metrics: () => measured.metrics(), readiness });
  }
  router.get("/livez", (ctx) => sendJson(ctx, { status: "ok" }));
  router.get("/readyz", async (ctx) => {
    const { ok: isReady, parts } = await check(all);
    const status = isReady ? "ready" : "not_ready";
    const shown = (await isAllowed(ctx.req)) ? { status, parts } : { status };
    if (!isReady) ctx.set("Retry-After", RETRY_AFTER_SECONDS);
    sendJson(ctx, shown, isReady ? 200 : 503);
  });
  router.get("/metrics", async (ctx) => {
    if (!(await isAllowed(ctx.req))) throw new Problem("unauthenticated");
    const [metrics, others] = await Promise.all([measured.metrics(), peers?.query("metrics")]);
    ctx.set("Content-Type", measured.contentType);
    ctx.body = others === undefined ? metrics : mergeMetrics([metrics, ...others.flatMap(({ text }) => text ?? [])]);
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
