// Data keys on the move between databases: all of them, wrapped all the way, or none.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { KeyRef } from "../../src/contract/ids.ts";
import { KeyConflict, type WrappedKey, WrappedKeySchema } from "../../src/event-store/key-transfer.ts";
import { openKeyring, type PostgresKeyring } from "../../src/event-store/keyring.ts";
import { WrongEncryptionKeys } from "../../src/event-store/wrapped-keys.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

const [OLD, NEW] = [`old:${randomBytes(32).toString("base64")}`, `new:${randomBytes(32).toString("base64")}`];
const NAMES = Array.from({ length: 2_500 }, (_, index): KeyRef => `sub_${index}`);

let source: TestDatabase;
let target: TestDatabase;
beforeAll(async () => {
  [source, target] = await Promise.all([testDatabase(), testDatabase()]);
});
afterAll(() => Promise.all([source[Symbol.asyncDispose](), target[Symbol.asyncDispose]()]));
beforeEach(() => Promise.all([source, target].map(({ pool }) => pool.query("DROP SCHEMA IF EXISTS keys CASCADE"))));

const open = (database: TestDatabase, ...encryptionKeys: string[]) =>
  openKeyring({ pool: database.pool, encryptionKeys });
const exported = async (ring: PostgresKeyring): Promise<WrappedKey[]> => {
  const lines: string[] = [];
  for await (const key of ring.exportWrapped()) lines.push(JSON.stringify(key));
  return lines.map((line) => WrappedKeySchema.parse(JSON.parse(line)));
};
const count = async (database: TestDatabase) =>
  Number((await database.pool.query("SELECT count(*) AS n FROM keys.data_keys")).rows[0].n);

test("imports every key under its id, wrapped by the newest key of the new ring", async () => {
  const from = await open(source, OLD);
  const keys = await from.keysFor("cli_a", new Set(NAMES));
  const subject = await from.subjectOfUser("cli_a", "ada");
  const to = await open(target, NEW, OLD);
  expect(await to.importWrapped(await exported(from))).toEqual({ imported: NAMES.length + 1, present: 0 });
  const alone = await open(target, NEW);
  expect(await alone.keysById(new Set([...keys.values()].map((key) => key.id)))).toEqual(
    new Map([...keys.values()].map((key) => [key.id, key])),
  );
  expect(await alone.subjectOfUser("cli_a", "ada")).toBe(subject);
});

test("changes nothing when the same keys are imported again", async () => {
  const from = await open(source, OLD);
  await from.keysFor("cli_a", new Set(NAMES.slice(0, 10)));
  const to = await open(target, OLD);
  const keys = await exported(from);
  await to.importWrapped(keys);
  expect(await to.importWrapped(keys)).toEqual({ imported: 0, present: 10 });
});

test("imports nothing when a key is wrapped by another ring", async () => {
  const from = await open(source, OLD);
  await from.keysFor("cli_a", new Set(NAMES));
  const to = await open(target, NEW);
  await expect(to.importWrapped(await exported(from))).rejects.toBeInstanceOf(WrongEncryptionKeys);
  expect(await count(target)).toBe(0);
});

test("imports nothing when an owner has another key here, not even the pages before it", async () => {
  const from = await open(source, OLD);
  await from.keysFor("cli_a", new Set(NAMES));
  const keys = await exported(from);
  const to = await open(target, OLD);
  const owner = keys.at(-1)?.owner ?? "";
  await to.keysFor("cli_a", new Set([owner as KeyRef]));
  await expect(to.importWrapped(keys)).rejects.toMatchObject({ name: "KeyConflict", owner });
  await expect(to.importWrapped(keys)).rejects.toBeInstanceOf(KeyConflict);
  expect(await count(target)).toBe(1);
});

test("keeps the server's own secrets as they are here", async () => {
  const [from, to] = [await open(source, OLD), await open(target, OLD)];
  await from.serverSecret("tokens");
  const mine = await to.serverSecret("tokens");
  expect(await to.importWrapped(await exported(from))).toEqual({ imported: 0, present: 1 });
  expect(await (await open(target, OLD)).serverSecret("tokens")).toEqual(mine);
});
