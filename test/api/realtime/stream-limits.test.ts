// Streams of server-sent events count as sockets do: of an address, of a client, and of the user that they are for.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Limits } from "../../../src/app/rate-limit.ts";
import type { ClientId } from "../../../src/contract/ids.ts";
import { type Api, apiOf, newClient, tokenOf } from "../../e2e/support/api.ts";
import { databaseWithTables } from "../../support/database-with-tables.ts";
import { ADMIN_KEY, encryptionKey, startTestServer, type TestServer } from "../../support/server.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { SseClient } from "../../support/sse-client.ts";
import { until } from "../../support/until.ts";

const stack = new AsyncDisposableStack();
/** Outside development mode: there no address is exempt. */
let server: TestServer;
let api: Api & { readonly id: string };
let room: string;
let ann: string;
/** What each limit counts by. */
let names: Readonly<Record<Counted, string>>;

type Counted = "socketsByAddress" | "socketsByClient" | "socketsByUser";
const LIMITS: readonly Counted[] = ["socketsByAddress", "socketsByClient", "socketsByUser"];

beforeAll(async () => {
  const { url } = stack.use(await databaseWithTables());
  const env = { DATABASE_URL: url, ADMIN_KEY, ENCRYPTION_KEYS: encryptionKey() };
  server = stack.use(await startTestServer({ databaseUrl: url, env }));
  const { key, id } = await newClient(server.url, "My App", { authorization: `Bearer ${ADMIN_KEY}` });
  api = { ...apiOf(server.url, key), id };
  room = (await api.post("/rooms", { name: "Talk", members: [{ user_id: "ann" }] })).body.id;
  ann = await tokenOf(api, "ann");
  names = {
    socketsByAddress: "127.0.0.1",
    socketsByClient: api.id,
    socketsByUser: await server.services.keyring.subjectOfUser(api.id as ClientId, "ann"),
  };
});
afterAll(() => stack.disposeAsync());

/** All that a limit has left, held until it is disposed. */
function allOf(limits: Limits, limit: Counted): DisposableStack & { readonly count: number } {
  const held = new DisposableStack();
  let count = 0;
  for (let one = limits[limit].take(names[limit]); one !== undefined; one = limits[limit].take(names[limit])) {
    held.use(one);
    count += 1;
  }
  return Object.assign(held, { count });
}

/** How many more each limit would let in. */
function left(): readonly number[] {
  return LIMITS.map((limit) => {
    using held = allOf(server.services.limits, limit);
    return held.count;
  });
}

const open = (path: string, bearer?: string) => SseClient.open(server.url, path, bearer);
const ticketOf = async (by: Api, body: object = {}): Promise<string> => (await by.post("/tickets", body)).body.ticket;

const STREAMS = [
  ["a room's by a token", () => open(`/rooms/${room}/events`, ann), LIMITS],
  ["a room's by a key", () => open(`/rooms/${room}/events`, api.key), LIMITS.slice(0, 2)],
  ["a room's by a ticket", async () => open(`/rooms/${room}/events?ticket=${await ticketOf(api.as(ann))}`), LIMITS],
  ["a user's by a token", () => open("/users/ann/events", ann), LIMITS],
  ["a user's by a key", () => open("/users/ann/events", api.key), LIMITS],
  [
    "a user's by a key's ticket",
    async () => open(`/users/ann/events?ticket=${await ticketOf(api, { user_id: "ann" })}`),
    LIMITS,
  ],
  ["a client's", () => open("/events", api.key), LIMITS.slice(0, 2)],
] as const;

test.each(STREAMS)("%s: counts once of its address, client and user, until it ends", async (_what, opened, counted) => {
  const before = left();
  {
    using stream = await opened();
    expect(stream.status).toBe(200);
    expect(left()).toEqual(LIMITS.map((limit, nth) => (before[nth] ?? 0) - (counted.includes(limit) ? 1 : 0)));
  }
  await until(left, (now) => now.join() === before.join());
  for (const limit of counted) {
    using _none = allOf(server.services.limits, limit);
    using refused = await opened();
    expect([limit, refused.status]).toEqual([limit, 429]);
    expect(Number(refused.response.headers["retry-after"])).toBeGreaterThan(0);
  }
  await until(left, (now) => now.join() === before.join());
});

test("streams and sockets of a user share its places", async () => {
  const url = server.url.replace("http", "ws");
  using places = new DisposableStack();
  for (let place = 0; place < 20; place += 1) {
    if (place % 2 === 0) places.use(await SocketClient.connect(url, ann));
    else expect(places.use(await open("/users/ann/events", ann)).status).toBe(200);
  }
  using late = await open(`/rooms/${room}/events`, ann);
  using socket = new SocketClient(`${url}/ws`, { authorization: `Bearer ${ann}` });
  expect([late.status, await socket.closed()]).toEqual([429, 4030]);
});
