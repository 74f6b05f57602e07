// Bounds of sockets, as a list: what goes past each is answered clearly, and afterwards all is well again.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import type { RoomId } from "../../src/contract/ids.ts";
import { tokenOf } from "../e2e/support/api.ts";
import { createRoom } from "../support/live.ts";
import type { SocketClient } from "../support/socket-client.ts";
import {
  almostAll,
  type Bound,
  type BoundedServer,
  bearer,
  closing,
  fateOf,
  from,
  openBoundedServer,
  tryEach,
} from "./support/bounds.ts";

const ROOMS = 500;
let bounded: BoundedServer;
/** Subscribes to as many rooms as a socket may, no faster than it may, while other bounds are tried. */
let filled: Promise<SocketClient>;

beforeAll(async () => {
  bounded = await openBoundedServer();
  filled = fill(bounded);
  filled.catch(() => undefined); // told where it is awaited
});
afterAll(() => bounded[Symbol.asyncDispose]());

const roomAt = (n: number): RoomId => `room_${String(n).padStart(26, "0")}`;

async function fill({ server, client, open }: BoundedServer): Promise<SocketClient> {
  const rooms = Array.from({ length: ROOMS + 1 }, (_, n) => roomAt(n));
  await Promise.all(rooms.map((room) => createRoom(server.services, client.id, room, { filler: "owner" })));
  const socket = open(await tokenOf(client, "filler"));
  await socket.next("welcome");
  for (let n = 0; n < ROOMS; n += 1) {
    socket.send({ type: "subscribe", room_id: roomAt(n) });
    if (n % 50 !== 49) continue;
    await socket.until(() => socket.of("subscribed").length === n + 1);
    await sleep(600);
  }
  return socket;
}

/** A socket of a user of the client's own, that was let in. */
async function ready({ client, open }: BoundedServer, using: DisposableStack): Promise<SocketClient> {
  const socket = using.use(open(await tokenOf(client, "ann")));
  await socket.next("welcome");
  return socket;
}
const pings = async (at: BoundedServer, using: DisposableStack) =>
  (await (await ready(at, using)).ask({ type: "ping" })).type;

const EXPIRED_KEY = `ck_${"0".repeat(49)}`;

const BOUNDS: readonly Bound[] = [
  {
    what: "sockets of an address",
    bound: "100",
    answer: "429 rate_limited",
    past: async ({ client, limits, open, upgraded }, using) => {
      almostAll(limits.socketsByAddress, "192.0.2.1", 100, using);
      await using.use(open(client.key, from("192.0.2.1"))).next("welcome");
      return upgraded(from("192.0.2.1"));
    },
    after: "101",
    well: ({ upgraded }) => upgraded(from("192.0.2.1")),
  },
  {
    what: "sockets of a user",
    bound: "20",
    answer: "closed with 4030",
    past: async ({ server, client, limits, open }, using) => {
      const token = await tokenOf(client, "bob");
      almostAll(limits.socketsByUser, await server.services.keyring.subjectOfUser(client.id, "bob"), 20, using);
      await using.use(open(token)).next("welcome");
      return fateOf(using.use(open(token)));
    },
    after: "welcome",
    well: async ({ client, open }, using) => fateOf(using.use(open(await tokenOf(client, "bob")))),
  },
  {
    what: "sockets of a client",
    bound: "10,000",
    answer: "closed with 4030",
    past: async ({ limits, open, register }, using) => {
      const crowd = await register("Crowd");
      almostAll(limits.socketsByClient, crowd.id, 10_000, using);
      await using.use(open(crowd.key)).next("welcome");
      return fateOf(using.use(open(crowd.key)));
    },
    after: "pong",
    well: pings,
  },
  {
    what: "failed authentications of an address, by header, query and first frame",
    bound: "30 a minute",
    answer: "429 rate_limited, 429 rate_limited, 429 rate_limited",
    past: async ({ open, upgraded }, using) => {
      const guest = from("192.0.2.2");
      for (let n = 0; n < 10; n += 1) {
        const attempts = [open(EXPIRED_KEY, guest), open("wrong", guest), open("", guest)];
        await attempts[2]?.opened();
        attempts[2]?.send({ type: "auth", token: "wrong" });
        for (const socket of attempts) if ((await using.use(socket).closed()) !== 4501) throw new Error("not 4501");
      }
      const again = [bearer("wrong"), {}, { "x-api-key": EXPIRED_KEY }];
      return (await Promise.all(again.map((headers) => upgraded({ ...guest, ...headers })))).join(", ");
    },
    // Who has a credential that holds is let in from there, too, and others are where they were.
    after: "101 101",
    well: async ({ client, upgraded }) => {
      const known = await upgraded({ ...from("192.0.2.2"), ...bearer(client.key) });
      return `${known} ${await upgraded({ ...from("192.0.2.3"), ...bearer("wrong") })}`;
    },
  },
  {
    what: "frames of a socket",
    bound: "100 a second",
    answer: "closed with 4029",
    past: async (at, using) => {
      const socket = await ready(at, using);
      for (let n = 0; n < 300; n += 1) socket.send({ type: "ping" });
      return closing(socket);
    },
    after: "pong",
    well: pings,
  },
  {
    what: "bytes of a frame",
    bound: "256 KiB",
    answer: "closed with 1009",
    past: async (at, using) => {
      const socket = await ready(at, using);
      socket.send(JSON.stringify({ type: "ping", ref: "x".repeat(256 * 1024) }));
      return closing(socket);
    },
    after: "pong",
    well: pings,
  },
  {
    what: "pieces of a frame",
    bound: "4,096",
    answer: "closed with 1008",
    past: async (at, using) => {
      const { socket, closed } = await ready(at, using).then((one) => ({ socket: one.socket, closed: closing(one) }));
      for (let n = 0; n <= 4_096; n += 1) socket.send(" ", { fin: false });
      return closed;
    },
    after: "pong",
    well: pings,
  },
  {
    what: "rooms of a socket",
    bound: "500",
    answer: "too_many_subscriptions",
    past: async () => String((await (await filled).ask({ type: "subscribe", room_id: roomAt(ROOMS) })).code),
    after: "subscribed",
    well: async () => {
      const socket = await filled;
      await socket.ask({ type: "unsubscribe", room_id: roomAt(0) });
      const { type } = await socket.ask({ type: "subscribe", room_id: roomAt(ROOMS) });
      socket.cut();
      return type;
    },
  },
];

tryEach(BOUNDS, () => bounded);
