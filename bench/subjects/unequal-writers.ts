// Two nodes write one room, one with 100 writers and one with 2: how long the two wait, against having it to themselves.
import { randomBytes } from "node:crypto";
import type { RoomId } from "../../src/contract/ids.ts";
import { missingEventStore, testEventStore } from "../../test/support/eventstored.ts";
import { interleave, quantile } from "../harness/measure.ts";
import { type Goal, notMeasured, type Row, ratioRow, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import type { WritersResult, WritersRun, WritersStore } from "../processes/room-writers.ts";
import { type BenchProcess, startProcess } from "../support/process.ts";

const MANY = 100;
const FEW = 2;
const goalOn = (log: string): Goal => ({
  ...{ name: `one room, ${MANY} writers on one node against ${FEW} on another (${log}): p99 of the ${FEW}`, goal: 5 },
  ...{ direction: "at most", unit: "x" },
});
const onPostgres = goalOn("Postgres log");
const onEventStore = goalOn("EventStoreDB");

const program = new URL("../processes/room-writers.ts", import.meta.url);
const newRoom = (): RoomId => `room_${randomBytes(13).toString("hex")}`;

async function startNode(store: WritersStore): Promise<BenchProcess> {
  const node = startProcess(program);
  await node.call("open", store);
  return node;
}

/** The few alone, and beside the many; p99 in milliseconds. */
async function measure(bench: Bench, store: WritersStore, goal: Goal): Promise<Row> {
  await using large = await startNode(store);
  await using small = await startNode(store);
  const write = (node: BenchProcess, run: WritersRun) => node.call<WritersResult>("write", run);
  const few = (room: RoomId) => write(small, { room, writers: FEW, ms: bench.turnMs });
  const many = (room: RoomId) => write(large, { room, writers: MANY, ms: bench.turnMs });
  const [alone, beside] = [`${FEW} alone, p99`, `${FEW} beside ${MANY}, p99`];
  let least = Number.POSITIVE_INFINITY;
  const together = async () => {
    const room = newRoom();
    const [theirs, ours] = await Promise.all([many(room), few(room)]);
    least = Math.min(least, theirs.length, ours.length);
    bench.say(`${MANY} posted ${shown((theirs.length * 1_000) / bench.turnMs)}/s beside ${FEW}`);
    return quantile(ours, 0.99);
  };
  const rounds = await interleave(
    [
      { name: alone, turn: async () => quantile(await few(newRoom()), 0.99) },
      { name: beside, turn: together },
    ],
    bench.rounds,
  );
  bench.say(`the side with the fewest posts had ${least} in its worst turn`);
  return ratioRow(goal, rounds, beside, alone, "ms");
}

export const unequalWriters: Subject = {
  name: "unequal-writers",
  about: "two nodes on one room with unequal load",
  goals: [onPostgres, onEventStore],
  async run(bench) {
    await using database = await bench.postgres.database();
    const store = { databaseUrl: database.url, encryptionKey: randomBytes(32).toString("base64") };
    const rows = [await measure(bench, store, onPostgres)];
    if (missingEventStore !== undefined) return [...rows, notMeasured(onEventStore, missingEventStore)];
    await using server = await testEventStore();
    return [...rows, await measure(bench, { ...store, eventStoreUrl: server.url }, onEventStore)];
  },
};
