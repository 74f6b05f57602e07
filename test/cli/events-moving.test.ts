// A whole log moves: out as NDJSON, into another log, and everything there is as it was.
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exportToFile } from "../../src/cli/events-export.ts";
import { ImportError, importEvents } from "../../src/cli/events-import.ts";
import { catalogue } from "../../src/domain/catalogue.ts";
import { type EventStore, OutcomeUnknown, WrongExpectedRevision } from "../../src/event-store/event-store.ts";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { KeyConflict, type WrappedKey } from "../../src/event-store/key-transfer.ts";
import { WrongEncryptionKeys } from "../../src/event-store/wrapped-keys.ts";
import { type Api, apiOf } from "../e2e/support/api.ts";
import { databaseWithTables } from "../support/database-with-tables.ts";
import { missingEventStore, testEventStore } from "../support/eventstored.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { encryptionKey, startTestServer } from "../support/server.ts";
import { sized } from "../support/size.ts";
import { EVERYTHING_ENV, everything } from "./everything.ts";
import { content, eventsOf, openStores, rowsOf, type Stores } from "./moving.ts";

const stack = new AsyncDisposableStack();
const key = encryptionKey();
const quiet = () => undefined;
/** How many messages the log has that is moved; `EVENTS_MOVED=100000` shows it at size. */
const MESSAGES = Number(process.env.EVENTS_MOVED ?? sized(400, 1_000));
const TIMEOUT_MS = 400_000 + MESSAGES * 10;
let folder: string;
let file: string;
let lines: readonly string[];
let source: Stores;
/** The source's, rebuilt once. */
let rows: Awaited<ReturnType<typeof rowsOf>> | undefined;
let room: string;
let credentials: readonly (string | undefined)[];
let answers: unknown;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "chatapi-moving-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const database = stack.use(await databaseWithTables());
  {
    const env = { ...EVERYTHING_ENV, ENCRYPTION_KEYS: key };
    await using server = await startTestServer({ databaseUrl: database.url, env });
    const made = await everything(server.url, MESSAGES);
    room = made.room;
    credentials = [made.api.key, made.bob.key];
    answers = await ask(made.api);
  }
  source = stack.use(await openStores(database.url, key));
  file = join(folder, "log.ndjson");
  await exportToFile(source, file, new Date(), quiet);
  lines = (await readFile(file, "utf8")).trimEnd().split("\n");
}, TIMEOUT_MS);
afterAll(() => stack.disposeAsync());

/** What the client reads of its room: ids, seqs, contents, markers. */
const ask = async (api: Api): Promise<unknown> => {
  const paths = ["", "/members", "/reads", "/messages?limit=100&include_deleted=true"];
  return Promise.all(paths.map(async (path) => (await api.get(`/rooms/ext:order-1${path}`)).body.data ?? path));
};

const keysOf = async (stores: Stores): Promise<readonly WrappedKey[]> => {
  const keys: WrappedKey[] = [];
  for await (const one of stores.keyring.exportWrapped()) keys.push(one);
  return keys;
};

/** A new database, and stores on it. */
async function target(log?: EventStore, ring = key): Promise<Stores & { readonly database: TestDatabase }> {
  await using open = new AsyncDisposableStack();
  if (log !== undefined) open.use(log);
  const database = open.use(await testDatabase());
  const stores = open.use(await openStores(database.url, ring, log));
  const moved = open.move();
  return { ...stores, database, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

async function edited(change: (lines: string[]) => readonly string[]): Promise<string> {
  const path = join(folder, `${randomUUID()}.ndjson`);
  await writeFile(path, change([...lines]).join("\n"));
  return path;
}

/** Every stream event for event but for `origin`, every row but for positions. */
async function expectSame(to: Stores): Promise<void> {
  const [before, after] = [await eventsOf(source.store), await eventsOf(to.store)];
  expect(after.map(content).map(({ origin: _, ...one }) => one)).toEqual(
    before.map(content).map(({ origin: _, ...one }) => one),
  );
  expect(after.map((event) => content(event).origin)).toEqual(
    before.map(({ position }) => ({ log: source.store.logId, position })),
  );
  const [was, is] = [rows ?? (await rowsOf(source)), await rowsOf(to)];
  rows = was;
  expect([...is.keys()]).toEqual([...was.keys()]);
  for (const [table, found] of is) {
    expect(found, table).toEqual(was.get(table));
    expect(found.length, table).toBeGreaterThan(0);
  }
}

test("an export holds every kind of event, its keys wrapped, and nothing that was sealed", async () => {
  const parsed = lines.map((line) => JSON.parse(line));
  const types = new Set(parsed.filter(({ kind }) => kind === "event").map(({ type }) => type));
  const absent = new Set([
    ...["LogCreated", "EventForged"],
    // These take mail servers that keep their answer for seconds, or fail.
    ...["DeliveryLeaseExtended", "ProviderDown", "ProviderUp", "ProviderFailedOver"],
    // Only who dies between taking a deduplication key and the request leaves this to others.
    "NotificationAbandoned",
  ]);
  expect(new Set(Object.keys(catalogue).filter((type) => !types.has(type)))).toEqual(absent);
  expect(parsed.at(0)).toMatchObject({ kind: "header", log: source.store.logId });
  expect(parsed.at(-1)).toMatchObject({ kind: "end", events: (await eventsOf(source.store)).length });
  expect(parsed.filter(({ kind }) => kind === "key").length).toBe(parsed.at(-1).keys);
  const text = lines.join("\n");
  for (const secret of ["message 7", "Carol", "alice@example.com", "smtp-secret", "Hi again"])
    expect(text).not.toContain(secret);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

test("a file that exists is left as it is", async () => {
  const path = await edited(() => ["mine"]);
  await expect(exportToFile(source, path, new Date(), quiet)).rejects.toThrow(/EEXIST/);
  expect(await readFile(path, "utf8")).toBe("mine");
});

describe("into PostgreSQL", () => {
  test("everything is there, in the same order, and a server on it answers as before", async () => {
    await using to = await target();
    const moved = await importEvents(to, file, quiet);
    expect(moved).toEqual({ events: lines.length - moved.keys - 2, keys: moved.keys });
    await expectSame(to);
    const env = { ENCRYPTION_KEYS: key };
    await using server = await startTestServer({ databaseUrl: to.database.url, env });
    // Keys and tokens that were given out before open the new server too.
    for (const key of credentials) expect(await ask(apiOf(server.url, key))).toEqual(answers);
    const api = apiOf(server.url, credentials[0]);
    // What was sent before moving, sent again afterwards: the same message, none more.
    const again = { sender_id: "bob", content: "message 19" };
    const { status, body } = await api.post(`/rooms/${room}/messages`, again, { "idempotency-key": "message-19" });
    expect(status).toBe(201);
    const events = await eventsOf(source.store);
    expect(events.find(({ stream, revision }) => stream === `room-${room}` && revision === body.seq - 1)).toBeDefined();
    expect(await ask(api)).toEqual(answers);
  });

  test("an import that was cut short can be run again, and one that was not changes nothing", async () => {
    await using to = await target();
    let left = lines.length >> 1;
    const breaking: EventStore = {
      ...to.store,
      append: async (...append) => {
        left -= append[2].length;
        if (left <= 0) throw new Error("killed");
        return to.store.append(...append);
      },
    };
    await expect(importEvents({ ...to, store: breaking }, file, quiet)).rejects.toThrow("killed");
    const written = (await eventsOf(to.store)).length;
    expect(written).toBeGreaterThan(0);
    expect(written).toBeLessThan(lines.length - 2);
    await importEvents(to, file, quiet);
    const tail = await to.store.tail();
    await importEvents(to, file, quiet);
    expect(await to.store.tail()).toBe(tail);
    await expectSame(to);
  });

  test("an answer that was lost is asked for again", async () => {
    await using to = await target();
    let lost = 0;
    const losing: EventStore = {
      ...to.store,
      append: async (...append) => {
        const appended = await to.store.append(...append);
        lost += 1;
        if (lost === 1) throw new OutcomeUnknown("no answer");
        return appended;
      },
    };
    await importEvents({ ...to, store: losing }, file, quiet);
    expect(lost).toBeGreaterThan(0);
    await expectSame(to);
  });

  test("it moves on from there, and the first origin stays", async () => {
    await using second = await target();
    await importEvents(second, file, quiet);
    const onward = join(folder, "onward.ndjson");
    await exportToFile(second, onward, new Date(), quiet);
    await using third = await target();
    await importEvents(third, onward, quiet);
    const origins = (await eventsOf(third.store)).map((event) => content(event).origin);
    expect(origins).toEqual((await eventsOf(second.store)).map((event) => content(event).origin));
    expect(new Set(origins.map((origin) => origin.log))).toEqual(new Set([source.store.logId]));
  });
});

if (missingEventStore !== undefined) console.info(missingEventStore);

describe.skipIf(missingEventStore !== undefined)("into EventStoreDB", () => {
  test(
    "everything is there, in the same order; and from there back into PostgreSQL",
    async () => {
      await using server = await testEventStore();
      const log = await openEventStoreDb({ url: server.url, prefix: `${randomUUID()}-` });
      await using to = await target(log);
      await importEvents(to, file, quiet);
      const tail = await to.store.tail();
      await importEvents(to, file, quiet);
      expect(await to.store.tail()).toBe(tail);
      await expectSame(to);
      const back = join(folder, "back.ndjson");
      await exportToFile(to, back, new Date(), quiet);
      await using home = await target();
      await importEvents(home, back, quiet);
      expect((await eventsOf(home.store)).map(content)).toEqual((await eventsOf(to.store)).map(content));
      expect(await rowsOf(home)).toEqual(rows);
    },
    TIMEOUT_MS,
  );
});

describe("is refused, and nothing is written:", () => {
  const refused: [string, (all: string[]) => readonly string[], RegExp][] = [
    ["a file whose end is missing", (all) => all.slice(0, -1), /cut short/],
    ["a file cut within a line", (all) => [...all.slice(0, 50), all[50]?.slice(0, 40) ?? ""], /line 51 .*cut short/],
    ["a file without its beginning", (all) => all.slice(1), /header/],
    ["a file with two beginnings", (all) => [all[0] ?? "", ...all], /header/],
    ["a file that lost an event", (all) => all.toSpliced(20, 1), /lost lines/],
    ["a file that lost a key", (all) => all.toSpliced(all.length - 2, 1), /lost lines/],
    ["events in another order", (all) => all.toSpliced(20, 2, all[21] ?? "", all[20] ?? ""), /order/],
    ["lines after the end", (all) => [...all, all[5] ?? ""], /after its end/],
    ["another version", (all) => all.with(0, (all[0] ?? "").replace('"version":1', '"version":2')), /line 1 .*version/],
    ["an empty file", () => [], /empty/],
  ];
  let to: Stores;
  beforeAll(async () => {
    to = stack.use(await target());
  });

  test.each(refused)("%s", async (_name, change, message) => {
    const attempt = importEvents(to, await edited(change), quiet);
    await expect(attempt).rejects.toThrow(ImportError);
    await expect(attempt).rejects.toThrow(message);
    expect(await eventsOf(to.store)).toEqual([]);
    expect(await keysOf(to)).toEqual([]);
  });

  test("the log's own export", async () => {
    await expect(importEvents(source, file, quiet)).rejects.toThrow("this very log");
  });

  test("a ring that lacks the wrapping key", async () => {
    await using other = await target(undefined, encryptionKey());
    await expect(importEvents(other, file, quiet)).rejects.toThrow(WrongEncryptionKeys);
    expect(await eventsOf(other.store)).toEqual([]);
    expect(await keysOf(other)).toEqual([]);
  });

  test("another key of the same person", async () => {
    await using other = await target();
    const owner = JSON.parse(lines.find((line) => line.includes('"owner":"sub_')) ?? "{}");
    await other.keyring.keysFor(owner.client, new Set([owner.owner]));
    await expect(importEvents(other, file, quiet)).rejects.toThrow(KeyConflict);
    expect(await eventsOf(other.store)).toEqual([]);
  });

  test("a stream that has another event here", async () => {
    await using other = await target();
    const stream = `room-${room}`;
    const event = { id: randomUUID(), type: "RoomCreated", data: randomBytes(4), metadata: Buffer.from("{}") };
    await other.store.append(stream, -1, [event]);
    await expect(importEvents(other, file, quiet)).rejects.toThrow(WrongExpectedRevision);
    expect(await other.store.readStream(stream, { limit: 10 })).toHaveLength(1);
  });
});
