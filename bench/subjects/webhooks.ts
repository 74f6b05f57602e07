// Delivering webhooks, every attempt in the log, against pg-boss that only sends them.
import { interleave } from "../harness/measure.ts";
import { type Goal, ratioRow, rowOf } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { oneJobAtATime, startBoss } from "../support/boss.ts";
import { type BenchProcess, startProcess } from "../support/process.ts";
import { type Api, newApi, newEncryptionKey, startServed } from "../support/served.ts";

const overOne: Goal = {
  ...{ name: "13 webhook deliveries with every attempt event, over pg-boss one job at a time", goal: 6 },
  ...{ direction: "at least", unit: "x" },
};
const overBatches: Goal = {
  ...{ name: "13 webhook deliveries, over pg-boss in batches of 500 with no events", goal: 0.3 },
  ...{ direction: "at least", unit: "x" },
};
const absolute: Goal = {
  ...{ name: "13 webhook deliveries", goal: 3_500 },
  ...{ direction: "at least", unit: "/s" },
};

// Bounds keep one client to 50 attempts at once and one host to 20, so that it takes some of both to be busy.
const CLIENTS = 4;
const HOSTS = 8;
const URLS = 1_000;
const TIMEOUT_MS = 120_000;
const CONTENT = { event: "order.shipped", order: "ord_8f3k29", items: 3, total: { amount: 129.9, currency: "EUR" } };

/** A notification to 1,000 URLs from each client; deliveries per second until the last has come. */
async function deliver(apis: readonly Api[], hosts: readonly string[], receiver: BenchProcess): Promise<number> {
  const start = performance.now();
  const urls = Array.from({ length: URLS }, (_, index) => `${hosts[index % hosts.length]}/hook/${index}`);
  const asked = apis.map((api) => api.call("POST", "/notifications", { type: "webhook", urls, content: CONTENT }));
  const count = CLIENTS * URLS;
  await Promise.all([receiver.call("receive", { count, timeoutMs: TIMEOUT_MS }), ...asked]);
  return (count * 1_000) / (performance.now() - start);
}

export const webhooks: Subject = {
  name: "webhooks",
  about: "delivering webhooks",
  goals: [overOne, overBatches, absolute],
  async run({ rounds, turnMs, postgres }) {
    await using open = new AsyncDisposableStack();
    const database = open.use(await postgres.database());
    const served = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
    const receiver = open.use(startProcess(new URL("../processes/receiver.ts", import.meta.url)));
    const hosts = await receiver.call<readonly string[]>("listen", HOSTS);
    const apis = await Promise.all(Array.from({ length: CLIENTS }, () => newApi(served.url)));
    const boss = await startBoss(postgres, open);
    const body = JSON.stringify({ type: "notification", data: { content: CONTENT, subject: null, meta: {} } });
    const hooks = hosts.map((host) => ({ url: `${host}/hook`, body }));
    const count = CLIENTS * URLS;
    const names = {
      ours: "ours, with every event",
      one: "pg-boss, one job at a time",
      many: "pg-boss, batches of 500",
    };
    const reached = await interleave(
      [
        { name: names.one, turn: () => oneJobAtATime(boss, receiver, turnMs, { hooks, count }) },
        {
          name: names.many,
          turn: async () => {
            await boss.call("fill", { hooks, count });
            const perSecond = await boss.call<number>("batches", count);
            await receiver.call("taken");
            return perSecond;
          },
        },
        { name: names.ours, turn: () => deliver(apis, hosts, receiver) },
      ],
      rounds,
    );
    return [
      ratioRow(overOne, reached, names.ours, names.one),
      ratioRow(overBatches, reached, names.ours, names.many),
      rowOf(absolute, reached.get(names.ours) ?? [], {
        ours: `${CLIENTS} clients, ${HOSTS} hosts, from request to the last one received`,
        baseline: "2 cores, which the receiver and PostgreSQL share",
      }),
    ];
  },
};
