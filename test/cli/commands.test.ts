// The command line as operators and scripts use it: what it prints, and the exit codes, beside a running server.
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodeProtectedHeader } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { storedProjections } from "../../src/projections/models/all.ts";
import { type Api, type Body, newClient, until } from "../e2e/support/api.ts";
import { databaseWithTables } from "../support/database-with-tables.ts";
import { poolOf, superuserUrl, type TestDatabase, testDatabase } from "../support/postgres.ts";
import { ADMIN_KEY, encryptionKey, startTestServer, type TestServer } from "../support/server.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const KEY = encryptionKey();
const stack = new AsyncDisposableStack();
let database: TestDatabase;
let server: TestServer;
let api: Api;
let room: Body;
let folder: string;

type Env = Readonly<Record<string, string>>;

function start(args: readonly string[], env: Env = {}): { child: ChildProcess; out: () => string; err: () => string } {
  const child = spawn(process.execPath, ["src/cli/chatapi.ts", ...args], {
    cwd: ROOT,
    env: {
      ...{ PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE },
      ...{ INIT_CWD: folder, LOG_LEVEL: "warn" },
      ...{ DATABASE_URL: database.url, ADMIN_KEY, ENCRYPTION_KEYS: KEY, ...env },
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (bytes) => (out += String(bytes)));
  child.stderr.on("data", (bytes) => (err += String(bytes)));
  return { child, out: () => out, err: () => err };
}

/** Runs a command to its end. */
async function chatapi(args: readonly string[], env?: Env) {
  const { child, out, err } = start(args, env);
  const [code] = await once(child, "close");
  return { code, out: out(), err: err() };
}

const linesOf = (text: string): readonly string[] => text.trimEnd().split("\n");

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "chatapi-cli-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  database = stack.use(await databaseWithTables());
  server = stack.use(await startTestServer({ databaseUrl: database.url, env: { ENCRYPTION_KEYS: KEY } }));
  api = await newClient(server.url);
  const members = [{ user_id: "alice", name: "Alice" }, { user_id: "bob" }];
  room = (await api.post("/rooms", { name: "General", members })).body;
  for (let n = 0; n < 5; n += 1) {
    await api.post(`/rooms/${room.id}/messages`, { sender_id: "alice", content: `secret words ${n}` });
  }
  await server.services.readSide.caughtUp();
});
afterAll(() => stack.disposeAsync());

describe("projections", () => {
  test("list: each with its rows, and how far they are", async () => {
    const { code, out } = await chatapi(["projections", "list", "--json"]);
    expect(code).toBe(0);
    const report = JSON.parse(out);
    expect(report.checkpoint).toBe(report.tail);
    expect(report.projections.map((one: Body) => one.name)).toEqual(storedProjections.map((one) => one.name));
    const rows = Object.fromEntries(report.projections.map((one: Body) => [one.name, one.rows]));
    expect(rows).toMatchObject({ api_keys: 1, rooms: 1, members: 2, messages: 5 });
    const text = await chatapi(["projections", "list"]);
    expect(text.out).toMatch(/^messages +v5 +5 rows +\d+\.\d MiB$/m);
    expect(linesOf(text.out)).toHaveLength(storedProjections.length + 1);
  });

  test("rebuild: one, beside the running server, which goes on with it", async () => {
    const { code, out, err } = await chatapi(["projections", "rebuild", "messages"]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^rebuilt messages_v5 from \d+ events, up to \w+\.[0-9a-f]{16}\n$/);
    const { status, body } = await api.post(`/rooms/${room.id}/messages`, { sender_id: "bob", content: "after" });
    expect(status).toBe(201);
    expect((await api.get(`/rooms/${room.id}/messages?limit=1`)).body.data[0].id).toBe(body.id);
  });

  test("rebuild --verify: nothing differs; and when something does, what, and exit code 2", async () => {
    const same = await chatapi(["projections", "rebuild", "--all", "--verify", "--json"]);
    expect(same.code).toBe(0);
    expect(JSON.parse(same.out).compared).toHaveLength(storedProjections.length);
    await database.pool.query("update read.rooms_v8 set name = 'Tampered'");
    const { code, out } = await chatapi(["projections", "rebuild", "rooms", "--verify"]);
    expect(code).toBe(2);
    expect(out).toMatch(/^rooms_v8: 1 rows compared, 1 differ$/m);
    expect(out).toContain(`rooms_v8 {"room_id":"${room.id}"}: different name`);
    expect((await api.get(`/rooms/${room.id}`)).body.name).toBe("General");
  });

  test.each([
    [["projections", "rebuild", "nonsense"], 3, /no projection nonsense; there are .*messages/],
    [["projections", "rebuild"], 64, /name one projection, or say --all/],
    [["projections", "rebuild", "rooms", "--all"], 64, /name one projection, or say --all/],
    [["projections", "rebuild", "rooms", "--wrong"], 64, /unknown option '--wrong'/],
  ])("%j ends with %d", async (args, expected, message) => {
    const { code, out, err } = await chatapi(args);
    expect(code).toBe(expected);
    expect(err).toMatch(message);
    expect(out).toBe("");
  });
});

describe("events", () => {
  test("show: a stream's events, oldest first; what is sealed stays so", async () => {
    const { code, out } = await chatapi(["events", "show", `room-${room.id}`, "--json"]);
    expect(code).toBe(0);
    const events = linesOf(out).map((line) => JSON.parse(line));
    expect(events.map((event) => event.revision)).toEqual(events.map((_, n) => n));
    expect(events[0]).toMatchObject({ type: "RoomCreated", stream: `room-${room.id}`, client: (api as Body).id });
    expect(events[1]).toMatchObject({ type: "MessagePosted", revision: 1, actor: { type: "key" } });
    expect(events.find((event) => event.type === "MessagePosted").data.content).toEqual({ sealed: true });
    const text = await chatapi(["events", "show", `room-${room.id}`]);
    expect(linesOf(text.out)).toHaveLength(events.length);
    expect(linesOf(text.out)[0]).toContain(`room-${room.id}@0  RoomCreated`);
    expect(out + text.out).not.toMatch(/secret words|Alice|\$sealed/);
  });

  test("show: a stream that is not there", async () => {
    expect(await chatapi(["events", "show", "room-none"])).toEqual({
      ...{ code: 3, out: "" },
      err: "there is no stream room-none\n",
    });
  });

  test("tail: from the start, then as they come, until it is interrupted", async () => {
    const { child, out, err } = start(["events", "tail", "--after", "start", "--json"]);
    const seen = () =>
      out() === "" ? [] : linesOf(out().slice(0, out().lastIndexOf("\n"))).map((line) => JSON.parse(line));
    await until(
      async () => seen(),
      (events) => events.some((event) => event.type === "RoomCreated"),
      20_000,
    );
    expect(seen()[0]).toMatchObject({ type: "LogCreated", stream: "log", revision: 0 });
    const { body } = await api.post(`/rooms/${room.id}/messages`, { sender_id: "bob", content: "live" });
    const isNew = (event: Body) => event.stream === `room-${room.id}` && event.revision === body.seq - 1;
    await until(
      async () => seen(),
      (events) => events.some(isNew),
    );
    const positions = seen().map((event) => event.position);
    expect(positions).toEqual([...positions].sort());
    child.kill("SIGINT");
    const [code] = await once(child, "close");
    expect({ code, err: err() }).toEqual({ code: 0, err: "" });
  });

  test("tail: not from what is no position", async () => {
    expect(await chatapi(["events", "tail", "--after", "yesterday"])).toMatchObject({
      code: 64,
      err: "--after: yesterday is no position\n",
    });
  });

  test("a reader that has had enough ends it quietly", async () => {
    const { child, err } = start(["events", "export", "-"]);
    child.stdout?.once("data", () => child.stdout?.destroy());
    const [code] = await once(child, "close");
    expect({ code, err: err() }).toEqual({ code: 0, err: "" });
  });

  test("export and import: files are meant from where the caller stands", async () => {
    const exported = await chatapi(["events", "export", "log.ndjson", "--json"]);
    expect(exported.code).toBe(0);
    const moved = JSON.parse(exported.out);
    const written = await readFile(join(folder, "log.ndjson"), "utf8");
    expect(linesOf(written)).toHaveLength(moved.events + moved.keys + 2);
    const again = await chatapi(["events", "export", "log.ndjson"]);
    expect(again).toMatchObject({ code: 1, err: expect.stringMatching(/^\/.* exists already; name a new file\n$/) });
    const printed = await chatapi(["events", "export", "-"]);
    expect(linesOf(printed.out).length).toBeGreaterThanOrEqual(linesOf(written).length);
    expect(JSON.parse(linesOf(printed.out).at(-1) ?? "")).toMatchObject({ kind: "end" });

    await using other = await testDatabase();
    const imported = await chatapi(["events", "import", "log.ndjson"], { DATABASE_URL: other.url });
    expect(imported).toEqual({ code: 0, err: "", out: `imported ${moved.events} events and ${moved.keys} keys\n` });
  });

  test("an import that cannot be done says why in one line", async () => {
    await chatapi(["events", "export", "whole.ndjson"]);
    const whole = await readFile(join(folder, "whole.ndjson"), "utf8");
    await writeFile(join(folder, "cut.ndjson"), whole.slice(0, whole.length / 2));
    await using other = await testDatabase();
    const env = { DATABASE_URL: other.url };
    const refused = async (file: string, more: Env = {}) => {
      const { code, out, err } = await chatapi(["events", "import", file], { ...env, ...more });
      expect({ code, out, lines: linesOf(err).length }).toEqual({ code: 1, out: "", lines: 1 });
      return err;
    };
    expect(await refused("none.ndjson")).toContain("is not there");
    expect(await refused("cut.ndjson")).toMatch(/cut short/);
    expect(await refused("whole.ndjson", { DATABASE_URL: database.url })).toMatch(/this very log/);
    await using third = await testDatabase();
    const keys = { DATABASE_URL: third.url, ENCRYPTION_KEYS: encryptionKey() };
    expect(await refused("whole.ndjson", keys)).toMatch(/lacks the key/);
  }, 120_000);
});

describe("a wrong set-up", () => {
  test.each<[string, Env, number, RegExp]>([
    ["a variable that is wrong", { PORT: "none" }, 78, /^PORT: must be a whole number from 0 to 65535$/m],
    ["another ring than the database's", { ENCRYPTION_KEYS: encryptionKey() }, 78, /^ENCRYPTION_KEYS: /],
    [
      "a database that is not there",
      { DATABASE_URL: "postgres://a:b@127.0.0.1:1/c" },
      1,
      /^DATABASE_URL: the server cannot be reached \(the connection was refused\)$/m,
    ],
    ["a number that is none", { RETRY_JITTER: "much" }, 78, /^RETRY_JITTER: must be a number from 0 to 1$/m],
    ["a password that is wrong", { DATABASE_URL: "wrong" }, 1, /password authentication failed/],
  ])("%s is one line", async (_name, given, expected, message) => {
    const wrong = new URL(database.url);
    wrong.password = "wrong";
    const env = given.DATABASE_URL === "wrong" ? { DATABASE_URL: wrong.href } : given;
    const { code, out, err } = await chatapi(["projections", "list"], env);
    expect({ code, out, lines: linesOf(err).length }).toEqual({ code: expected, out: "", lines: 1 });
    expect(err).toMatch(message);
  });

  test("a database user that cannot be confined to a client is told what to do, and nothing is made", async () => {
    await using other = await testDatabase();
    await using superuser = poolOf(superuserUrl(other));
    const stranger = new URL(other.url);
    stranger.username = `stranger_${randomBytes(8).toString("hex")}`;
    stranger.password = "secret";
    await superuser.query(`create role ${stranger.username} login password 'secret'`);
    await superuser.query(`grant create on database ${other.url.split("/").at(-1)} to ${stranger.username}`);
    const { code, out, err } = await chatapi(["projections", "list"], { DATABASE_URL: stranger.href });
    expect({ code, out, lines: linesOf(err).length }).toEqual({ code: 78, out: "", lines: 1 });
    expect(err).toMatch(/^DATABASE_URL: its user must own the database/);
    const made = "select from pg_namespace where nspname in ('keys', 'log', 'read', 'jobs')";
    expect((await superuser.query(made)).rowCount).toBe(0);
    await superuser.query(`drop owned by ${stranger.username}; drop role ${stranger.username}`);
  });

  test("wrong usage is 64, help is not", async () => {
    const unknown = await chatapi(["nonsense"]);
    expect(unknown).toMatchObject({
      code: 64,
      err: expect.stringMatching(/^unknown command 'nonsense'; there are serve, .*\n$/),
    });
    expect((await chatapi(["events"])).code).toBe(64);
    const { code, out } = await chatapi(["--help"]);
    expect(code).toBe(0);
    for (const word of ["serve", "projections", "events"]) expect(out).toContain(word);
  });
});

describe("a command without a server", () => {
  test("makes no database in a folder that has none", async () => {
    const dataDir = join(folder, "mistyped");
    const { code, out, err } = await chatapi(["projections", "list"], { DATABASE_URL: "", DATA_DIR: dataDir });
    expect([code, out, err]).toEqual([78, "", `DATA_DIR: there is no database in ${dataDir}\n`]);
    expect(existsSync(dataDir)).toBe(false);
  });
});

test("keys rotate-token-secret has running nodes sign with a new secret; --at-once ends what the older ones signed", async () => {
  const mint = async (): Promise<string> => (await api.post("/users/alice/tokens", {})).body.token;
  const signedBy = (id: string) => until(mint, (token) => decodeProtectedHeader(token).kid === id);
  const statusOf = async (token: string) => (await api.as(token).get("/users/alice")).status;
  const old = await mint();
  const rotated = await chatapi(["keys", "rotate-token-secret", "--json"]);
  expect([rotated.code, rotated.err]).toEqual([0, ""]);
  const { id, dropped } = JSON.parse(rotated.out);
  expect(dropped).toBe(0);
  const young = await signedBy(id);
  expect([await statusOf(old), await statusOf(young)]).toEqual([200, 200]);
  const { code, out } = await chatapi(["keys", "rotate-token-secret", "--at-once"]);
  const [, newest = ""] =
    /^user tokens are signed with the secret ([\w-]{16}); dropped 2 older ones\n$/.exec(out) ?? [];
  expect([code, out]).toEqual([0, expect.stringContaining(newest)]);
  expect(await statusOf(await signedBy(newest))).toBe(200);
  expect([await statusOf(old), await statusOf(young)]).toEqual([401, 401]);
});

test("keys rewrap wraps every data key with the first key of the ring, so that the other can go", async () => {
  const ENCRYPTION_KEYS = `${encryptionKey()},${KEY}`;
  const rewrapped = await chatapi(["keys", "rewrap", "--json"], { ENCRYPTION_KEYS });
  expect([rewrapped.code, rewrapped.err]).toEqual([0, ""]);
  expect(JSON.parse(rewrapped.out).rewrapped).toBeGreaterThan(3);
  const again = await chatapi(["keys", "rewrap"], { ENCRYPTION_KEYS });
  expect([again.code, again.out]).toEqual([0, "rewrapped 0 data keys\n"]);
  const [alone = ""] = ENCRYPTION_KEYS.split(",");
  expect((await chatapi(["events", "show", `room-${room.id}`], { ENCRYPTION_KEYS: alone })).code).toBe(0);
});
