// Posting messages to rooms: what is sent where, by how many, and who listens.
import { median } from "../harness/measure.ts";
import { shown } from "../harness/row.ts";
import type { Load, Target } from "../processes/load.ts";
import type { Generator } from "./load.ts";
import type { BenchPostgres } from "./postgres.ts";
import { type BenchProcess, startProcess } from "./process.ts";
import { canMeasure, processorMs } from "./processor-time.ts";
import { type Api, newRoom, newToken } from "./served.ts";

const CONTENT =
  "Are we still meeting at the station at half past six, or shall I come by the office first? Let me know!";

export const userName = (number: number): string => `user-${number}`;

/** A message of a user to a room. */
export const posting = (room: string, user: string): Target => ({
  path: `/rooms/${room}/messages`,
  body: JSON.stringify({ sender_id: user, content: CONTENT }),
});

/** Rounds that a server is loaded for before it counts: the whole way of a request is a lot of code to compile. */
export const WARM_UP_ROUNDS = 4;
export const CONNECTIONS = 64;
export const ROOMS = 256;
export const SOCKETS = 100;

/** Rooms of one user each, and a message of that user to each. */
export async function manyRooms(api: Api): Promise<{ rooms: readonly string[]; targets: readonly Target[] }> {
  const rooms: string[] = [];
  for (let number = 0; number < ROOMS; number += 1) rooms.push(await newRoom(api, [userName(number), "listener"]));
  return { rooms, targets: rooms.map((room, number) => posting(room, userName(number))) };
}

/** Sockets of one user, who is in all rooms; each listens to its share of them, as many as there are in all. */
export async function listenTo(load: BenchProcess, url: string, api: Api, rooms: readonly string[]): Promise<void> {
  for (let socket = 0; socket < SOCKETS; socket += 1) {
    const user = `listener-${socket}`;
    const mine = rooms.filter((_, number) => number % SOCKETS === socket);
    for (const room of mine) await api.call("PUT", `/rooms/${room}/members/${user}`, {});
    await load.call("listen", { url, token: await newToken(api, user), rooms: mine });
  }
}

/** The naive server, and a message to each of its rooms. */
export async function naivePosts(
  open: AsyncDisposableStack,
  database: AsyncDisposable & { readonly url: string },
  key: string,
): Promise<{ url: string; targets: readonly Target[]; process: BenchProcess }> {
  open.use(database);
  const process = open.use(startProcess(new URL("../processes/naive-server.ts", import.meta.url)));
  const names = Array.from({ length: ROOMS }, (_, number) => `room_${number}`);
  const rooms = Object.fromEntries(names.map((room, number) => [room, [userName(number)]]));
  const url = await process.call<string>("start", { databaseUrl: database.url, key, rooms });
  return { url, process, targets: names.map((room, number) => posting(room, userName(number))) };
}

/** What posts cost in the counted rounds: microseconds of processor time each, and milliseconds until the answer. */
export class PostCosts {
  readonly server: number[] = [];
  readonly database: number[] = [];
  readonly generator: number[] = [];
  readonly p50: number[] = [];
  readonly p99: number[] = [];

  /** Server and database together, round by round. */
  get both(): readonly number[] {
    return this.server.map((micros, round) => micros + (this.database[round] ?? Number.NaN));
  }

  /** One phrase for the table. */
  toString(): string {
    if (this.server.length === 0) return "processor time not measured";
    const [server, database, generator] = [this.server, this.database, this.generator].map((all) => shown(median(all)));
    return `processor time a post: server ${server} µs, database ${database} µs; generator ${generator} µs`;
  }
}

type Measured = {
  readonly server: BenchProcess;
  readonly postgres: Pick<BenchPostgres, "pid">;
  readonly costs: PostCosts;
};

/** A candidate's rounds: posts per second, and what they cost. The round that is not counted is long. */
export const postsPerSecond =
  (generator: Generator, order: Omit<Load, "ms">, roundMs: number, measured?: Measured) =>
  async (round: number): Promise<number> => {
    const ms = round === 0 ? WARM_UP_ROUNDS * roundMs : roundMs;
    const spent = () => [measured?.server.child.pid, measured?.postgres.pid()].map((pid) => processorMs(pid ?? 0));
    const before = spent();
    const { perSecond, requests, generatorMicros, p50Ms, p99Ms } = await generator.run({ ...order, ms });
    if (round === 0 || measured === undefined) return perSecond;
    measured.costs.p50.push(p50Ms);
    measured.costs.p99.push(p99Ms);
    if (canMeasure) {
      const [server = 0, database = 0] = spent().map((now, at) => ((now - (before[at] ?? 0)) * 1_000) / requests);
      measured.costs.server.push(server);
      measured.costs.database.push(database);
      measured.costs.generator.push(generatorMicros ?? Number.NaN);
    }
    return perSecond;
  };
