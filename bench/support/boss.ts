// pg-boss that only sends webhooks, against which deliveries are measured.
import type { BenchPostgres } from "./postgres.ts";
import { type BenchProcess, startProcess } from "./process.ts";

/** Starts one on a database of its own. */
export async function startBoss(postgres: BenchPostgres, open: AsyncDisposableStack): Promise<BenchProcess> {
  const database = open.use(await postgres.database());
  const boss = open.use(startProcess(new URL("../processes/boss-worker.ts", import.meta.url)));
  await boss.call("start", database.url);
  return boss;
}

type Hooks = {
  readonly hooks: readonly { readonly url: string; readonly body: string }[];
  readonly count: number;
};

/** Takes one job at a time; jobs a second. What is left of them is forgotten, and what the receiver took not counted. */
export async function oneJobAtATime(
  boss: BenchProcess,
  receiver: BenchProcess,
  ms: number,
  jobs: Hooks,
): Promise<number> {
  await boss.call("fill", jobs);
  const perSecond = await boss.call<number>("one", ms);
  await boss.call("drop");
  await receiver.call("taken");
  return perSecond;
}
