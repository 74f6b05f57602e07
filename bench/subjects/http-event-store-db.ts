// Posting a message over HTTP with the log in EventStoreDB, against the same with the log in PostgreSQL.
import { missingEventStore, testEventStore } from "../../test/support/eventstored.ts";
import { interleave } from "../harness/measure.ts";
import { type Goal, notMeasured, ratioRow } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import type { ServerOptions } from "../processes/server.ts";
import { startGenerator, startLoad } from "../support/load.ts";
import { CONNECTIONS, listenTo, manyRooms, postsPerSecond } from "../support/posting.ts";
import { newApi, newEncryptionKey, startServed } from "../support/served.ts";

const goal: Goal = {
  ...{ name: "POST a message, everything on, log in EventStoreDB, over the log in PostgreSQL", goal: 0.5 },
  ...{ direction: "at least", unit: "x" },
};

export const httpEventStoreDb: Subject = {
  name: "http-eventstoredb",
  about: "posting messages over HTTP on EventStoreDB",
  goals: [goal],
  async run({ rounds, turnMs, postgres }) {
    if (missingEventStore !== undefined) return [notMeasured(goal, missingEventStore)];
    await using open = new AsyncDisposableStack();
    const { url } = open.use(await testEventStore());
    const generator = open.use(startGenerator());
    const served = async (log: Pick<ServerOptions, "eventStore">) => {
      const { url: databaseUrl } = open.use(await postgres.database());
      const server = open.use(await startServed({ databaseUrl, encryptionKey: newEncryptionKey(), ...log }));
      const api = await newApi(server.url);
      const { rooms, targets } = await manyRooms(api);
      await listenTo(open.use(startLoad()), server.url, api, rooms);
      return postsPerSecond(generator, { url: server.url, key: api.key, targets, connections: CONNECTIONS }, turnMs);
    };
    const [ours, baseline] = ["log in EventStoreDB", "log in PostgreSQL"];
    const reached = await interleave(
      [
        { name: baseline, turn: await served({}) },
        { name: ours, turn: await served({ eventStore: { url, prefix: "bench-" } }) },
      ],
      rounds,
    );
    return [ratioRow(goal, reached, ours, baseline)];
  },
};
