// One who follows ten thousand rooms: how soon the first window comes, what a page of the rooms costs, what memory it takes.
import { once } from "node:events";
import { WebSocket } from "ws";
import { messages } from "../../src/projections/models/messages.ts";
import { members, rooms } from "../../src/projections/models/rooms.ts";
import { openReadSide } from "../../src/projections/read-side.ts";
import { fillRows } from "../../test/support/fill-rows.ts";
import { interleave, median, typicalMs } from "../harness/measure.ts";
import { type Goal, ratioRow, rowOf, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import type { Connecting } from "../processes/sockets.ts";
import { openLog, registerClient } from "../support/log.ts";
import { type BenchProcess, startProcess } from "../support/process.ts";
import { type Api, apiOf, newEncryptionKey, newToken, type Served, startServed } from "../support/served.ts";

const atMost = { direction: "at most" } as const;
const firstWindow: Goal = {
  ...{ ...atMost, name: "18 first window of one who follows 10,000 rooms, all unread", goal: 100, unit: "ms" },
};
const page: Goal = { ...atMost, name: "18 page of a user's rooms, 10,000 rooms over 10", goal: 2, unit: "x" };
const memory: Goal = { ...atMost, name: "18 memory of one who follows 10,000 rooms, over 10", goal: 2, unit: "x" };

const MANY = 10_000;
const FEW = 10;
const MESSAGES_EACH = 5;
const REQUESTS = 20;
/** Of each kind: half of them come before memory is looked at, since what the first ones bring is not a follower's. */
const USERS = 20;
const SOCKETS_EACH = 20;

type Place = { readonly served: Served; readonly api: Api };
const named = (rooms: number, number: number): string => `in-${rooms}-rooms-${number}`;

/** Starts servers on a database in which users are in many rooms and others in few. */
async function place({ postgres, say }: Bench, open: AsyncDisposableStack): Promise<() => Promise<Place>> {
  say(`${shown(MANY)} rooms`);
  const encryptionKey = newEncryptionKey();
  const database = open.use(await postgres.database());
  await using log = await openLog(database.url, encryptionKey);
  const { client, key } = await registerClient(log);
  await using readSide = await openReadSide(log);
  await readSide.start();
  await readSide.caughtUp();
  const position = "'bench.' || lpad(to_hex(r), 16, '0')";
  const own = { client: `'${client}'`, room_id: "'room_' || md5(r::text)", position };
  const rows = (count: number, each: number) => `generate_series(1, ${count}) r, generate_series(1, ${each}) n`;
  const heads = { seq: `${MESSAGES_EACH + 1}`, counted_seq: `${MESSAGES_EACH + 1}`, ordinal: `${MESSAGES_EACH}` };
  const about = {
    name: "'Room ' || r",
    kind: "'private'",
    history: "'all'",
    active: "true",
    activity_position: position,
  };
  const initial = (at: number) => `ascii(substr(md5((r * 10 + n)::text), ${at}))`;
  const posters = `(select bit_or(1::bigint << (${initial(1)} * 32 + ${initial(2)}) % 53) from generate_series(1, ${MESSAGES_EACH}) n)`;
  await fillRows(log.pool, rooms, rows(MANY, 1), { ...own, ...heads, ...about, posters });
  const said = { sender: "'sub_' || md5((r * 10 + n)::text)", state: "'complete'", type: "'text'", ordinal: "n" };
  const content = "'Shall we meet at the station at half past six, or at the office?'";
  const told = { content, id: "'msg_' || r || '_' || n", seq: "n + 1", content_seq: "n + 1", change_seq: "n + 1" };
  await fillRows(log.pool, messages, rows(MANY, MESSAGES_EACH), { ...own, ...said, ...told });
  await fillRows(log.pool, members, rows(MANY, MESSAGES_EACH), { ...own, subject: said.sender, join_index: "n" });
  for (const [count, number] of [MANY, FEW].flatMap((many) =>
    Array.from({ length: USERS }, (_, n) => [many, n] as const),
  )) {
    const subject = await log.keyring.subjectOfUser(client, named(count, number));
    await fillRows(log.pool, members, rows(count, 1), { ...own, subject: `'${subject}'`, role: "'member'" });
  }
  await log.pool.query("vacuum analyze");
  return async () => {
    const served = await startServed({ databaseUrl: database.url, encryptionKey }, ["--expose-gc"]);
    return { served, api: apiOf(served.url, client, key) };
  };
}

/** Milliseconds from `follow` to its window: the median of many, one after the other. */
async function windowMs({ served, api }: Place, rooms: number): Promise<number> {
  const token = await newToken(api, named(rooms, 0));
  const socket = new WebSocket(`${served.url.replace("http", "ws")}/ws`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const next = async (type: string) => {
    for (;;) {
      const [data] = await once(socket, "message");
      const frame = JSON.parse(String(data)) as { readonly type: string; readonly unread_total?: number };
      if (frame.type === "error") throw new Error(String(data));
      if (frame.type === type) return frame;
    }
  };
  await next("welcome");
  const took: number[] = [];
  for (let time = 0; time < REQUESTS; time += 1) {
    const start = performance.now();
    socket.send(JSON.stringify({ type: "follow" }));
    const { unread_total } = await next("inbox");
    took.push(performance.now() - start);
    if (unread_total !== rooms * MESSAGES_EACH) throw new Error(`${unread_total} of ${rooms} rooms are unread`);
    socket.send(JSON.stringify({ type: "unfollow" }));
    await next("unfollowed");
  }
  socket.close();
  return median(took);
}

const pageMs = ({ api }: Place, rooms: number): Promise<number> =>
  typicalMs(REQUESTS, () => api.call("GET", `/users/${named(rooms, 0)}/rooms?limit=${FEW}`));

/** What the server's heap grows by, in kilobytes for each follower. */
async function followerKb({ served, api }: Place, sockets: BenchProcess, rooms: number): Promise<number> {
  const heap = async () => (await served.process.call<{ heap: number }>("memory")).heap;
  const half = USERS / 2;
  const connect = async (first: number) => {
    const users = Array.from({ length: half }, (_, number) => named(rooms, first + number));
    const tokens: string[] = [];
    for (const user of users) tokens.push(await newToken(api, user));
    const headers = tokens.flatMap((token) =>
      Array.from({ length: SOCKETS_EACH }, () => `Authorization: Bearer ${token}\r\n`),
    );
    const hello = JSON.stringify({ type: "follow" });
    await sockets.call("connect", { url: served.url, path: "/ws", headers, hello, answers: 2 } satisfies Connecting);
  };
  await connect(0);
  const before = await heap();
  await connect(half);
  return ((await heap()) - before) / 1_024 / (half * SOCKETS_EACH);
}

export const manyRooms: Subject = {
  name: "many-rooms",
  about: "one who follows ten thousand rooms",
  goals: [firstWindow, page, memory],
  async run(bench) {
    await using open = new AsyncDisposableStack();
    const start = await place(bench, open);
    const names = { many: `${shown(MANY)} rooms`, few: `${FEW} rooms` };
    const measured = (turn: (rooms: number) => Promise<number>) => [
      { name: names.few, turn: () => turn(FEW) },
      { name: names.many, turn: () => turn(MANY) },
    ];
    const one = await start();
    await using _served = one.served;
    const windows = await interleave(
      measured((rooms) => windowMs(one, rooms)),
      bench.rounds,
    );
    const pages = await interleave(
      measured((rooms) => pageMs(one, rooms)),
      bench.rounds,
    );
    const memories = await interleave(
      measured(async (rooms) => {
        const fresh = await start();
        await using _fresh = fresh.served;
        await using sockets = startProcess(new URL("../processes/sockets.ts", import.meta.url));
        return await followerKb(fresh, sockets, rooms);
      }),
      bench.rounds,
    );
    const few = `${names.few}: ${shown(median(windows.get(names.few) ?? []))} ms`;
    return [
      rowOf(firstWindow, windows.get(names.many) ?? [], { baseline: few }),
      ratioRow(page, pages, names.many, names.few, "ms"),
      ratioRow(memory, memories, names.many, names.few, "KB a follower"),
    ];
  },
};
