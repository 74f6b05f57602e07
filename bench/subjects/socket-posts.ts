// Posting a message over a socket: what it costs server and database, over the same posts by HTTP.
import { interleave } from "../harness/measure.ts";
import { type Goal, notMeasured, rowOf } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { type Generator, startGenerator, startSocketGenerator } from "../support/load.ts";
import { CONNECTIONS, manyRooms, PostCosts, postsPerSecond } from "../support/posting.ts";
import { canMeasure } from "../support/processor-time.ts";
import { newApi, newEncryptionKey, startServed } from "../support/served.ts";

const cost: Goal = {
  ...{ name: "5 processor time of server and database a post over a socket, over HTTP", goal: 1 },
  ...{ direction: "at most", unit: "x" },
};

export const socketPosts: Subject = {
  name: "socket-posts",
  about: "posting messages over sockets",
  goals: [cost],
  async run({ rounds, turnMs, postgres }) {
    if (!canMeasure) return [notMeasured(cost, "this system has no /proc")];
    await using database = await postgres.database();
    await using served = await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() });
    await using requests = startGenerator();
    await using frames = startSocketGenerator();
    const api = await newApi(served.url);
    const { targets } = await manyRooms(api);
    const order = { url: served.url, key: api.key, targets: targets.slice(0, CONNECTIONS), connections: CONNECTIONS };
    const costs = { requests: new PostCosts(), frames: new PostCosts() };
    const posts = (generator: Generator, own: PostCosts) =>
      postsPerSecond(generator, order, turnMs, { server: served.process, postgres, costs: own });
    await interleave(
      [
        { name: "HTTP", turn: posts(requests, costs.requests) },
        { name: "sockets", turn: posts(frames, costs.frames) },
      ],
      rounds,
    );
    return [
      rowOf(
        cost,
        costs.frames.both.map((micros, round) => micros / (costs.requests.both[round] ?? Number.NaN)),
        { ours: `sockets: ${costs.frames}`, baseline: `HTTP: ${costs.requests}` },
      ),
    ];
  },
};
