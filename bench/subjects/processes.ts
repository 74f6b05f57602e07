// Posting to one node of one, two and four processes: what the busiest process takes of a post, which bounds posts where there are
// processors enough, and what all take together.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { interleave, median } from "../harness/measure.ts";
import { type Goal, notMeasured, rowOf, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { type Generator, startGenerator } from "../support/load.ts";
import { CONNECTIONS, manyRooms, WARM_UP_ROUNDS } from "../support/posting.ts";
import { canMeasure, processorMs, processorMsEach } from "../support/processor-time.ts";
import { newApi, newEncryptionKey } from "../support/served.ts";

const COUNTS = [1, 2, 4];
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** No limit is met. */
const MANY = "100000000/10s";

const busiest = (count: number): Goal => ({
  name: `24 POST a message, ${count} processes: processor time of the busiest, over that of a node of one`,
  ...{ goal: count === 2 ? 0.8 : 0.5, direction: "at most", unit: "x" },
});
const goals = COUNTS.slice(1).map(busiest);

/** `chatapi serve` on a PostgreSQL that is not its own. */
async function startNode(databaseUrl: string, count: number): Promise<AsyncDisposable & { url: string; pid: number }> {
  const env = {
    ...process.env,
    ...{ DATABASE_URL: databaseUrl, ENCRYPTION_KEYS: newEncryptionKey(), ADMIN_KEY: "benchmark".repeat(4) },
    ...{ PROCESSES: String(count), PORT: "0", LOG_LEVEL: "error", OPEN_REGISTRATION: "true" },
    ...{ RATE_LIMIT_REQUESTS: MANY, RATE_LIMIT_USER: MANY },
  };
  const child: ChildProcess = spawn(process.execPath, ["src/cli/chatapi.ts", "serve"], {
    ...{ cwd: ROOT, env, stdio: ["ignore", "pipe", "inherit"] },
  });
  const ended = once(child, "exit");
  let output = "";
  child.stdout?.on("data", (bytes) => (output += String(bytes)));
  let url: string | undefined;
  while (url === undefined) {
    if (child.exitCode !== null) throw new Error(`the node ended: ${output}`);
    await sleep(50);
    url = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0];
  }
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return { url, pid: child.pid ?? 0, [Symbol.asyncDispose]: stop };
}

type Figures = {
  readonly perSecond: number[];
  readonly busiest: number[];
  readonly server: number[];
  readonly database: number[];
};

async function candidate(open: AsyncDisposableStack, { postgres, turnMs }: Bench, generator: Generator, count: number) {
  const database = open.use(await postgres.database());
  const { url, pid } = open.use(await startNode(database.url, count));
  const api = await newApi(url);
  const { targets } = await manyRooms(api);
  const figures: Figures = { perSecond: [], busiest: [], server: [], database: [] };
  const turn = async (round: number): Promise<number> => {
    const before = { each: processorMsEach(pid), database: processorMs(postgres.pid()) };
    const ms = round === 0 ? WARM_UP_ROUNDS * turnMs : turnMs;
    const { perSecond, requests } = await generator.run({ url, key: api.key, targets, connections: CONNECTIONS, ms });
    const micros = (spentMs: number) => (spentMs * 1_000) / requests;
    const spent = [...processorMsEach(pid)].map(([id, now]) => micros(now - (before.each.get(id) ?? 0)));
    if (round > 0) {
      figures.perSecond.push(perSecond);
      figures.busiest.push(Math.max(...spent));
      figures.server.push(spent.reduce((sum, one) => sum + one, 0));
      figures.database.push(micros(processorMs(postgres.pid()) - before.database));
    }
    return perSecond;
  };
  return { count, figures, candidate: { name: `${count} processes`, turn } };
}

const said = ({ perSecond, busiest, server, database }: Figures): string => {
  const [rate, most, all, stores] = [perSecond, busiest, server, database].map((values) => shown(median(values)));
  return `${rate} posts/s; a post: busiest ${most} µs, all processes ${all} µs, database ${stores} µs`;
};

export const processes: Subject = {
  name: "processes",
  about: "posting to a node of several processes",
  goals,
  async run(bench) {
    if (!canMeasure) return goals.map((goal) => notMeasured(goal, "this system has no /proc"));
    await using open = new AsyncDisposableStack();
    const generator = open.use(startGenerator());
    const all = [];
    for (const count of COUNTS) all.push(await candidate(open, bench, generator, count));
    await interleave(
      all.map((one) => one.candidate),
      bench.rounds,
    );
    const [one, ...several] = all;
    if (one === undefined) return [];
    return several.map(({ count, figures }) =>
      rowOf(
        busiest(count),
        figures.busiest.map((micros, round) => micros / (one.figures.busiest[round] ?? Number.NaN)),
        { ours: `${count} processes: ${said(figures)}`, baseline: `one: ${said(one.figures)}` },
      ),
    );
  },
};
