// Who has no right to what a request names: every route and frame, with each fence around a client and without it.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { routes } from "../../src/api/http/routes/routes.ts";
import type { ClientId } from "../../src/contract/ids.ts";
import { queryAsClient } from "../../src/projections/fence.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { tableName } from "../../src/projections/projection.ts";
import { columnTypes, type ReadAs, readAsOperator } from "../../src/projections/read-as.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { sized, sizedTimeout } from "../support/size.ts";
import { SocketClient } from "../support/socket-client.ts";
import { SseClient } from "../support/sse-client.ts";
import { ALL_MARKS, type Cast, cast, MARKS } from "./support/tenant-cast.ts";
import { frameFaults, overheard } from "./support/tenant-frames.ts";
import { type Cell, cellsOf, faultsOf, isAllowed, isRead, ownersFaults, unmatched } from "./support/tenant-matrix.ts";

const TIMEOUT_MS = sizedTimeout(120_000, 600_000);

let server: TestServer;
let they: Cast;
/** What can be tried without changing anything for who is let in; first what keys of other clients read, then what their users do. */
let cells: readonly Cell[];
/** Whether clients' queries have their own condition. */
let narrowed = true;

beforeAll(async () => {
  server = await startTestServer({
    replacing: ({ readSide, pool }) => {
      const unnarrowed = (client: ClientId): ReadAs => ({
        kind: "client",
        client,
        over: readAsOperator(pool).over,
        rows(query) {
          const { sql: text, parameters } = query.compile();
          return queryAsClient(pool, client, { text, values: [...parameters], types: columnTypes });
        },
      });
      const own = readSide.readAs.bind(readSide);
      const readAs = (client: ClientId) => (narrowed ? own(client) : unnarrowed(client));
      return { readSide: Object.assign(readSide, { readAs }) };
    },
  });
  they = await cast(server);
  const harmless = cellsOf(routes, they).filter((cell) => isRead(cell) || !isAllowed(cell));
  const first = (cell: Cell) => (!isRead(cell) || !cell.by.foreign ? 2 : cell.by.kind === "key" ? 0 : 1);
  cells = harmless.toSorted((one, other) => first(one) - first(other));
}, TIMEOUT_MS);
afterAll(() => server[Symbol.asyncDispose]());

/** Does something with the policies of PostgreSQL off. */
async function withoutPolicies<T>(work: () => Promise<T>): Promise<T> {
  const all = (what: string) =>
    storedProjections.map((one) => `alter table read.${tableName(one)} ${what} row level security`).join(";");
  const { pool } = server.storage;
  await pool.query(all("disable"));
  try {
    return await work();
  } finally {
    await pool.query(all("enable"));
  }
}

/** Does something without the condition in clients' queries. */
async function withoutConditions<T>(work: () => Promise<T>): Promise<T> {
  narrowed = false;
  try {
    return await work();
  } finally {
    narrowed = true;
  }
}

const KEYS = { kind: "key", scope: null } as const;

/** The faults of the first so many cells. */
const faults = (count = cells.length) => faultsOf(server.url, cells.slice(0, count));

test("every route is tried", () => {
  expect(unmatched(routes)).toEqual([]);
  const added = routes.slice(0, 1).map((one) => ({ ...one, path: "/added/:room_id", access: KEYS }));
  expect(unmatched([...routes, ...added])).toEqual(["POST /added/:room_id"]);
  expect(cells.length).toBeGreaterThan(1_000);
});

describe("with both fences around a client", () => {
  test(
    "each route answers 401, 403, or as about an unknown id, and nothing is written",
    async () => {
      const before = await server.storage.store.tail();
      expect(await faults()).toEqual([]);
      expect(await server.storage.store.tail()).toBe(before);
    },
    TIMEOUT_MS,
  );

  test(
    "each frame is refused, or ends its socket, and nothing is written",
    async () => {
      const before = await server.storage.store.tail();
      const { cells: tried, found } = await frameFaults(server.url.replace("http", "ws"), they);
      expect(found).toEqual([]);
      expect(tried).toBeGreaterThan(140);
      expect(await server.storage.store.tail()).toBe(before);
    },
    TIMEOUT_MS,
  );
});

describe("each fence holds without the other", () => {
  const some = () => sized(200, cells.length);

  test(
    "PostgreSQL's policies, without the condition in the query",
    async () => {
      expect(await withoutConditions(() => faults(some()))).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "the condition in the query, without PostgreSQL's policies",
    async () => {
      expect(await withoutPolicies(() => faults(some()))).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "without both, what is another's is told",
    async () => {
      const found = await withoutPolicies(() => withoutConditions(() => faults(some())));
      expect(found.length).toBeGreaterThan(10);
    },
    TIMEOUT_MS,
  );
});

test("what happens in a client is pushed to nobody else: to sockets, followers and streams", async () => {
  const { api, own } = they.acme;
  const ws = server.url.replace("http", "ws");
  const told = await overheard(ws, they, async () => {
    const bearer = they.erin.bearer ?? "";
    using erin = await SocketClient.connect(ws, bearer);
    using ofErin = await SseClient.open(server.url, "/users/erin/events", bearer);
    using ofAcme = await SseClient.open(server.url, "/events", api.key);
    await erin.ask({ type: "follow" });
    const direct = they.targets.room_id?.find(({ what }) => what === "direct room")?.id ?? "";
    for (const [room, mark] of [
      [own.room_id, [MARKS.client, MARKS.room].join()],
      [direct, MARKS.erin],
    ] as const) {
      const say = async (more: object) =>
        (await api.post(`/rooms/${room}/messages`, { sender_id: "erin", content: mark, ...more })).body;
      const messages = `/rooms/${room}/messages`;
      const ask = (frame: object) => erin.ask({ room_id: room, ...frame });
      const { id, seq } = await say({});
      await api.patch(`${messages}/${id}`, { content: `${mark} edited` });
      const { id: growing } = await say({ state: "growing" });
      expect(await ask({ type: "append", message_id: growing, text: mark, offset: mark.length })).toMatchObject({
        type: "ok",
      });
      await ask({ type: "react", message_id: id, emoji: "👍" });
      await ask({ type: "unreact", message_id: id, emoji: "👍" });
      await ask({ type: "delivered", seq });
      await api.put(`/rooms/${room}/reads/erin`, { seq: seq - 1, mark_unread: true });
      await ask({ type: "typing", active: true });
      const later = await say({ send_at: new Date(Date.now() + 86_400_000).toISOString() });
      await api.post(`/rooms/${room}/scheduled-messages/${later.id}/send-now`);
      await ask({ type: "complete", message_id: growing });
    }
    await api.post("/notifications", { type: "websocket", user_ids: ["erin"], content: MARKS.erin });
    const last = { event: "message.completed", room_id: direct };
    await Promise.all([
      erin.next("event", last),
      erin.next("notification", { content: MARKS.erin }),
      ofErin.next("notification"),
      ofAcme.next("notification.accepted"),
    ]);
    for (const mark of ALL_MARKS)
      for (const seen of [erin.frames, ofErin.events, ofAcme.events]) expect(JSON.stringify(seen)).toContain(mark);
  });
  expect(told).toEqual([]);
});

test("names are each client's own: what another does under the same one changes nothing", async () => {
  const { api, own } = they.acme;
  const paths = ["/users/eve", "/email-providers/acme-mailer", `/rooms/${own.room_id}/members`, "/clients/me"];
  const seen = () => Promise.all(paths.map(async (path) => (await api.get(path)).body));
  const before = await seen();
  const named = cellsOf(routes, they).filter((cell) => cell.by.foreign && isAllowed(cell) && !isRead(cell));
  expect(named.length).toBeGreaterThan(10);
  // Who is banned cannot be added: not at the same time.
  const isBan = ({ route }: Cell) => route.path.includes("/bans/");
  expect(
    await faultsOf(
      server.url,
      named.filter((cell) => !isBan(cell)),
    ),
  ).toEqual([]);
  expect(await faultsOf(server.url, named.filter(isBan))).toEqual([]);
  expect(await seen()).toEqual(before);
});

test(
  "the owner may do all that was tried",
  async () => {
    expect(await ownersFaults(server.url, routes, they)).toEqual([]);
  },
  TIMEOUT_MS,
);
