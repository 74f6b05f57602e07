// Posting a message over HTTP: against the naive path, and with everything on against nothing that listens.
import { interleave, quantile } from "../harness/measure.ts";
import { type Goal, notMeasured, ratioRow, rowOf, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import type { Load, Loaded, Target } from "../processes/load.ts";
import { startGenerator, startLoad } from "../support/load.ts";
import {
  CONNECTIONS,
  listenTo,
  manyRooms,
  naivePosts,
  PostCosts,
  posting,
  postsPerSecond,
  ROOMS,
  SOCKETS,
  userName,
  WARM_UP_ROUNDS,
} from "../support/posting.ts";
import { type BenchProcess, startProcess } from "../support/process.ts";
import { canMeasure } from "../support/processor-time.ts";
import { newApi, newEncryptionKey, newRoom, startServed } from "../support/served.ts";

const overNaive: Goal = {
  ...{ name: "5 POST a message, 64 connections, over the naive path", goal: 4 },
  ...{ direction: "at least", unit: "x" },
};
const overBare: Goal = {
  ...{ name: "5 POST a message, 64 connections, over bare node:http", goal: 0.2 },
  ...{ direction: "at least", unit: "x" },
};
const costOverNaive: Goal = {
  ...{ name: "5 processor time of server and database a POST, over the naive path's", goal: 0.5 },
  ...{ direction: "at most", unit: "x" },
};
const listened: Goal = {
  ...{ name: "6 POST with projections and 100 listening sockets, over without", goal: 0.8 },
  ...{ direction: "at least", unit: "x" },
};
const visible: Goal = {
  ...{ name: "7 from answer to visible on a socket, p99, over the answer's own p99", goal: 3 },
  ...{ direction: "at most", unit: "x" },
};
const hot: Goal = {
  ...{ name: "8 one hot room, 256 writers, over 256 rooms", goal: 0.7 },
  ...{ direction: "at least", unit: "x" },
};

async function postMessages({ rounds, turnMs, postgres, say }: Bench) {
  await using open = new AsyncDisposableStack();
  const server = async () => {
    const database = open.use(await postgres.database());
    const { url, process } = open.use(
      await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }),
    );
    const api = await newApi(url);
    return { url, api, process, ...(await manyRooms(api)) };
  };
  const full = await server();
  const bare = await server();
  const naive = await naivePosts(open, await postgres.database(), full.api.key);
  const echo = open.use(startProcess(new URL("../processes/bare-http.ts", import.meta.url)));
  const echoUrl = await echo.call<string>("start");
  const generator = open.use(startGenerator());
  const listeners = open.use(startLoad());
  say(`${ROOMS} rooms each; ${SOCKETS} sockets`);
  await listenTo(listeners, full.url, full.api, full.rooms);
  // Not before: who is a member, and by what name, has come from them then.
  await bare.process.call("stopProjections");
  const costs = { ours: new PostCosts(), without: new PostCosts(), naive: new PostCosts(), echo: new PostCosts() };
  const posts = (
    one: { readonly url: string; readonly targets: readonly Target[]; readonly process: BenchProcess },
    key: string,
    cost: PostCosts,
  ) => {
    const order = { url: one.url, key, targets: one.targets, connections: CONNECTIONS };
    return postsPerSecond(generator, order, turnMs, { server: one.process, postgres, costs: cost });
  };
  const ours = "everything on, 100 sockets";
  const without = "without projections and sockets";
  const rival = "naive path";
  const ceiling = "bare node:http";
  const reached = await interleave(
    [
      { name: rival, turn: posts(naive, full.api.key, costs.naive) },
      { name: ours, turn: posts(full, full.api.key, costs.ours) },
      { name: without, turn: posts(bare, bare.api.key, costs.without) },
      { name: ceiling, turn: posts({ url: echoUrl, targets: full.targets, process: echo }, full.api.key, costs.echo) },
    ],
    rounds,
  );
  return [
    ratioRow(overNaive, reached, ours, rival),
    ratioRow(overBare, reached, ours, ceiling),
    canMeasure
      ? rowOf(
          costOverNaive,
          costs.ours.both.map((micros, round) => micros / (costs.naive.both[round] ?? Number.NaN)),
          {
            ours: `${ours}: ${costs.ours}`,
            baseline: `${rival}: ${costs.naive}; load by ${generator.name}`,
          },
        )
      : notMeasured(costOverNaive, "this system has no /proc"),
    ratioRow(listened, reached, ours, without),
  ];
}

export const http: Subject = {
  name: "http",
  about: "posting messages over HTTP",
  goals: [overNaive, overBare, costOverNaive, listened],
  run: postMessages,
};

export const visibility: Subject = {
  name: "visibility",
  about: "from the answer to a frame on a socket",
  goals: [visible],
  async run({ rounds, turnMs, postgres }) {
    await using database = await postgres.database();
    await using served = await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() });
    await using load = startLoad();
    const api = await newApi(served.url);
    const { rooms, targets } = await manyRooms(api);
    await listenTo(load, served.url, api, rooms);
    const order: Load = { url: served.url, key: api.key, targets, connections: CONNECTIONS, ms: turnMs };
    await load.call<Loaded>("run", { ...order, ms: WARM_UP_ROUNDS * turnMs });
    const found: { ratio: number; visible: number; answer: number }[] = [];
    for (let round = 0; round <= rounds; round += 1) {
      const loaded = await load.call<Loaded>("run", order);
      const answer = quantile([...loaded.latencies], 0.99);
      const shownAfter = quantile([...loaded.visible], 0.99);
      if (round > 0) found.push({ ratio: shownAfter / answer, visible: shownAfter, answer });
    }
    const middle = (values: readonly number[]) => shown(quantile(values, 0.5));
    return [
      rowOf(
        visible,
        found.map(({ ratio }) => ratio),
        {
          ours: `p99 from answer to frame: ${middle(found.map((one) => one.visible))} ms`,
          baseline: `p99 of the answer: ${middle(found.map((one) => one.answer))} ms`,
        },
      ),
    ];
  },
};

export const hotRoom: Subject = {
  name: "hot-room",
  about: "256 writers in one room",
  goals: [hot],
  async run({ rounds, turnMs, postgres }) {
    await using database = await postgres.database();
    await using served = await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() });
    await using generator = startGenerator();
    const api = await newApi(served.url);
    const { targets } = await manyRooms(api);
    const users = Array.from({ length: ROOMS }, (_, number) => userName(number));
    const one = await newRoom(api, users);
    const turn = (chosen: readonly Target[]) =>
      postsPerSecond(generator, { url: served.url, key: api.key, targets: chosen, connections: ROOMS }, turnMs);
    const hotRoom = "one room, 256 writers";
    const coldRooms = "256 rooms, a writer each";
    const reached = await interleave(
      [
        { name: coldRooms, turn: turn(targets) },
        { name: hotRoom, turn: turn(users.map((user) => posting(one, user))) },
      ],
      rounds,
    );
    return [ratioRow(hot, reached, hotRoom, coldRooms)];
  },
};
