// A server with nothing to do: what it takes of a processor with all roles in one process, and its memory once it listens.
import { setTimeout as sleep } from "node:timers/promises";
import { median } from "../harness/measure.ts";
import { type Goal, notMeasured, rowOf, shown } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { canMeasure, processorMs } from "../support/processor-time.ts";
import { newEncryptionKey, startServed } from "../support/served.ts";

const idling: Goal = {
  ...{ name: "20 processor time of a server with nothing to do, all roles", goal: 3 },
  ...{ direction: "at most", unit: "ms/s" },
};
const memory: Goal = {
  ...{ name: "21 memory of a server with nothing to do", goal: 120 },
  ...{ direction: "at most", unit: "MB" },
};

/** What a start leaves behind: code to be compiled, connections to be closed, the first sweep. */
const SETTLE_MS = 20_000;
const TURN_MS = 20_000;

export const idle: Subject = {
  name: "idle",
  about: "a server with nothing to do",
  goals: [idling, memory],
  async run({ rounds, postgres, say }) {
    await using database = await postgres.database();
    await using served = await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() });
    const rss = async () => (await served.process.call<{ rss: number }>("memory")).rss / 1_024 / 1_024;
    const atStart = await rss();
    say(`settling for ${shown(SETTLE_MS / 1_000)} s`);
    await sleep(SETTLE_MS);
    const inServer: number[] = [];
    const inDatabase: number[] = [];
    const spent = async () =>
      [await served.process.call<number>("cpuMs"), processorMs(postgres.pid()), performance.now()] as const;
    for (let round = 0; round < rounds; round += 1) {
      const [server, database, at] = await spent();
      await sleep(TURN_MS);
      const [serverNow, databaseNow, now] = await spent();
      inServer.push(((serverNow - server) * 1_000) / (now - at));
      inDatabase.push(((databaseNow - database) * 1_000) / (now - at));
    }
    const ours = `server: ${shown(median(inServer))} ms/s; memory after it: ${shown(await rss())} MB`;
    return [
      canMeasure
        ? rowOf(idling, inServer, { ours, baseline: `its database beside it: ${shown(median(inDatabase))} ms/s` })
        : notMeasured(idling, "this system has no /proc"),
      rowOf(memory, [atStart], { ours: `as it begins to listen: ${shown(atStart)} MB`, baseline: "" }),
    ];
  },
};
