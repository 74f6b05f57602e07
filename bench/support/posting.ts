// Posting messages to rooms: what is sent where, by how many, and who listens.
import type { Load, Loaded, Target } from "../processes/load.ts";
import { type BenchProcess, startProcess } from "./process.ts";
import { type Api, newRoom, newToken } from "./served.ts";

const CONTENT =
  "Are we still meeting at the station at half past six, or shall I come by the office first? Let me know!";

export const userName = (number: number): string => `user-${number}`;

/** A message of a user to a room. */
export const posting = (room: string, user: string): Target => ({
  path: `/rooms/${room}/messages`,
  body: JSON.stringify({ sender_id: user, content: CONTENT }),
});

/** Turns that a server is loaded for before it counts: the whole way of a request is a lot of code to compile. */
export const WARM_UP_TURNS = 4;
export const CONNECTIONS = 64;
export const ROOMS = 256;
export const SOCKETS = 100;

export const startLoad = (): BenchProcess => startProcess(new URL("../processes/load.ts", import.meta.url));

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

/** A candidate's turns: posts per second. The one that is not counted is long. */
export const postsPerSecond =
  (load: BenchProcess, order: Omit<Load, "ms">, turnMs: number) =>
  async (round: number): Promise<number> => {
    const ms = round === 0 ? WARM_UP_TURNS * turnMs : turnMs;
    return (await load.call<Loaded>("run", { ...order, ms } satisfies Load)).perSecond;
  };
