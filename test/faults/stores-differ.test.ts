// Stores that do not belong together, on real servers: put back, emptied or replaced under a running node, and at a start.
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { type Api, type Body, newClient, until } from "../e2e/support/api.ts";
import { missingOwnEventStore, type OwnEventStore, ownEventStore } from "../support/eventstored.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { encryptionKey, startTestServer, type TestServer } from "../support/server.ts";
import { isLong } from "../support/size.ts";

if (missingOwnEventStore !== undefined) console.info(missingOwnEventStore);

/** Within which a node must say that it is not ready. */
const NOTICED_MS = 5_000;
const prefix = `${randomUUID()}-`;
const env = { ENCRYPTION_KEYS: encryptionKey() };
/** The log on EventStoreDB. */
const on = (url: string, of = prefix) => ({ config: { eventStore: { url, prefix: of } } });

const ready = async (url: string) => (await fetch(`${url}/readyz`)).status;
const contents = async (api: Api, room: string): Promise<readonly string[]> =>
  (await api.get(`/rooms/${room}/messages?order=asc&limit=100`)).body.data.map(({ content }: Body) => content);

// Minutes of servers that end and start: with `npm run test:faults` alone.
describe.skipIf(missingOwnEventStore !== undefined || !isLong)("the log on EventStoreDB", { timeout: 120_000 }, () => {
  const stack = new AsyncDisposableStack();
  let eventStore: OwnEventStore;
  let database: TestDatabase;
  let server: TestServer;
  let api: Api;
  let room: string;
  const posted: string[] = [];
  const start = () => startTestServer({ databaseUrl: database.url, env, ...on(eventStore.url) });
  const folder = (name: string) => join(eventStore.folder, name);
  const copy = (from: string, to: string) => {
    rmSync(folder(to), { recursive: true, force: true });
    execFileSync("cp", ["-a", "--sparse=always", folder(from), folder(to)]);
  };
  /** Stops EventStoreDB, changes its files, and starts it again. */
  const restartWith = async (change: () => void) => {
    await eventStore.kill();
    change();
    await eventStore.restart();
  };
  const post = async (content: string) => {
    const { status } = await api.post(`/rooms/${room}/messages`, { sender_id: "ann", content });
    if (status === 201) posted.push(content);
    return status;
  };
  const errors = () => server.logged.filter(({ level }) => level === 50).map(({ msg }) => String(msg));

  /** Waits for a line at error after the first `before`. */
  const said = async (before: number, line: RegExp) =>
    expect(
      await until(
        async () => errors().slice(before).join("\n"),
        (lines) => line.test(lines),
      ),
    ).toMatch(line);

  beforeAll(async () => {
    eventStore = stack.use(await ownEventStore());
    database = stack.use(await testDatabase());
    server = await start();
    stack.defer(() => server[Symbol.asyncDispose]());
    api = await newClient(server.url);
    room = (await api.post("/rooms", { name: "Room", members: [{ user_id: "ann" }] })).body.id;
    for (let n = 0; n < 5; n += 1) expect(await post(`old ${n}`)).toBe(201);
    await restartWith(() => copy("db", "older"));
    await until(
      () => post("new 0"),
      (status) => status === 201,
      20_000,
    );
    for (let n = 1; n < 5; n += 1) {
      await until(
        () => post(`new ${n}`),
        (status) => status === 201,
      );
    }
    await until(
      () => contents(api, room),
      (list) => list.length === 10,
    );
    await restartWith(() => copy("db", "right"));
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  const emptied = () => rmSync(folder("db"), { recursive: true, force: true });
  test.each<[string, () => void, RegExp]>([
    ["put back from an older copy", () => copy("older", "db"), /lacks events that this node has seen/],
    ["emptied", emptied, /the log is empty, and was not/],
  ])(
    "%s under a running node: unready, nothing appended or acknowledged, and all as before once it is right",
    async (_name, change, line) => {
      const before = errors().length;
      await restartWith(change);
      const from = performance.now();
      const statuses: number[] = [];
      await until(
        async () => {
          statuses.push(await post(`lost ${statuses.length}`));
          return ready(server.url);
        },
        (status) => status === 503,
        NOTICED_MS,
      );
      expect(await ready(server.url)).toBe(503);
      console.info(`unready ${Math.round(performance.now() - from)} ms after the server was back; posts ${statuses}`);
      for (let n = 0; n < 3; n += 1) statuses.push(await post(`refused ${n}`));
      expect(new Set(statuses)).toEqual(new Set([503]));
      expect(errors().slice(before)).toEqual([expect.stringMatching(line)]);
      await expect(start()).rejects.toMatchObject({
        name: expect.stringMatching(/^(StoresDiffer|ForeignCheckpoint)$/),
      });

      await restartWith(() => copy("right", "db"));
      expect(
        await until(
          () => ready(server.url),
          (status) => status === 200,
          20_000,
        ),
      ).toBe(200);
      expect(await post(`again ${before}`)).toBe(201);
      await until(
        () => contents(api, room),
        (list) => list.length === posted.length,
      );
      expect(await contents(api, room)).toEqual(posted);
      await restartWith(() => copy("db", "right"));
      await until(
        () => ready(server.url),
        (status) => status === 200,
        20_000,
      );
    },
  );

  test("replaced by another log under a running node: the same", async () => {
    const before = errors().length;
    await restartWith(emptied);
    {
      const open = () => openEventStoreDb({ url: eventStore.url, prefix }).catch(() => undefined);
      await using other = (await until(open, (log) => log !== undefined)) ?? expect.fail();
      expect(other.logId).not.toBe(server.storage.store.logId);
      expect(
        await until(
          () => ready(server.url),
          (status) => status === 503,
          NOTICED_MS,
        ),
      ).toBe(503);
      expect(await post("into another log")).toBe(503);
      expect((await other.readAll({ after: "start", limit: 10 })).length).toBe(1);
    }
    await said(before, /the log is another one than this node opened/);
    await expect(start()).rejects.toMatchObject({ name: "StoresDiffer" });
    await restartWith(() => copy("right", "db"));
    expect(
      await until(
        () => ready(server.url),
        (status) => status === 200,
        20_000,
      ),
    ).toBe(200);
    expect(await post("after the other log")).toBe(201);
    await until(
      () => contents(api, room),
      (list) => list.length === posted.length,
    );
    expect(await contents(api, room)).toEqual(posted);
  });

  test("an empty or a foreign database under a running node, and at a start: unready, then right again", async () => {
    const url = new URL(database.url);
    const name = url.pathname.slice(1);
    url.pathname = "/postgres";
    const admin = new pg.Client({ connectionString: url.href });
    await admin.connect();
    const quoted = (text: string) => pg.escapeIdentifier(text);
    /** Renames databases, whoever works on them. */
    const rename = async (from: string, to: string) => {
      for (;;) {
        await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY($1)", [
          [from, to],
        ]);
        try {
          await admin.query(`ALTER DATABASE ${quoted(from)} RENAME TO ${quoted(to)}`);
          return;
        } catch {
          await sleep(20);
        }
      }
    };
    const before = errors().length;
    await rename(name, `${name}_right`);
    await admin.query(`CREATE DATABASE ${quoted(name)}`);
    expect(
      await until(
        () => ready(server.url),
        (status) => status === 503,
        NOTICED_MS,
      ),
    ).toBe(503);
    await said(before, /the database lacks the data keys of this log: check DATABASE_URL/);
    expect(await post("without keys")).toBe(503);
    await expect(start()).rejects.toMatchObject({
      name: "StoresDiffer",
    });
    await rename(name, `${name}_empty`);
    await rename(`${name}_right`, name);
    await admin.end();
    expect(
      await until(
        () => ready(server.url),
        (status) => status === 200,
        20_000,
      ),
    ).toBe(200);
    expect(
      await until(
        () => post("with keys"),
        (status) => status === 201,
      ),
    ).toBe(201);
    await until(
      () => contents(api, room),
      (list) => list.length === posted.length,
    );
    expect(await contents(api, room)).toEqual(posted);
  });

  test("EVENTSTORE_URL added to a set-up whose log is in PostgreSQL is refused with what to do", async () => {
    await using own = await testDatabase();
    const settings = { ...env, ENCRYPTION_KEYS: encryptionKey() };
    {
      await using old = await startTestServer({ databaseUrl: own.url, env: settings });
      await newClient(old.url);
    }
    const added = { databaseUrl: own.url, env: settings, ...on(eventStore.url, `${randomUUID()}-`) };
    await expect(startTestServer(added)).rejects.toThrow(/the log is empty.*chatapi events export/);
    await using again = await startTestServer({ databaseUrl: own.url, env: settings });
    expect(
      await until(
        () => ready(again.url),
        (status) => status === 200,
      ),
    ).toBe(200);
  });
});
