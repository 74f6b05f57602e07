// How each failpoint is reached, and one run: the node dies there, comes back, and is held against what clients know.
import pg from "pg";
import { FAILPOINTS, type FailpointName } from "../../../src/platform/failpoint.ts";
import { type Api, apiOf } from "../../e2e/support/api.ts";
import { registeredClient } from "../../e2e/support/setups.ts";
import { History } from "./failpoint-history.ts";
import { backlog, live, longRoom, type World } from "./failpoint-life.ts";
import { check } from "./failpoint-oracle.ts";
import type { Ended, Node, Scene, SetupName } from "./failpoint-scene.ts";

/**
 * `first start`: an empty place. `life`: what clients do. `long room`, `stop`, `lost jobs`: that and something more.
 * `rebuild`: an operator's command beside it. `export`, `import`: a log on the move.
 */
type Way = "first start" | "life" | "long room" | "stop" | "lost jobs" | "rebuild" | "export" | "import";

const EMBEDDED: readonly SetupName[] = ["embedded"];
const POSTGRES_LOG: readonly SetupName[] = ["embedded", "postgres"];

/** Points in code that only some set-ups have. */
const ONLY: Partial<Record<FailpointName, readonly SetupName[]>> = {
  "cluster-made/in-place": EMBEDDED,
  "cluster-in-place/postmaster": EMBEDDED,
  "postmaster/role-made": EMBEDDED,
  "role-made/database-made": EMBEDDED,
  "own-key-written/in-place": EMBEDDED,
  "flush-sent/commit-known": POSTGRES_LOG,
  "commit-known/subscribers-notified": POSTGRES_LOG,
  "append-sent/answered": ["eventstoredb"],
};

/** The points that a set-up passes. */
export const pointsOf = (setup: SetupName): readonly FailpointName[] =>
  FAILPOINTS.filter((point) => ONLY[point]?.includes(setup) ?? true);

/** Where not `life` alone. */
const WAYS: Partial<Record<FailpointName, readonly Way[]>> = {
  "cluster-made/in-place": ["first start"],
  "cluster-in-place/postmaster": ["first start"],
  "postmaster/role-made": ["first start"],
  "role-made/database-made": ["first start"],
  "own-key-written/in-place": ["first start"],
  "keys-opened/log-opened": ["first start"],
  "log-opened/read-models-opened": ["first start"],
  "group-opened/tables-built": ["first start"],
  "job-tables/reactors-placed": ["first start", "lost jobs"],
  "reactors-placed/lead": ["first start", "lost jobs"],
  "lease/lead": ["first start", "life"],
  "key-durable/append": ["first start", "life"],
  "shadow-rows/page-commit": ["first start", "rebuild"],
  "shadow-rows/indexes": ["first start", "rebuild"],
  "built/swap": ["first start", "rebuild"],
  "swap/commit": ["first start", "rebuild"],
  "swap-committed/done": ["first start", "rebuild"],
  "snapshot-due/written": ["long room"],
  "snapshot-written/next-command": ["long room"],
  "sweep-found/enqueued": ["lost jobs"],
  "sweep-enqueued/next-page": ["lost jobs"],
  "drained/handed-back": ["stop"],
  "events-exported/keys-exported": ["export"],
  "keys-imported/events-appended": ["import"],
  "append-imported/next-append": ["import"],
};

export type Run = { readonly point: FailpointName; readonly way: Way };

/** How often a point is passed for certain, where that is not as often as one likes. */
const HITS: Partial<Record<FailpointName, number>> = { "lease/lead": 2 };

/** Which hit a run dies at: the first, or on a node that lives, one of the first few. */
export const hitOf = ({ point, way }: Run, number: number): number =>
  way === "life" ? 1 + (number % (HITS[point] ?? 3)) : 1;

/** Every run on a set-up. */
export const runsOn = (setup: SetupName): readonly Run[] =>
  pointsOf(setup).flatMap((point) => (WAYS[point] ?? ["life"]).map((way): Run => ({ point, way })));

/** How long a node may live on before the point counts as one that nothing reaches. */
const REACH_MS = 45_000;
/** How much goes on before jobs are lost or a node is told to stop. */
const BEFORE_MS = 1_500;

/** The node died by its own hand at the point; else what happened instead. */
export function deathFault({ signal, code, output }: Ended, point: string): string | undefined {
  const said = output.split("\n").includes(`failpoint ${point}`);
  if (signal === "SIGKILL" && said) return undefined;
  return `nothing reached ${point}: the process ended with ${signal ?? code}, ${said ? "though it said" : "and did not say"} that it was there\n${output}`;
}

export type Client = { readonly key: string; readonly history: History };

/** A client of the scene, with an endpoint that is told of its messages, on a node that nothing happens to. */
export async function settleIn(scene: Scene): Promise<Client> {
  const node = scene.launch();
  const url = await urlOf(node);
  const { key = "" } = await registeredClient(url, scene.receivers.mailbox);
  const endpoint = { url: scene.receivers.hook("/events"), events: ["message.posted"] };
  const { status } = await apiOf(url, key).post("/webhooks", endpoint);
  if (status !== 201) throw new Error(`the endpoint was not made: ${status}`);
  await node.stop();
  return { key, history: new History(key) };
}

export async function urlOf(node: Node): Promise<string> {
  const url = await node.ready;
  if (url === undefined) throw new Error(`the node ended: ${(await node.ended).output}`);
  return url;
}

/** Brings the node to its death. Gives what went wrong before. */
export async function untilDeath(
  scene: Scene,
  { key, history }: Client,
  { point, way }: Run,
  name: string,
  hit: number,
) {
  const world = (url: string, over: AbortSignal): World => ({
    ...{ api: apiOf(url, key), history, receivers: scene.receivers, run: name, over },
  });
  if (way === "lost jobs") await loseJobs(scene, world);
  const failing = way === "rebuild" ? undefined : `${point}:${hit}`;
  const node = scene.launch(failing);
  const url = await node.ready;
  const faults: string[] = [];
  if (way === "rebuild") {
    const living = url === undefined ? [] : live(world(url, node.over), BEFORE_MS);
    const ended = await scene.command(["projections", "rebuild", "--all"], point);
    faults.push(...(await living));
    await node.stop();
    return { ended, faults };
  }
  if (url !== undefined) {
    const acts = way === "long room" ? [longRoom] : undefined;
    if (way === "stop") {
      await backlog(world(url, node.over));
      return { ended: await node.stop(), faults };
    }
    faults.push(...(await live(world(url, node.over), REACH_MS, acts)));
    if (!node.over.aborted) return { ended: await node.stop(), faults };
  }
  return { ended: await node.ended, faults };
}

/** Things are under way; then the node is gone, and with it what it knew of jobs. */
async function loseJobs(scene: Scene, world: (url: string, over: AbortSignal) => World): Promise<void> {
  const node = scene.launch();
  const url = await urlOf(node);
  await live(world(url, node.over), BEFORE_MS);
  const databaseUrl = await scene.databaseUrl();
  await node.kill();
  await dropJobs(databaseUrl);
}

async function dropJobs(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query("drop schema jobs cascade");
  await client.end();
}

/** After a death: a node that nothing happens to, what was unknown sent again, everything looked at. */
export async function afterwards(scene: Scene, { key, history }: Client, run: string | undefined): Promise<string[]> {
  await using node = scene.launch();
  const api: Api = apiOf(await urlOf(node), key);
  await history.settle(api);
  const faults = await check(scene, history, api, run);
  const { code, output } = await node.stop();
  if (code !== 0) faults.push(`the node did not end well (${code}): ${output}`);
  return faults;
}
