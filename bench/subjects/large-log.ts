// What a long history costs: loading a room, reading pages, starting the server.
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { RoomId } from "../../src/contract/ids.ts";
import { roomDecider, roomStream } from "../../src/domain/room.ts";
import { interleave, typicalMs } from "../harness/measure.ts";
import { type Goal, ratioRow, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { type Large, largeDatabase, READER } from "../support/large.ts";
import { contextOf, fillRooms, openLog, registerClient, roomName } from "../support/log.ts";
import { apiOf, newEncryptionKey, type Served, startServed } from "../support/served.ts";

const atMost = { direction: "at most", unit: "x" } as const;
const loading: Goal = { ...atMost, name: "14 loading a room of 1,000,000 events, over one of 1,000", goal: 2 };
const pages: Goal = { ...atMost, name: "15 GET messages page, 10⁶ messages over 10³", goal: 2 };
const inbox: Goal = { ...atMost, name: "15 GET inbox, 10⁶ messages over 10³", goal: 2 };
const rooms: Goal = { ...atMost, name: "15 GET rooms of a user, 10⁶ messages over 10³", goal: 2 };
const starting: Goal = { ...atMost, name: "16 start of the server after 10⁶ events, over none", goal: 1.5 };

const FEW = 1_000;
const LOADS = 50;
const REQUESTS = 200;
const PAGE = 20;
const SNAPSHOT_WAIT_MS = 10_000;
/** The first command on the long room reads all of it: nothing made snapshots while it was filled. */
const WHOLE_READ_MS = 600_000;
const SNAPSHOT_POLL_MS = 20;

export const roomLoading: Subject = {
  name: "room-loading",
  about: "taking a command on a room that nobody has in memory",
  goals: [loading],
  async run({ rounds, postgres, events, say }) {
    await using database = await postgres.database();
    await using log = await openLog(database.url, newEncryptionKey());
    const { client } = await registerClient(log);
    say(`writing a room of ${shown(events)} events`);
    await fillRooms(log, { client, rooms: 1, messagesEach: events });
    await fillRooms(log, { client, rooms: 1, messagesEach: FEW, first: 1 });
    const [long, short] = [roomName(0), roomName(1)];
    // The command that finds no snapshot pays for it once, and leaves one.
    for (const room of [long, short]) {
      const about = { actor: { type: "key", id: "key_1" }, changes: { name: "Renamed" }, ifMatch: null } as const;
      const command = { type: "Update", at: Date.now(), ...about } as const;
      const start = performance.now();
      await log.newCommands().execute(roomDecider, roomStream(room), command, contextOf(client), {
        timeoutMs: WHOLE_READ_MS,
      });
      say(`without a snapshot: ${shown(performance.now() - start)} ms`);
    }
    await snapshotOf(log.pool, long);
    const load = (room: RoomId) => () => typicalMs(LOADS, () => log.newCommands().load(roomDecider, roomStream(room)));
    const names = { long: `room of ${shown(events)} events`, short: `room of ${shown(FEW)}` };
    const reached = await interleave(
      [
        { name: names.short, turn: load(short) },
        { name: names.long, turn: load(long) },
      ],
      rounds,
    );
    return [ratioRow(loading, reached, names.long, names.short, "ms")];
  },
};

/** It is written in the background. */
async function snapshotOf(pool: pg.Pool, room: RoomId): Promise<void> {
  for (let waited = 0; waited < SNAPSHOT_WAIT_MS; waited += SNAPSHOT_POLL_MS) {
    const { rowCount } = await pool.query("select from read.stream_snapshots where stream = $1", [roomStream(room)]);
    if (rowCount !== 0) return;
    await sleep(SNAPSHOT_POLL_MS);
  }
  throw new Error("the room got no snapshot");
}

type Place = { readonly large: Large; readonly served: Served };

async function place(bench: Bench, open: AsyncDisposableStack, messages: number): Promise<Place> {
  const large = await largeDatabase(bench, messages);
  const { database, encryptionKey } = large;
  const served = open.use(await startServed({ databaseUrl: database.url, encryptionKey }));
  await apiOf(served.url, large.client, large.key).call("PUT", `/users/${READER}`, { name: "Reader" });
  return { large, served };
}

export const reading: Subject = {
  name: "reading",
  about: "reading pages in a large database and in a small one",
  goals: [pages, inbox, rooms],
  async run(bench) {
    await using open = new AsyncDisposableStack();
    const small = await place(bench, open, FEW);
    const large = await place(bench, open, bench.events);
    const row = async (goal: Goal, pathOf: (large: Large) => string) => {
      const get = ({ large, served }: Place) => {
        const api = apiOf(served.url, large.client, large.key);
        return () =>
          typicalMs(REQUESTS, async () => {
            const { data } = await api.call<{ data: readonly unknown[] }>("GET", pathOf(large));
            if (data.length !== PAGE) throw new Error(`${pathOf(large)} gave ${data.length} rows`);
          });
      };
      const names = { many: `${shown(bench.events)} messages`, few: `${shown(FEW)} messages` };
      const reached = await interleave(
        [
          { name: names.few, turn: get(small) },
          { name: names.many, turn: get(large) },
        ],
        bench.rounds,
      );
      return ratioRow(goal, reached, names.many, names.few, "ms");
    };
    return [
      await row(pages, ({ room }) => `/rooms/${room}/messages?limit=${PAGE}`),
      await row(inbox, () => `/notifications?recipient=${READER}&limit=${PAGE}`),
      await row(rooms, () => `/users/${READER}/rooms?limit=${PAGE}`),
    ];
  },
};

export const start: Subject = {
  name: "start",
  about: "starting the server on a long log",
  goals: [starting],
  async run(bench) {
    const large = await largeDatabase(bench, bench.events);
    await using empty = await bench.postgres.database();
    const emptyKey = newEncryptionKey();
    const startMs = (databaseUrl: string, encryptionKey: string) => async () => {
      const begun = performance.now();
      await using served = await startServed({ databaseUrl, encryptionKey });
      const took = performance.now() - begun;
      bench.say(`${served.url}: ${shown(took)} ms`);
      return took;
    };
    const names = { many: `after ${shown(bench.events)} events`, none: "after none" };
    const reached = await interleave(
      [
        { name: names.none, turn: startMs(empty.url, emptyKey) },
        { name: names.many, turn: startMs(large.database.url, large.encryptionKey) },
      ],
      bench.rounds,
    );
    return [ratioRow(starting, reached, names.many, names.none, "ms")];
  },
};
