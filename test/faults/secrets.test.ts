// After a run that uses every kind of secret: each is found where it belongs, and nowhere else.
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { until } from "../e2e/support/api.ts";
import { dataFolder, spawnServer } from "../e2e/support/server.ts";
import { ADMIN_KEY } from "../e2e/support/setups.ts";
import { missingOwnEventStore } from "../support/eventstored.ts";
import { testDatabase } from "../support/postgres.ts";
import { isLong } from "../support/size.ts";
import { formsOf, searchFor } from "./support/byte-search.ts";
import type { SetupName } from "./support/failpoint-scene.ts";
import { Kept, KINDS, type Kind, tag } from "./support/secrets-kept.ts";
import { type SecretStores, useSetup } from "./support/secrets-scene.ts";
import { tablesOf } from "./support/secrets-stores.ts";
import { SHOWN } from "./support/secrets-talk.ts";

const TIMEOUT = { timeout: 120_000 };
const [REGISTERED, KEY_ROTATED, HOOK_SECRET, HOOK_SECRET_ROTATED, TOKEN, TICKET] = SHOWN;
const TO_PEOPLE = ["read models", "answers", "frames"];

/**
 * Where each kind may be, and is. What is not named is nowhere: not in the log (its table, its files, its export), among
 * the data keys, in the jobs, in what PostgreSQL shows and writes of its statements, in what the server prints and was
 * started with, on the operators' pages, in the answers to errors.
 *
 * The log has all that people write, sealed, and of credentials at most a hash. Read models hold in the open what
 * people are shown, until they are erased, and so do the files of the database that they are in.
 */
const HOLDS: Readonly<Record<Kind, readonly string[]>> = {
  "operator's key": [],
  "data key": [],
  "idempotency key": [],
  "refused input": [],
  // Development mode makes these two, in files that only their owner reads.
  "encryption key": ["encryption-keys"],
  "database password": ["password"],
  // Shown once, when they are made; kept as a hash, or not at all.
  "API key": [REGISTERED, KEY_ROTATED],
  "user token": [TOKEN],
  ticket: [TICKET],
  // Sealed, so that they can be used and shown again.
  "webhook secret": [REGISTERED, HOOK_SECRET, HOOK_SECRET_ROTATED],
  "SMTP password": [],
  "SMTP user name": ["answers"],
  message: TO_PEOPLE,
  name: [...TO_PEOPLE, "sent"],
  // A token says whose it is.
  "user id": [...TO_PEOPLE, TOKEN],
  "mail address": ["read models", "answers", "sent"],
  "webhook address": ["read models", "answers", "sent"],
  notification: [...TO_PEOPLE, "sent"],
  "receiver's answer": ["read models", "answers"],
};

/** In the places that there are here. */
function expected(kind: Kind, places: SecretStores): readonly string[] {
  const files = HOLDS[kind].includes("read models") ? ["files of the database"] : [];
  return [...HOLDS[kind], ...files].filter((place) => places.has(place)).toSorted();
}

/** By what was looked for, the places where it is. */
function found(kept: Kept, open: readonly string[], places: SecretStores): ReadonlyMap<string, readonly string[]> {
  const search = searchFor([...kept.all, ...open.map((text) => [OPEN, text] as const)]);
  const all = [...places].flatMap(([place, lying]) => {
    const here = new Set(lying.flatMap((bytes) => [...search.find(bytes)]));
    return [...here].map((name) => ({ name, place }));
  });
  return new Map(
    [...Map.groupBy(all, ({ name }) => name)].map(([name, where]) => [
      name,
      where.map(({ place }) => place).toSorted(),
    ]),
  );
}
const OPEN = "open by design";

/** In the gate the one that has most: its database, its files and its process. */
function setups(): readonly SetupName[] {
  if (!isLong) console.log("postgres, eventstoredb: in the long form only");
  else if (missingOwnEventStore !== undefined) console.log(`eventstoredb: ${missingOwnEventStore}`);
  if (!isLong) return ["embedded"];
  return ["embedded", "postgres", ...(missingOwnEventStore === undefined ? (["eventstoredb"] as const) : [])];
}

test.concurrent.each(setups())("%s: every secret is where it belongs and nowhere else", TIMEOUT, async (setup) => {
  const kept = new Kept();
  const { places, open } = await useSetup(setup, kept);
  const where = found(kept, open, places);
  const whereIs = (kind: Kind) => [kind, where.get(kind) ?? []] as const;
  const belongs = (kind: Kind) => [kind, expected(kind, places)] as const;
  expect(Object.fromEntries(KINDS.map(whereIs))).toEqual(Object.fromEntries(KINDS.map(belongs)));
  // Where nothing was found, something would have been: of what is open by design there is some everywhere.
  const seen = new Set([...where.values()].flat());
  expect([...places.keys()].filter((place) => !seen.has(place))).toEqual([]);
});

test.concurrent("a server that waits for its stores says nothing secret", TIMEOUT, async () => {
  const [password, ring] = [`${tag()}${tag()}`, randomBytes(32).toString("base64")];
  const env = {
    ...{ LOG_LEVEL: "trace", ADMIN_KEY, METRICS_TOKEN: ADMIN_KEY, ENCRYPTION_KEYS: ring },
    DATABASE_URL: `postgres://app:${password}@127.0.0.1:1/chat`,
    REDIS_URL: `redis://:${password}@127.0.0.1:1`,
    EVENTSTORE_URL: `esdb://app:${password}@127.0.0.1:1`,
  };
  await using folder = await dataFolder();
  const { child, exited, output: printed } = spawnServer({ dataDir: folder.path, env });
  const output = await until(
    async () => printed(),
    (text) => text.includes("the server cannot be reached"),
    60_000,
  );
  child.kill("SIGTERM");
  expect([await exited, output]).toEqual([0, expect.stringContaining("the server cannot be reached")]);
  const secrets = [password, ring, ADMIN_KEY].map((secret) => ["secret", secret] as const);
  expect(searchFor(secrets).find(Buffer.from(printed()))).toEqual(new Set());
});

describe("the search", () => {
  test("finds a secret in each way of writing it, whole, cut, and among other bytes", () => {
    const texts = [`${tag()} "ë\\😀\n" ${tag()}`, randomBytes(32)];
    for (const secret of texts) {
      const search = searchFor([["it", secret]]);
      const whole = formsOf(secret);
      expect(whole.length).toBeGreaterThan(5);
      for (const form of whole) {
        const among = Buffer.concat([Buffer.from(tag()), form, Buffer.from(tag())]);
        expect(search.find(among)).toEqual(new Set(["it"]));
        expect(search.find(among.subarray(0, 12 + Math.ceil((form.length * 3) / 5)))).toEqual(new Set(["it"]));
        expect(search.find(among.subarray(12 + Math.floor(form.length / 3)))).toEqual(new Set(["it"]));
      }
      expect(search.find(Buffer.from(`${tag()}${tag()}`))).toEqual(new Set());
    }
  });

  test("looks into every table, whatever its columns are", async () => {
    await using database = await testDatabase();
    const kept = new Map(["text", "bytea", "jsonb", "text[]", "hstored"].map((type) => [type, `${tag()} "x"`]));
    await database.pool.query(
      'create schema odd; create table odd."Things" (a text, b bytea, c jsonb, d text[]); create materialized view odd.seen as select 1',
    );
    await database.pool.query('insert into odd."Things" values ($1, $2, $3, $4)', [
      kept.get("text"),
      Buffer.from(kept.get("bytea") ?? ""),
      { deep: [kept.get("jsonb")] },
      [kept.get("text[]")],
    ]);
    const search = searchFor(kept);
    const tables = await tablesOf(database.url);
    expect([...search.find(tables.get("odd") ?? Buffer.alloc(0))].toSorted()).toEqual([
      "bytea",
      "jsonb",
      "text",
      "text[]",
    ]);
  });
});
