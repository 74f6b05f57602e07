// User tokens: what is remembered of one does not outlive it.
import { expect, test } from "vitest";
import { Tokens } from "../../src/app/credentials.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";

const CLIENT = "cli_01jb000000000000000000000a";
const NOW = 1_800_000_000_000;

test("a token that was checked and is remembered ends at its time all the same", async () => {
  const keyring = memoryKeyring();
  const tokens = new Tokens({ secret: Buffer.alloc(32, 1), keyring });
  const subject = await keyring.subjectOfUser(CLIENT, "alice");
  const asked = {
    client: CLIENT,
    subject,
    userId: "alice",
    generation: 0,
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
  const tokens = new Tokens({ secret: Buffer.alloc(32, 1), keyring });
  const subject = await keyring.subjectOfUser(CLIENT, "alice");
  const about = {
    client: CLIENT,
    subject,
    userId: "alice",
    generation: 0,
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
