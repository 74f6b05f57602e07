// The load: wrk where it is on the PATH, because what a generator takes of two cores is taken from what is measured; else
// the one in processes/load.ts. Either says what it took itself.
import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { quantile } from "../harness/measure.ts";
import type { Load, Loaded } from "../processes/load.ts";
import { type BenchProcess, startProcess } from "./process.ts";
import { canMeasure, endedChildrenMs, processorMs } from "./processor-time.ts";

const hasWrk = spawnSync("sh", ["-c", "command -v wrk"]).status === 0;

export type Generated = {
  readonly requests: number;
  readonly perSecond: number;
  /** Of the time from a request to its answer. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Processor time of the generator for a request, in microseconds; null where the system does not say. */
  readonly generatorMicros: number | null;
};

/** A generator of posts. Its name is for the table. */
export type Generator = AsyncDisposable & { readonly name: string; run(load: Load): Promise<Generated> };

export const startGenerator = (): Generator => (hasWrk ? wrk() : own("run"));

/** Posts over sockets, one of its own for each user. */
export const startSocketGenerator = (): Generator => own("runSockets");

export const startLoad = (): BenchProcess => startProcess(new URL("../processes/load.ts", import.meta.url));

function own(call: "run" | "runSockets"): Generator {
  const load = startLoad();
  return {
    name: "the generator in Node",
    async run(order) {
      const before = processorMs(load.child.pid ?? 0);
      const { perSecond, latencies } = await load.call<Loaded>(call, order);
      const tookMs = processorMs(load.child.pid ?? 0) - before;
      return {
        ...{ requests: latencies.length, perSecond },
        ...{ p50Ms: quantile([...latencies], 0.5), p99Ms: quantile([...latencies], 0.99) },
        generatorMicros: canMeasure ? (tookMs * 1_000) / latencies.length : null,
      };
    },
    [Symbol.asyncDispose]: () => load[Symbol.asyncDispose](),
  };
}

/** Sends the targets one after another, whichever connection is free; a tab parts path and body of a line. */
const SCRIPT = `
local targets, at = {}, 0
function init(args)
  for line in io.lines(args[1]) do
    local path, body = line:match("^([^\\t]*)\\t(.*)$")
    targets[#targets + 1] = wrk.format("POST", "/api/v1" .. path, nil, body)
  end
end
function request()
  at = at % #targets + 1
  return targets[at]
end
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %d %d %d\\n",
    summary.requests, summary.duration, failed, latency:percentile(50), latency:percentile(99)))
end
`;

function wrk(): Generator {
  const folder = mkdtemp(join(tmpdir(), "chatapi-wrk-"));
  return {
    name: "wrk",
    async run({ url, key, targets, connections, ms }) {
      const path = await folder;
      await writeFile(join(path, "script.lua"), SCRIPT);
      await writeFile(join(path, "targets"), targets.map((one) => `${one.path}\t${one.body}\n`).join(""));
      const headers = [`Authorization: Bearer ${key}`, "Content-Type: application/json"].flatMap((one) => ["-H", one]);
      const size = [
        "-t",
        "1",
        "-c",
        String(connections),
        "-d",
        `${Math.max(1, Math.round(ms / 1_000))}s`,
        "--timeout",
        "60s",
      ];
      const before = endedChildrenMs();
      const script = ["-s", join(path, "script.lua"), url, "--", join(path, "targets")];
      const { stdout } = await promisify(execFile)("wrk", [...size, ...headers, ...script]);
      const [, requests, micros, failed, p50 = Number.NaN, p99 = Number.NaN] =
        /^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$/m.exec(stdout)?.map(Number) ?? [];
      if (requests === undefined || micros === undefined || requests === 0) throw new Error(`wrk: ${stdout}`);
      if (failed !== 0) throw new Error(`wrk: ${failed} of ${requests} requests failed`);
      return {
        ...{ requests, perSecond: (requests * 1_000_000) / micros },
        ...{ p50Ms: p50 / 1_000, p99Ms: p99 / 1_000 },
        generatorMicros: canMeasure ? ((endedChildrenMs() - before) * 1_000) / requests : null,
      };
    },
    [Symbol.asyncDispose]: async () => rm(await folder, { recursive: true, force: true }),
  };
}
