// How evenly posts are answered, by 64 connections and by 8, and what a post costs that comes alone.
import { interleave, median } from "../harness/measure.ts";
import { type Goal, notMeasured, type Row, rowOf, shown } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import type { Target } from "../processes/load.ts";
import { startGenerator } from "../support/load.ts";
import { CONNECTIONS, manyRooms, naivePosts, PostCosts, postsPerSecond } from "../support/posting.ts";
import type { BenchProcess } from "../support/process.ts";
import { canMeasure } from "../support/processor-time.ts";
import { newApi, newEncryptionKey, startServed } from "../support/served.ts";

const FEW_CONNECTIONS = 8;

const evenly = (connections: number, goal: number): Goal => ({
  ...{ name: `22 p99 of a POST over its p50, ${connections} connections`, goal },
  ...{ direction: "at most", unit: "x" },
});
const many = evenly(CONNECTIONS, 3);
const few = evenly(FEW_CONNECTIONS, 4);
const alone: Goal = {
  ...{ name: "23 processor time of server and database a POST, one connection, over the naive path's", goal: 1.1 },
  ...{ direction: "at most", unit: "x" },
};

/** Of the posts beside it; their spread is of p99 over p50, round by round. */
function evenness(goal: Goal, costs: PostCosts, naive: PostCosts, generator: string): Row {
  const ratios = ({ p50, p99 }: PostCosts) => p99.map((ms, round) => ms / (p50[round] ?? Number.NaN));
  const figures = (all: PostCosts) => `p50 ${shown(median(all.p50))} ms, p99 ${shown(median(all.p99))} ms`;
  return rowOf(goal, ratios(costs), {
    ours: `${figures(costs)}; ${costs}`,
    baseline: `naive path: ${figures(naive)}, p99 over p50 ${shown(median(ratios(naive)))}; load by ${generator}`,
  });
}

export const postLatency: Subject = {
  name: "post-latency",
  about: "how evenly posts are answered, and what one costs that comes alone",
  goals: [many, few, alone],
  async run({ rounds, turnMs, postgres }) {
    await using open = new AsyncDisposableStack();
    const database = open.use(await postgres.database());
    const served = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
    const api = await newApi(served.url);
    const ours = { url: served.url, process: served.process, ...(await manyRooms(api)) };
    const naive = await naivePosts(open, await postgres.database(), api.key);
    const generator = open.use(startGenerator());
    const posts = (
      one: { readonly url: string; readonly process: BenchProcess; readonly targets: readonly Target[] },
      connections: number,
      costs: PostCosts,
    ) => {
      const order = { url: one.url, key: api.key, targets: one.targets, connections };
      return postsPerSecond(generator, order, turnMs, { server: one.process, postgres, costs });
    };
    const found = [CONNECTIONS, FEW_CONNECTIONS, 1].map((connections) => ({
      ...{ connections, ours: new PostCosts(), naive: new PostCosts() },
    }));
    for (const { connections, ...costs } of found) {
      await interleave(
        [
          { name: "ours", turn: posts(ours, connections, costs.ours) },
          { name: "naive path", turn: posts(naive, connections, costs.naive) },
        ],
        rounds,
      );
    }
    const [ofMany, ofFew, ofOne] = found;
    if (ofMany === undefined || ofFew === undefined || ofOne === undefined) throw new Error("not measured");
    return [
      evenness(many, ofMany.ours, ofMany.naive, generator.name),
      evenness(few, ofFew.ours, ofFew.naive, generator.name),
      canMeasure
        ? rowOf(
            alone,
            ofOne.ours.both.map((micros, round) => micros / (ofOne.naive.both[round] ?? Number.NaN)),
            {
              ours: `${ofOne.ours}; p50 ${shown(median(ofOne.ours.p50))} ms`,
              baseline: `naive path: ${ofOne.naive}; p50 ${shown(median(ofOne.naive.p50))} ms; load by ${generator.name}`,
            },
          )
        : notMeasured(alone, "this system has no /proc"),
    ];
  },
};
