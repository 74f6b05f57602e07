// Webhooks from pg-boss and nothing else: no events, no retries of our own; one job at a time, or 500.
import { PgBoss } from "pg-boss";
import { Agent, request } from "undici";
import { serveCalls } from "../support/process.ts";

const QUEUE = "webhooks";
const BATCH = 500;
/** As many as ours has under way for the same hosts. */
const CONNECTIONS_EACH = 20;

type Hook = { readonly url: string; readonly body: string };
let boss: PgBoss | undefined;
const agent = new Agent({ connections: CONNECTIONS_EACH, pipelining: 1 });

async function deliver({ url, body }: Hook): Promise<void> {
  const headers = { "content-type": "application/json" };
  const answer = await request(url, { method: "POST", headers, body, dispatcher: agent });
  await answer.body.dump();
  if (answer.statusCode !== 200) throw new Error(`the receiver answered ${answer.statusCode}`);
}

function running(): PgBoss {
  if (boss === undefined) throw new Error("not started");
  return boss;
}

/** Takes a batch, delivers it, completes it; gives how many it was. */
async function round(batchSize: number): Promise<number> {
  const jobs = await running().fetch<Hook>(QUEUE, { batchSize });
  if (jobs.length === 0) throw new Error("the queue is empty");
  await Promise.all(jobs.map((job) => deliver(job.data)));
  await running().complete(
    QUEUE,
    jobs.map((job) => job.id),
  );
  return jobs.length;
}

serveCalls({
  async start(connectionString: string): Promise<void> {
    boss = new PgBoss({ connectionString, schema: "boss", supervise: false, schedule: false });
    boss.on("error", (error) => console.error(error));
    await boss.start();
    await boss.createQueue(QUEUE);
  },
  async fill({ hooks, count }: { hooks: readonly Hook[]; count: number }): Promise<void> {
    const jobs = Array.from({ length: count }, (_, index) => ({ data: hooks[index % hooks.length] ?? {} }));
    for (let at = 0; at < count; at += 1_000) await running().insert(QUEUE, jobs.slice(at, at + 1_000));
  },
  /** Forgets what is left. */
  drop: () => running().deleteAllJobs(QUEUE),
  /** Deliveries per second. */
  async one(ms: number): Promise<number> {
    const start = performance.now();
    let done = 0;
    while (performance.now() - start < ms) done += await round(1);
    return (done * 1_000) / (performance.now() - start);
  },
  async batches(count: number): Promise<number> {
    const start = performance.now();
    let done = 0;
    while (done < count) done += await round(BATCH);
    return (done * 1_000) / (performance.now() - start);
  },
});
