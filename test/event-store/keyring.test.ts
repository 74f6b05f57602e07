// The keyring on PostgreSQL: keys that last, that nobody reads in the database, and that can be destroyed.
import { randomBytes } from "node:crypto";
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { ClientId, KeyRef } from "../../src/contract/ids.ts";
import { encode } from "../../src/event-store/envelope.ts";
import { type EventStore, NO_STREAM } from "../../src/event-store/event-store.ts";
import { openKeyring, type PostgresKeyring } from "../../src/event-store/keyring.ts";
import { InvalidEncryptionKeys, WrongEncryptionKeys } from "../../src/event-store/wrapped-keys.ts";
import { newEvent } from "../contracts/subject.ts";
import { NOW } from "../support/given.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryInUse } from "../support/memory.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import { context } from "../support/recorded.ts";

const CLIENT: ClientId = "cli_one";
const newKey = () => randomBytes(32).toString("base64");
const RING = [newKey()];
const refs = (...names: KeyRef[]) => new Set(names);

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database[Symbol.asyncDispose]());
beforeEach(() => database.pool.query("DROP SCHEMA IF EXISTS keys CASCADE"));

const open = (encryptionKeys: readonly string[] = RING) => openKeyring({ pool: database.pool, encryptionKeys });
/** The keyring of a node that opens this log. */
async function trusting(log: EventStore): Promise<PostgresKeyring> {
  const keyring = await open();
  await keyring.trust(log);
  return keyring;
}
const kept = async () =>
  (await database.pool.query("SELECT * FROM keys.data_keys WHERE owner NOT LIKE 'server:%' ORDER BY owner")).rows;

/** The same pool; `watch` is called with each query's answer, and the answer waits for what it returns. */
function watched(pool: pg.Pool, watch: (answer: Promise<unknown>) => Promise<void> | void): pg.Pool {
  const query = async (...parameters: Parameters<pg.Pool["query"]>): Promise<unknown> => {
    const answer = Promise.resolve(pool.query(...parameters));
    await watch(answer);
    return answer;
  };
  return new Proxy(pool, {
    get(target, name) {
      if (name === "query") return query;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

describe("data keys", () => {
  test("are 32 bytes, one a reference, and the same for another process", async () => {
    const here = await (await open()).keysFor(CLIENT, refs("sub_a", "sub_b", CLIENT));
    const there = await (await open()).keysFor(CLIENT, refs("sub_b", "sub_a", CLIENT));
    expect([...here.keys()]).toEqual(["sub_a", "sub_b", CLIENT]);
    for (const [ref, key] of here) {
      expect(key.key).toHaveLength(32);
      expect(there.get(ref)).toEqual(key);
    }
    expect(new Set([...here.values()].map((key) => Buffer.from(key.key).toString("hex"))).size).toBe(3);
  });

  test("are in the database before they are handed out, with their client, and never in the open", async () => {
    const keys = await (await open()).keysFor(CLIENT, refs("sub_a"));
    const [row] = await kept();
    expect(row).toMatchObject({ id: keys.get("sub_a")?.id, owner: "sub_a", client: CLIENT });
    expect(row.wrapped.includes(Buffer.from(keys.get("sub_a")?.key ?? []))).toBe(false);
  });

  test("keep no other memory alive while they are cached", async () => {
    const keyring = await open();
    const made = await keyring.keysFor(CLIENT, refs("sub_a", "sub_b"));
    const found = await (await open()).keysById(new Set(Array.from(made.values(), ({ id }) => id)));
    for (const { key } of [...made.values(), ...found.values()]) expect(key.buffer.byteLength).toBe(32);
  });

  test("are found by id; an id that never was is missing", async () => {
    const key = (await (await open()).keysFor(null, refs("ntf_a"))).get("ntf_a");
    const found = await (await open()).keysById(new Set([key?.id ?? "", "nobody"]));
    expect([...found]).toEqual([[key?.id, key]]);
  });

  test("are made once, however many processes need them at once, in any order", async () => {
    const names = Array.from({ length: 300 }, (_, index): KeyRef => `sub_${index}`);
    const rings = await Promise.all([open(), open(), open(), open()]);
    const answers = await Promise.all(
      rings.flatMap((ring, index) => [
        ring.keysFor(CLIENT, new Set(index % 2 === 0 ? names : names.toReversed())),
        ring.keysFor(CLIENT, new Set(names.slice(index * 50))),
      ]),
    );
    expect(await kept()).toHaveLength(300);
    for (const answer of answers) for (const [ref, key] of answer) expect(key).toEqual(answers[0]?.get(ref));
  });

  test("are made in few round trips, however many callers need them", async () => {
    let queries = 0;
    const pool = watched(database.pool, () => {
      queries += 1;
    });
    const ring = await openKeyring({ pool, encryptionKeys: RING });
    queries = 0;
    await Promise.all(Array.from({ length: 200 }, (_, index) => ring.keysFor(CLIENT, refs(`sub_${index}`))));
    expect(queries).toBe(2); // one that looks, one that inserts
    await Promise.all(Array.from({ length: 200 }, (_, index) => ring.keysFor(CLIENT, refs(`sub_${index}`))));
    expect(queries).toBe(2); // cached
  });
});

describe("destroying a key", () => {
  test("takes it from the database and from memory; a later use makes another", async () => {
    const ring = await open();
    const before = (await ring.keysFor(CLIENT, refs("sub_a"))).get("sub_a");
    expect(await ring.destroy("sub_a")).toBe(true);
    expect(await kept()).toEqual([]);
    expect(await ring.keysById(new Set([before?.id ?? ""]))).toEqual(new Map());
    const after = (await ring.keysFor(CLIENT, refs("sub_a"))).get("sub_a");
    expect(after?.id).not.toBe(before?.id);
    expect(after?.key).not.toEqual(before?.key);
  });

  test("clears the plaintext cache", async () => {
    const ring = await open();
    const sealed = Uint8Array.of(1);
    ring.plaintextCache.current().add(sealed, () => ({ data: "open", meta: {} }));
    expect(ring.plaintextCache.current().find(sealed)).toEqual({ data: "open", meta: {} });
    await ring.destroy("sub_a");
    expect(ring.plaintextCache.current().find(sealed)).toBeUndefined();
  });

  test("answers false when there was none", async () => {
    expect(await (await open()).destroy("sub_nobody")).toBe(false);
  });

  test("keeps a look-up that was under way out of the cache", async () => {
    const id = (await (await open()).keysFor(CLIENT, refs("sub_a"))).get("sub_a")?.id ?? "";
    let late: Promise<unknown> = Promise.resolve();
    const pool = watched(database.pool, async (answer) => {
      await answer;
      await late; // the answer is on its way while the key is destroyed
    });
    const ring = await openKeyring({ pool, encryptionKeys: RING });
    const { promise, resolve } = Promise.withResolvers<void>();
    late = promise;
    const lookUp = ring.keysById(new Set([id]));
    await new Promise((done) => setTimeout(done, 20));
    late = Promise.resolve();
    await ring.destroy("sub_a");
    resolve();
    expect((await lookUp).size).toBe(1);
    expect(await ring.keysById(new Set([id]))).toEqual(new Map());
  });
});

describe("subjects", () => {
  test("are the same on every node, and tell clients, people and addresses apart", async () => {
    const [one, two] = [await open(), await open()];
    const subjects = [
      await one.subjectOfUser(CLIENT, "ada"),
      await one.subjectOfUser(CLIENT, "bob"),
      await one.subjectOfUser("cli_two", "ada"),
      await one.subjectOfAddress(CLIENT, "ada"),
    ];
    expect(new Set(subjects).size).toBe(4);
    for (const subject of subjects) expect(subject).toMatch(/^sub_[0-9a-hjkmnp-tv-z]{26}$/);
    expect(await two.subjectOfUser(CLIENT, "ada")).toBe(subjects[0]);
    expect(await two.pepper(CLIENT)).toEqual(await one.pepper(CLIENT));
  });
});

describe("the server's own secrets", () => {
  test("are made once and told apart by name", async () => {
    const [one, two] = [await open(), await open()];
    const [tokens, again] = await Promise.all([one.serverSecret("tokens"), two.serverSecret("tokens")]);
    expect(tokens).toHaveLength(32);
    expect(again).toEqual(tokens);
    expect(await one.serverSecret("other")).not.toEqual(tokens);
  });
});

describe("the ring", () => {
  test("wraps with its newest key and opens with the older ones", async () => {
    const [old, young] = [newKey(), `2026:${newKey()}`];
    const before = await (await open([old])).keysFor(CLIENT, refs("sub_old"));
    const turned = await open([young, old]);
    await turned.keysFor(CLIENT, refs("sub_young"));
    expect(await turned.keysFor(CLIENT, refs("sub_old"))).toEqual(before);
    const [oldRow, youngRow] = await kept();
    expect(oldRow.kek).toMatch(/^[0-9a-f]{8}$/);
    expect(youngRow.kek).toBe("2026");
  });

  test("stops the start when it lacks any wrapping key in use, and names it", async () => {
    const [first, second] = [newKey(), newKey()];
    await (await open([`a:${first}`])).keysFor(CLIENT, refs("sub_a"));
    await (await open([`b:${second}`, `a:${first}`])).keysFor(CLIENT, refs("sub_b"));
    for (const [ring, kek] of [
      [[`b:${second}`], "a"],
      [[`a:${first}`], "b"],
      [[newKey()], "a"],
    ] as const) {
      const failure = await open(ring).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(WrongEncryptionKeys);
      expect(failure).toMatchObject({ kek, message: expect.stringContaining("ENCRYPTION_KEYS") });
    }
  });

  test("stops the start when a key has the right id but is another key", async () => {
    await (await open([`a:${newKey()}`])).keysFor(CLIENT, refs("sub_a"));
    await expect(open([`a:${newKey()}`])).rejects.toBeInstanceOf(WrongEncryptionKeys);
  });

  test("fails only what needs a key that it lost since the start", async () => {
    const [mine, other] = [`mine:${newKey()}`, `other:${newKey()}`];
    const ring = await open([mine]);
    const foreign = (await (await open([other, mine])).keysFor(CLIENT, refs("sub_other"))).get("sub_other")?.id ?? "";
    const [known, unknown] = await Promise.allSettled([
      ring.keysFor(CLIENT, refs("sub_mine")),
      ring.keysFor(CLIENT, refs("sub_other")),
    ]);
    expect(known.status).toBe("fulfilled");
    expect(unknown).toMatchObject({ reason: { name: "WrongEncryptionKeys", kek: "other" } });
    // Never taken for erased.
    await expect(ring.keysById(new Set([foreign]))).rejects.toBeInstanceOf(WrongEncryptionKeys);
  });

  test.each([
    ["no key", []],
    ["a short key", ["c2hvcnQ="]],
    ["no base64", [`${"*".repeat(43)}=`]],
    ["an id without a key", ["2026:"]],
    ["the same key twice", [RING[0] ?? "", RING[0] ?? ""]],
  ])("is refused when it holds %s, without showing it", async (_what, ring) => {
    const failure = await open(ring).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(InvalidEncryptionKeys);
    for (const entry of ring) expect(String(failure)).not.toContain(entry);
  });

  test("does not open a key that was moved to another row", async () => {
    const ring = await open();
    await ring.keysFor(CLIENT, refs("sub_a"));
    await database.pool.query("UPDATE keys.data_keys SET owner = 'sub_b'");
    await expect(open()).rejects.toBeInstanceOf(WrongEncryptionKeys);
  });
});

test("caches subjects of many clients in one bounded cache", async () => {
  const keyring = await open();
  const clients = Array.from({ length: 500 }, (_, n): ClientId => `cli_${n}`);
  await keyring.subjectOfUser(CLIENT, "ann");
  const before = memoryInUse().heapUsed;
  const subjects = await Promise.all(clients.map((client) => keyring.subjectOfUser(client, "ann")));
  expect(new Set(subjects).size).toBe(500);
  expect(memoryInUse().heapUsed - before).toBeLessThan(4 * 1024 * 1024);
  expect(await Promise.all(clients.map((client) => keyring.subjectOfUser(client, "ann")))).toEqual(subjects);
});

describe("a destroyed key", () => {
  test("is recorded, so that it is told from one that is missing, on every node", async () => {
    const [one, two] = [await open(), await open()];
    const keys = await one.keysFor(CLIENT, refs("sub_a", "sub_b"));
    const [a = "", b = ""] = [...keys.values()].map(({ id }) => id);
    await one.destroy("sub_a");
    await database.pool.query("DELETE FROM keys.data_keys WHERE id = $1", [b]);
    for (const keyring of [one, two]) expect(await keyring.destroyedAmong(new Set([a, b, "c"]))).toEqual(new Set([a]));
  });

  test("is not looked for again", async () => {
    let queries = 0;
    const pool = watched(database.pool, () => {
      queries += 1;
    });
    const ring = await openKeyring({ pool, encryptionKeys: RING });
    const ids = new Set([...(await ring.keysFor(CLIENT, refs("sub_a"))).values()].map(({ id }) => id));
    await ring.destroy("sub_a");
    await ring.destroyedAmong(ids);
    queries = 0;
    expect([await ring.keysById(ids), await ring.destroyedAmong(ids)]).toEqual([new Map(), ids]);
    expect(queries).toBe(0);
  });

  test("is not recorded by who can write the database alone", async () => {
    const ring = await open();
    await ring.serverSecret("destroyed-keys");
    await database.pool.query("INSERT INTO keys.destroyed_keys (id, proof) VALUES ('x', $1), ('y', '')", [
      randomBytes(32),
    ]);
    expect(await ring.destroyedAmong(new Set(["x", "y"]))).toEqual(new Set());
  });

  test("is taken for destroyed where events come from an export without it", async () => {
    const ring = await open();
    const [here = ""] = [...(await ring.keysFor(CLIENT, refs("sub_a"))).values()].map(({ id }) => id);
    await ring.recordMissing(new Set([here, "gone"]));
    expect(await ring.destroyedAmong(new Set([here, "gone"]))).toEqual(new Set(["gone"]));
  });
});

describe("retiring a wrapping key", () => {
  test("wraps every data key anew, so that the old one can go; what it opens stays the same", async () => {
    const [old, next] = [randomBytes(32), randomBytes(32)].map((key) => key.toString("base64"));
    if (old === undefined || next === undefined) throw new Error("no keys");
    const before = await (await open([old])).keysFor(
      CLIENT,
      refs(...Array.from({ length: 1_500 }, (_, n) => `sub_${n}` as const)),
    );
    expect(await (await open([next, old])).rewrap()).toBe(1_500);
    expect(await (await open([next, old])).rewrap()).toBe(0);
    const alone = await open([next]);
    expect(await alone.keysFor(CLIENT, refs("sub_7"))).toEqual(new Map([["sub_7", before.get("sub_7")]]));
    await expect(open([old])).rejects.toBeInstanceOf(WrongEncryptionKeys);
  });
});

describe("a log is trusted", () => {
  const firstEvents = async (log: EventStore, keyring: PostgresKeyring) =>
    encode(keyring, {
      ...{ stream: "client-cli_a", context, at: NOW, firstRevision: 0 },
      events: [{ type: "MemberLeft", data: { subject: "sub_a", user: { open: "ada" }, reason: "left" } }],
    }).then((events) => log.append("client-cli_a", NO_STREAM, events));

  test("again and again with the database that it began with", async () => {
    await using log = await openInMemoryLog();
    await firstEvents(log, await trusting(log));
    const again = await (await open()).trust(log);
    expect((await again.readStream("client-cli_a", { limit: 1 }))[0]?.type).toBe("MemberLeft");
  });

  test("not with a database that lacks its keys, or has another log's", async () => {
    await using log = await openInMemoryLog();
    await firstEvents(log, await trusting(log));
    await database.pool.query("TRUNCATE keys.data_keys");
    await expect(trusting(log)).rejects.toThrow(/lacks the keys: restore the schema `keys`/);
    await using other = await openInMemoryLog();
    const foreign = await trusting(other);
    await foreign.keysFor(CLIENT, refs("sub_a"));
    await expect(trusting(log)).rejects.toMatchObject({ name: "StoresDiffer" });
  });

  test("not when its MACs were taken off, and the key that made them", async () => {
    await using log = await openInMemoryLog();
    const keyring = await trusting(log);
    await keyring.keysFor(CLIENT, refs("sub_a"));
    await log.append("client-cli_a", NO_STREAM, [newEvent()]);
    await database.pool.query("DELETE FROM keys.data_keys WHERE owner LIKE 'server:event-mac:%'");
    await expect(trusting(log)).rejects.toMatchObject({ name: "StoresDiffer" });
  });

  test("not when it is empty and the database has keys, unless events are imported into it", async () => {
    await using log = await openInMemoryLog();
    await (await trusting(log)).keysFor(CLIENT, refs("sub_a"));
    await using empty = await openInMemoryLog();
    await expect(trusting(empty)).rejects.toThrow(/the log is empty.*chatapi events export/);
    await (await open()).trust(empty, { importing: true });
    await trusting(empty);
  });

  test("as it is up to the end that it had before events had MACs, and not beyond", async () => {
    await using log = await openInMemoryLog();
    await log.append("room-a", NO_STREAM, [newEvent()]);
    const warnings: string[] = [];
    const keyring = await open();
    const store = await keyring.trust(log, { warn: (message) => warnings.push(message) });
    await log.append("room-a", 0, [newEvent()]);
    const types = (await store.readStream("room-a", { limit: 9 })).map(({ type }) => type);
    expect(types).toEqual(["SomethingHappened", "EventForged"]);
    expect(warnings).toEqual([expect.stringContaining("before events had MACs")]);
  });
});
