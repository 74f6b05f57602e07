// What the library throws when a real PostgreSQL cannot be reached, and what it throws when it refuses.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { isDatabaseAway } from "../../src/platform/postgres.ts";
import { proxyTo, type TcpProxy } from "../faults/support/proxy.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database[Symbol.asyncDispose]());

const SLEEP = "select pg_sleep(10)";
const failure = (query: Promise<unknown>): Promise<unknown> =>
  query.then(
    () => "no failure",
    (error: unknown) => error,
  );

/** A pool through a proxy with one connection open, and a query that waits on it. */
async function during(fault: (proxy: TcpProxy) => void, options: pg.PoolConfig = {}): Promise<unknown> {
  await using proxy = await proxyTo(database.url);
  const pool = new pg.Pool({ connectionString: proxy.url, max: 1, connectionTimeoutMillis: 300, ...options });
  pool.on("error", () => undefined);
  await pool.query("select 1");
  const failed = failure(pool.query(SLEEP));
  await expect.poll(() => proxy.counters.bytes.up).toBeGreaterThan(0);
  fault(proxy);
  const error = await failed;
  proxy.heal();
  proxy.reset();
  await pool.end();
  return error;
}

test.each([
  ["cut", (proxy: TcpProxy) => proxy.cut()],
  ["reset", (proxy: TcpProxy) => proxy.reset()],
  ["half open", (proxy: TcpProxy) => proxy.halfOpen("client")],
] as const)("a connection %s under a query", async (_name, fault) => {
  const error = await during(fault);
  expect(error).toBeInstanceOf(Error);
  expect([error, isDatabaseAway(error)]).toEqual([error, true]);
});

test("an answer that does not come in time", async () => {
  const error = await during((proxy) => proxy.stall(), { query_timeout: 300 });
  expect([error, isDatabaseAway(error)]).toEqual([error, true]);
});

test.each([
  ["refused", (proxy: TcpProxy) => proxy.refuse()],
  ["stalled", (proxy: TcpProxy) => proxy.stall()],
] as const)("a new connection %s", async (_name, fault) => {
  await using proxy = await proxyTo(database.url);
  fault(proxy);
  const pool = new pg.Pool({ connectionString: proxy.url, connectionTimeoutMillis: 300 });
  const error = await failure(pool.query("select 1"));
  expect([error, isDatabaseAway(error)]).toEqual([error, true]);
  await pool.end();
});

test("nobody listens there any more", async () => {
  const { url, [Symbol.asyncDispose]: close } = await proxyTo(database.url);
  await close();
  const pool = new pg.Pool({ connectionString: url });
  const error = await failure(pool.query("select 1"));
  expect([error, isDatabaseAway(error)]).toEqual([error, true]);
  await pool.end();
});

test("a session that an operator ends", async () => {
  const client = new pg.Client({ connectionString: database.url });
  client.on("error", () => undefined);
  await client.connect();
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  const failed = failure(client.query(SLEEP));
  await database.pool.query("select pg_terminate_backend($1)", [rows[0]?.pid]);
  const error = await failed;
  expect([error, isDatabaseAway(error)]).toEqual([error, true]);
});

test.each(["select nothing", "select 1 / 0", "syntax error"])("a refusal: %s", async (query) => {
  const error = await failure(database.pool.query(query));
  expect(error).toBeInstanceOf(pg.DatabaseError);
  expect(isDatabaseAway(error)).toBe(false);
});
