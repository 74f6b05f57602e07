// Forgeries by somebody who can write to the database and holds no key: each is refused or shown as forged, wherever it is read.
import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hashApiKey, KEY_BYTES, makeApiKey } from "../../src/app/credentials.ts";
import { EVERYTHING_ENV, everything } from "../cli/everything.ts";
import { type Api, apiOf, type Body, newClient, tokenOf, until } from "../e2e/support/api.ts";
import { databaseWithTables } from "../support/database-with-tables.ts";
import type { TestDatabase } from "../support/postgres.ts";
import { encryptionKey, startTestServer, type TestServer } from "../support/server.ts";
import { SocketClient } from "../support/socket-client.ts";

/** Stands in everything that is forged, and nowhere else. */
const FORGED_WORDS = "f0rged";
const GENUINE = ["first", "second", "third"];
/** The revision of "second": the first is the room's creation. */
const TARGET = 2;

type Row = {
  position: string;
  stream: string;
  revision: number;
  id: string;
  type: string;
  data: Buffer;
  metadata: Buffer;
};
/** The room whose log is forged, its events, and another room's. */
type Scene = { readonly room: string; readonly rows: readonly Row[]; readonly other: string; readonly foreign: string };
type Change = Partial<Record<"id" | "type" | "stream" | "revision", string | number>> & {
  data?: unknown;
  metadata?: unknown;
};

const bytes = (value: unknown): Buffer =>
  Buffer.isBuffer(value) ? value : Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const json = (buffer: Buffer | undefined) => JSON.parse(String(buffer)) as Record<string, Body>;
const rowAt = ({ rows }: Scene, revision: number): Row => {
  const row = rows[revision];
  if (row === undefined) throw new Error("no such event");
  return row;
};
const openData = (row: Row) => ({ ...json(row.data), $sealed: undefined, content: { open: FORGED_WORDS } });

/** What a writer changes in the stored event "second". */
const CHANGES: Record<string, (scene: Scene) => Change> = {
  "its content stored in the open": (scene) => ({ data: openData(rowAt(scene, TARGET)) }),
  "its content stored in the open, and no MAC": (scene) => ({
    data: openData(rowAt(scene, TARGET)),
    metadata: { ...json(rowAt(scene, TARGET).metadata), mac: undefined },
  }),
  "its marks exchanged": (scene) => {
    const { content, user, ...data } = json(rowAt(scene, TARGET).data);
    return { data: { ...data, content: user, user: content } };
  },
  "the blobs of another message": (scene) => ({
    data: { ...json(rowAt(scene, TARGET).data), $sealed: json(rowAt(scene, 3).data).$sealed },
  }),
  "everything of another message but its id": (scene) => ({
    data: rowAt(scene, 3).data,
    metadata: rowAt(scene, 3).metadata,
  }),
  "everything of another message": (scene) => {
    const { id, data, metadata } = rowAt(scene, 3);
    return { id, data, metadata };
  },
  "another id": () => ({ id: randomUUID() }),
  "another type": () => ({ type: "MessageDeleted" }),
  "another actor": (scene) => ({
    metadata: { ...json(rowAt(scene, TARGET).metadata), actor: { type: "operator", id: FORGED_WORDS } },
  }),
  "another tenant": (scene) => ({ metadata: { ...json(rowAt(scene, TARGET).metadata), client: scene.foreign } }),
  "another time": (scene) => ({ metadata: { ...json(rowAt(scene, TARGET).metadata), at: 1 } }),
  "its MAC cut off": (scene) => ({ metadata: { ...json(rowAt(scene, TARGET).metadata), mac: undefined } }),
  "a MAC that was guessed": (scene) => ({
    metadata: { ...json(rowAt(scene, TARGET).metadata), mac: randomBytes(16).toString("base64url") },
  }),
  "a key that never was, so that it looks erased": (scene) => {
    const data = json(rowAt(scene, TARGET).data);
    return { data: { ...data, $sealed: data.$sealed.map((blob: object) => ({ ...blob, key: "never-was" })) } };
  },
  "its content marked as erased": (scene) => ({
    data: { ...json(rowAt(scene, TARGET).data), content: { erased: true } },
  }),
  "data that is no JSON": () => ({ data: `{"content": "${FORGED_WORDS}` }),
  "no metadata": () => ({ metadata: "" }),
};

/** What a writer adds to the end of the room's stream. */
const ADDITIONS: Record<string, (scene: Scene) => Omit<Row, "position" | "stream" | "revision">> = {
  "a message in the open": (scene) => {
    const { mac: _mac, ...metadata } = json(rowAt(scene, 3).metadata);
    return {
      id: randomUUID(),
      type: "MessagePosted",
      data: bytes(openData(rowAt(scene, 3))),
      metadata: bytes(metadata),
    };
  },
  "a genuine message once more": (scene) => ({ ...rowAt(scene, 3), id: randomUUID() }),
  "a genuine message once more, under its own id": (scene) => rowAt(scene, 3),
  "a member of the writer's": (scene) => {
    const { mac: _mac, ...metadata } = json(rowAt(scene, 3).metadata);
    const data = {
      subject: `sub_${"0".repeat(26)}`,
      user: { open: FORGED_WORDS },
      role: "owner",
      name: null,
      meta: { open: {} },
    };
    return { id: randomUUID(), type: "MemberJoined", data: bytes(data), metadata: bytes(metadata) };
  },
  "an event of no type": (scene) => ({ ...rowAt(scene, 3), id: randomUUID(), type: FORGED_WORDS }),
};

const NAMES = [...Object.keys(CHANGES), ...Object.keys(ADDITIONS)];
const stack = new AsyncDisposableStack();
const scenes = new Map<string, Scene>();
const env = { ENCRYPTION_KEYS: encryptionKey() };
let database: TestDatabase;
let before: TestServer;
let after: TestServer;
let api: Api;
let live: SocketClient;
const stolen = makeApiKey(randomBytes(KEY_BYTES));

const rowsOf = async (stream: string): Promise<Row[]> =>
  (await database.pool.query("SELECT * FROM log.events WHERE stream = $1 ORDER BY revision", [stream])).rows;

async function insert(stream: string, event: Omit<Row, "position" | "stream" | "revision">): Promise<void> {
  await database.pool.query(
    `INSERT INTO log.events (position, stream, revision, id, type, data, metadata, recorded_at)
     SELECT (SELECT max(position) + 1 FROM log.events), $1, 1 + coalesce(max(revision), -1), $2, $3, $4, $5, now()
     FROM log.events WHERE stream = $1`,
    [stream, event.id, event.type, event.data, event.metadata],
  );
}

async function worked(answer: Promise<{ status: number; body: Body }>): Promise<Body> {
  const { status, body } = await answer;
  if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`);
  return body;
}

async function makeRoom(): Promise<string> {
  const { id } = await worked(
    api.post("/rooms", { name: "Room", members: [{ user_id: "alice" }, { user_id: "bob" }] }),
  );
  for (const content of GENUINE) await worked(api.post(`/rooms/${id}/messages`, { sender_id: "alice", content }));
  return id;
}

async function forge(name: string, scene: Scene): Promise<void> {
  const stream = `room-${scene.room}`;
  const addition = ADDITIONS[name];
  if (addition !== undefined) return insert(stream, addition(scene));
  const { data, metadata, ...columns } = CHANGES[name]?.(scene) ?? {};
  const row = { ...rowAt(scene, TARGET), ...columns };
  await database.pool.query(
    "UPDATE log.events SET id = $3, type = $4, data = $5, metadata = $6 WHERE stream = $1 AND revision = $2",
    [stream, TARGET, row.id, row.type, bytes(data ?? row.data), bytes(metadata ?? row.metadata)],
  );
}

beforeAll(async () => {
  database = stack.use(await databaseWithTables());
  before = await startTestServer({ databaseUrl: database.url, env });
  const client = await newClient(before.url);
  api = client;
  const foreign = (await newClient(before.url)).id;
  live = await SocketClient.connect(before.url, await tokenOf(api, "alice"));
  const other = await makeRoom();
  for (const name of NAMES) {
    const room = await makeRoom();
    await live.ask({ type: "subscribe", room_id: room });
    scenes.set(name, { room, rows: await rowsOf(`room-${room}`), other, foreign });
  }
  for (const [name, scene] of scenes) await forge(name, scene);
  // A key of the writer's own, in the place of the client's.
  const [registered] = await rowsOf(`client-${client.id}`);
  if (registered === undefined) throw new Error("the client has no event");
  const { mac: _mac, ...metadata } = json(registered.metadata);
  const { key } = json(registered.data);
  const hash = hashApiKey(stolen);
  const rotated = { old: key.id, key: { ...key, id: `key_${"0".repeat(26)}`, hash }, graceUntil: 1 };
  await insert(`client-${client.id}`, {
    ...{ id: randomUUID(), type: "KeyRotated", data: bytes(rotated), metadata: bytes(metadata) },
  });
  await insert("client-cli_00000000000000000000000000", { ...registered, id: randomUUID() });
}, 300_000);
afterAll(() => stack.disposeAsync());

describe("while the node runs", () => {
  test.each(NAMES)("its sockets get what comes after, and nothing forged: %s", async (name) => {
    const { room } = scenes.get(name) ?? expect.fail();
    await worked(api.post(`/rooms/${room}/messages`, { sender_id: "bob", content: "fourth" }));
    const { seq } = await live.next("event", { room_id: room });
    expect(seq).toBe(name in ADDITIONS ? 6 : 5);
    expect(JSON.stringify(live.frames)).not.toContain(FORGED_WORDS);
  });

  test("a KeyRotated that was inserted makes no key, and takes none away", async () => {
    expect((await api.as(stolen).get("/clients/me")).status).toBe(401);
    expect((await api.get("/clients/me")).status).toBe(200);
    expect(before.logged.filter(({ msg }) => String(msg).startsWith("forged event")).length).toBeGreaterThanOrEqual(5);
  });
});

describe("after a start that builds the read models anew", () => {
  beforeAll(async () => {
    live[Symbol.dispose]();
    await before[Symbol.asyncDispose]();
    await database.pool.query("DROP SCHEMA read CASCADE");
    after = stack.use(await startTestServer({ databaseUrl: database.url, env }));
    api = apiOf(after.url, api.key);
  }, 300_000);

  describe.each(NAMES)("%s", (name) => {
    const left = name in ADDITIONS ? [...GENUINE, "fourth"] : ["first", "third", "fourth"];
    const forgedAt = name in ADDITIONS ? 4 : TARGET;
    const sceneOf = () => scenes.get(name) ?? expect.fail();

    test("lists have what is genuine, and a message that was forged is not found", async () => {
      const { room, rows } = sceneOf();
      const list = await worked(api.get(`/rooms/${room}/messages?order=asc`));
      expect(list.data.map(({ content }: Body) => content)).toEqual(left);
      const ids = rows.slice(1).map((row) => json(row.data).id);
      const answers = await Promise.all(ids.map((id) => api.get(`/rooms/${room}/messages/${id}`)));
      expect(answers.map(({ status, body }) => (status === 200 ? body.content : status))).toEqual(
        GENUINE.map((content) => (left.includes(content) ? content : 404)),
      );
    });

    test("the audit shows the event as forged, with none of its words", async () => {
      const { data } = await worked(api.get(`/audit/streams/room-${sceneOf().room}/events`));
      const forged = data.filter(({ type }: Body) => type === "EventForged");
      expect(forged).toMatchObject([{ revision: forgedAt, data: { forged: true, type: expect.any(String) } }]);
      expect(JSON.stringify(data.map(({ data: { type: _claimed, ...rest } }: Body) => rest))).not.toContain(
        FORGED_WORDS,
      );
    });

    test("a socket that catches up gets the genuine events, and the room goes on", async () => {
      const { room } = sceneOf();
      using socket = await SocketClient.connect(after.url, await tokenOf(api, "alice"));
      await socket.ask({ type: "subscribe", room_id: room, after_seq: 0 });
      await socket.next("event", { seq: name in ADDITIONS ? 6 : 5 });
      await worked(api.post(`/rooms/${room}/messages`, { sender_id: "bob", content: "fifth" }));
      await socket.next("event", { seq: name in ADDITIONS ? 7 : 6 });
      expect(socket.seqs()).not.toContain(forgedAt + 1);
      expect(JSON.stringify(socket.frames)).not.toContain(FORGED_WORDS);
      const members = await worked(api.get(`/rooms/${room}/members`));
      expect(members.data.map(({ user_id }: Body) => user_id).toSorted()).toEqual(["alice", "bob"]);
    });
  });

  test("keys and clients that a writer inserted are none", async () => {
    expect((await api.as(stolen).get("/clients/me")).status).toBe(401);
    expect((await api.get("/clients/me")).status).toBe(200);
  });

  test("the other room is as it was", async () => {
    const { other } = scenes.values().next().value ?? expect.fail();
    const list = await worked(api.get(`/rooms/${other}/messages?order=asc`));
    expect(list.data.map(({ content }: Body) => content)).toEqual(GENUINE);
  });
});

test("read models are built from a log in which one event of each type is forged, whichever it is", async () => {
  await using own = await databaseWithTables();
  const settings = { ...EVERYTHING_ENV, ...env };
  {
    await using server = await startTestServer({ databaseUrl: own.url, env: settings });
    await everything(server.url, 60);
  }
  const { rows } = await own.pool.query<{ position: string; type: string; metadata: Buffer }>(
    "SELECT position, type, metadata FROM log.events WHERE position > 1 ORDER BY position",
  );
  const types = Map.groupBy(rows, ({ type }) => type);
  for (const pick of [0, 1, -1]) {
    for (const all of types.values()) {
      const { position, metadata } = all.at(pick % all.length) ?? expect.fail();
      const flipped = Buffer.from(metadata);
      flipped[flipped.length - 4] = (flipped.at(-4) ?? 0) ^ 1;
      await own.pool.query("UPDATE log.events SET metadata = $2 WHERE position = $1", [position, flipped]);
    }
    await own.pool.query("DROP SCHEMA read CASCADE; DROP SCHEMA IF EXISTS jobs CASCADE");
    await using server = await startTestServer({ databaseUrl: own.url, env: settings });
    const ready = await until(
      async () => (await fetch(`${server.url}/readyz`)).status,
      (status) => status === 200,
    );
    expect(ready).toBe(200);
  }
}, 300_000);
