// Turns at writing a stream, in one process and between processes.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StoreUnavailable } from "../../src/event-store/event-store.ts";
import {
  localTurns,
  MAX_TURN_CONNECTIONS,
  postgresStreamTurns,
  type StreamTurns,
} from "../../src/event-store/stream-turns.ts";
import { eventually, newStream } from "../contracts/subject.ts";
import { proxyTo } from "../faults/support/proxy.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

let database: TestDatabase;
let here: StreamTurns & AsyncDisposable;
let there: StreamTurns & AsyncDisposable;
beforeAll(async () => {
  database = await testDatabase();
  here = postgresStreamTurns(database.url);
  there = postgresStreamTurns(database.url);
});
afterAll(async () => {
  await here[Symbol.asyncDispose]();
  await there[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

type Pair = {
  readonly turns: () => [StreamTurns, StreamTurns];
  /** Returns once so many wait in line. */
  readonly inLine: (count: number) => Promise<void>;
};

const local = localTurns();
const kinds: [string, Pair][] = [
  ["in this process", { turns: () => [local, local], inLine: async () => {} }],
  ["between two processes", { turns: () => [here, there], inLine: inLineAtPostgres }],
];

async function inLineAtPostgres(count: number): Promise<void> {
  await eventually(async () => {
    const { rowCount } = await database.pool.query(
      `SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
       WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted`,
    );
    expect(rowCount).toBe(count);
  });
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 30));

async function taken(turns: StreamTurns, stream: string, timeoutMs = 10_000): Promise<AsyncDisposable> {
  const turn = await turns.acquire(stream, { timeoutMs });
  if (turn === undefined) throw new Error("no turn");
  return turn;
}

describe.each(kinds)("turns %s", (_, { turns: pair, inLine }) => {
  test("one at a time, in the order of asking, each stream for itself", async () => {
    const stream = newStream();
    const [a, b] = pair();
    const order: number[] = [];
    const first = await taken(a, stream);
    const waiting = [];
    for (const next of [1, 2, 3, 4]) {
      const use = async () => {
        await using _turn = await taken(next % 2 === 0 ? a : b, stream);
        order.push(next);
        await pause();
      };
      waiting.push(use());
      await inLine(waiting.length);
    }
    expect(order).toEqual([]);
    await using _other = await taken(b, newStream());
    await first[Symbol.asyncDispose]();
    await Promise.all(waiting);
    expect(order).toEqual([1, 2, 3, 4]);
  });

  test("no turn when the time is up, and whoever gave up is not waited for", async () => {
    const stream = newStream();
    const [a, b] = pair();
    const first = await taken(a, stream);
    expect(await b.acquire(stream, { timeoutMs: 30 })).toBeUndefined();
    const third = taken(b, stream);
    await first[Symbol.asyncDispose]();
    await (await third)[Symbol.asyncDispose]();
    await (await taken(a, stream, 1_000))[Symbol.asyncDispose]();
  });

  test("disposing twice gives one turn", async () => {
    const stream = newStream();
    const [a, b] = pair();
    const first = await taken(a, stream);
    const second = taken(b, stream);
    await first[Symbol.asyncDispose]();
    await using _second = await second;
    await first[Symbol.asyncDispose]();
    expect(await a.acquire(stream, { timeoutMs: 30 })).toBeUndefined();
  });

  test("those that somebody holds are told from those that nobody does", async () => {
    const [held, free] = [newStream(), newStream()];
    const [a, b] = pair();
    const turn = await taken(a, held);
    expect(await b.taken(new Set([free, held]))).toEqual([held]);
    await turn[Symbol.asyncDispose]();
    expect(await b.taken(new Set([free, held]))).toEqual([]);
    await (await taken(a, held, 1_000))[Symbol.asyncDispose]();
  });
});

describe("turns by PostgreSQL", () => {
  test("more than there are connections wait for one, within their time", async () => {
    const held = await Promise.all(Array.from({ length: MAX_TURN_CONNECTIONS }, () => taken(here, newStream())));
    expect(await here.acquire(newStream(), { timeoutMs: 30 })).toBeUndefined();
    const waiting = taken(here, newStream());
    for (const turn of held) await turn[Symbol.asyncDispose]();
    await (await waiting)[Symbol.asyncDispose]();
  });

  test("a turn whose session dies goes to the next, and disposing it is no error", async () => {
    const stream = newStream();
    const first = await taken(here, stream);
    const second = taken(there, stream);
    await inLineAtPostgres(1);
    await database.pool.query(
      `SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
       WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted`,
    );
    await using _second = await second;
    await first[Symbol.asyncDispose]();
    await using _other = await taken(here, newStream());
  });

  test("no server is not the same as no turn", async () => {
    await using proxy = await proxyTo(database.url);
    await using turns = postgresStreamTurns(proxy.url);
    proxy.refuse();
    await expect(turns.acquire(newStream(), { timeoutMs: 1_000 })).rejects.toBeInstanceOf(StoreUnavailable);
    proxy.heal();
    await eventually(async () => (await taken(turns, newStream()))[Symbol.asyncDispose]());
  });

  test("who has stopped hears that no turn is taken", async () => {
    const turns = postgresStreamTurns(database.url);
    const stream = newStream();
    await using _turn = await taken(here, stream);
    expect(await turns.taken(new Set([stream]))).toEqual([stream]);
    await turns[Symbol.asyncDispose]();
    expect(await turns.taken(new Set([stream]))).toEqual([]);
  });

  test("on a pool that is handed over, it is left open", async () => {
    const turns = postgresStreamTurns(database.pool);
    await (await taken(turns, newStream()))[Symbol.asyncDispose]();
    await turns[Symbol.asyncDispose]();
    expect((await database.pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  });
});
