// User tokens: what is remembered of one does not outlive it, and the secret that signs them can be rotated.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { decodeProtectedHeader, SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { rotateTokenSecret, TokenSecrets, Tokens } from "../../src/app/credentials.ts";
import { ALL_SCOPES } from "../../src/contract/fields.ts";
import { openKeyring } from "../../src/event-store/keyring.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import { testDatabase } from "../support/postgres.ts";

const CLIENT = "cli_01jb000000000000000000000a";
/** One secret that is never rotated. */
const ONE = { rotatedSecrets: async () => [{ id: null, key: Buffer.alloc(32, 1) }] };
const NOW = 1_800_000_000_000;

test("a token that was checked and is remembered ends at its time all the same", async () => {
  const keyring = memoryKeyring();
  const tokens = new Tokens({ secrets: new TokenSecrets(ONE), keyring });
  const subject = await keyring.subjectOfUser(CLIENT, "alice");
  const asked = {
    client: CLIENT,
    subject,
    userId: "alice",
    generation: 0,
    scopes: ALL_SCOPES,
    ttlSeconds: 60,
    now: NOW,
    jti: "1",
  } as const;
  const { token } = await tokens.mint(asked);
  expect(await tokens.verify(token, NOW)).toMatchObject({ client: CLIENT, userId: "alice" });
  expect(await tokens.verify(token, NOW + 59_999)).toMatchObject({ client: CLIENT, userId: "alice" });
  expect(await tokens.verify(token, NOW + 60_000)).toBe("expired");
});

test("a token has one spelling: spare bits in its last character are refused", async () => {
  const keyring = memoryKeyring();
  const tokens = new Tokens({ secrets: new TokenSecrets(ONE), keyring });
  const subject = await keyring.subjectOfUser(CLIENT, "alice");
  const about = {
    client: CLIENT,
    subject,
    userId: "alice",
    generation: 0,
    scopes: ALL_SCOPES,
    ttlSeconds: 60,
    now: NOW,
    jti: "1",
  } as const;
  const { token } = await tokens.mint(about);
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const last = digits.indexOf(token.slice(-1));
  // 32 bytes: of the last character's six bits the lower two are spare.
  for (const spare of [1, 2, 3]) {
    const other = token.slice(0, -1) + digits.charAt(last | spare);
    expect(await tokens.verify(other, NOW)).toBeUndefined();
    const same = [Buffer.from(token, "base64url"), Buffer.from(other, "base64url")];
    expect(same[0]?.equals(same[1] ?? Buffer.alloc(0))).toBe(true);
  }
  expect(await tokens.verify(`${token}=`, NOW)).toBeUndefined();
  expect(await tokens.verify(token, NOW)).toMatchObject({ userId: "alice" });
});

describe("rotating the secret", () => {
  const DAY_MS = 86_400_000;
  /** An older secret is kept for a day, which is the longest life of a token, and an hour. */
  const KEPT_MS = DAY_MS + 3_600_000;
  const asked = {
    client: CLIENT,
    userId: "alice",
    generation: 0,
    scopes: ALL_SCOPES,
    ttlSeconds: 86_400,
    now: NOW,
    jti: "1",
  } as const;
  const claims = { client: CLIENT, userId: "alice", expiresAt: NOW + DAY_MS };
  const at = (ms: number) => ({ at: new Date(NOW + ms) });

  /** Two nodes on one database, and how often the first one has read the secrets. */
  async function nodes() {
    const database = await testDatabase();
    const open = () => openKeyring({ pool: database.pool, encryptionKeys: [ring] });
    const ring = randomBytes(32).toString("base64");
    const [keyring, second] = [await open(), await open()];
    let reads = 0;
    const counted = {
      rotatedSecrets(name: string) {
        reads += 1;
        return keyring.rotatedSecrets(name);
      },
    };
    const tokens = new Tokens({ secrets: new TokenSecrets(counted), keyring });
    const other = new Tokens({ secrets: new TokenSecrets(second), keyring: second });
    const close = () => database[Symbol.asyncDispose]();
    return { keyring, tokens, other, reads: () => reads, [Symbol.asyncDispose]: close };
  }
  const kidOf = (token: string) => decodeProtectedHeader(token).kid;

  test("a new one signs within a second; what the first one signed holds to its last moment, then it is dropped", async () => {
    await using node = await nodes();
    const { keyring, tokens, other } = node;
    const { token: old } = await tokens.mint(asked);
    expect(kidOf(old)).toBeUndefined();
    expect(await other.verify(old, NOW)).toMatchObject(claims);
    const rotated = await rotateTokenSecret(keyring, at(0));
    expect(rotated.dropped).toBe(0);
    await sleep(1_000);
    const { token: young } = await tokens.mint(asked);
    expect(kidOf(young)).toBe(rotated.id);
    for (const by of [tokens, other]) {
      expect(await by.verify(young, NOW)).toMatchObject(claims);
      expect(await by.verify(old, NOW + DAY_MS - 1)).toMatchObject(claims);
    }
    expect(await rotateTokenSecret(keyring, at(KEPT_MS - 1))).toMatchObject({ dropped: 0 });
    expect(await tokens.verify(old, NOW)).toMatchObject(claims);
    expect(await rotateTokenSecret(keyring, at(KEPT_MS))).toMatchObject({ dropped: 1 });
    await sleep(1_000);
    expect(await tokens.verify(old, NOW)).toBeUndefined();
    expect(await new Tokens({ secrets: new TokenSecrets(keyring), keyring }).verify(old, NOW)).toBeUndefined();
    expect(await tokens.verify(young, NOW)).toMatchObject(claims);
  });

  test("a node that has not heard of it looks it up; made-up ids cost one look-up a second in all", async () => {
    await using node = await nodes();
    const { keyring, tokens, other } = node;
    await tokens.mint(asked);
    const { id } = await rotateTokenSecret(keyring, at(0));
    const { token: young } = await other.mint(asked);
    expect(kidOf(young)).toBe(id);
    expect(await tokens.verify(young, NOW)).toMatchObject(claims);
    const [secret] = await keyring.rotatedSecrets("tokens");
    const forge = (kid: string | undefined, key: Uint8Array) =>
      new SignJWT({ cid: CLIENT, gen: 0 })
        .setProtectedHeader({ alg: "HS256", ...(kid === undefined ? {} : { kid }) })
        .setIssuer("chatapi")
        .setAudience("chatapi:user")
        .setSubject("alice")
        .setExpirationTime(new Date(NOW + DAY_MS))
        .sign(key);
    const key = secret?.key ?? randomBytes(32);
    expect(await tokens.verify(await forge(id, key), NOW)).toMatchObject(claims);
    const before = node.reads();
    const begun = performance.now();
    const madeUp = Array.from({ length: 50 }, () => forge(randomBytes(12).toString("base64url"), key));
    const wrong = [forge(id, randomBytes(32)), forge(undefined, key), forge("x", key), forge("", key)];
    const answers = await Promise.all([...madeUp, ...wrong].map(async (token) => tokens.verify(await token, NOW)));
    expect(answers.filter((answer) => answer !== undefined)).toEqual([]);
    // One a second for those, and as many as two for what is known.
    const seconds = (performance.now() - begun) / 1_000;
    expect(node.reads() - before).toBeLessThanOrEqual(3 * (seconds + 1));
  });

  test("at once, it ends every token of the older ones", async () => {
    await using node = await nodes();
    const { keyring, tokens, other } = node;
    const { token: old } = await tokens.mint(asked);
    expect(await tokens.verify(old, NOW)).toMatchObject(claims);
    expect(await rotateTokenSecret(keyring, { ...at(0), atOnce: true })).toMatchObject({ dropped: 1 });
    const { token: young } = await other.mint(asked);
    await sleep(1_000);
    expect(await tokens.verify(old, NOW)).toBeUndefined();
    expect(await tokens.verify(young, NOW)).toMatchObject(claims);
  });
});
