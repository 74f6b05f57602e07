// Secrets that can be taken once.
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { OneTimeSecrets } from "../../src/platform/one-time-secrets.ts";
import { testDatabase } from "../support/postgres.ts";

test("a secret is taken once, before its time is over, and is kept so that nobody else can open it", async () => {
  await using database = await testDatabase();
  const { pool } = database;
  // Two nodes, on a database without a schema for it.
  const [secrets, other] = [new OneTimeSecrets(pool, randomBytes), new OneTimeSecrets(pool, randomBytes)];
  expect(await secrets.take(randomBytes(32).toString("base64url"), 0)).toBeUndefined();
  const [over = "", held = ""] = await Promise.all([secrets.put("secret", 1_000, 0), other.put("secret", 2_000, 0)]);
  expect(await secrets.take(over, 1_000)).toBeUndefined();
  const { rows } = await pool.query("select id, sealed from jobs.one_time_secrets");
  expect(rows).toHaveLength(1);
  const kept = Buffer.concat([rows[0].id, rows[0].sealed]);
  expect(kept.includes("secret")).toBe(false);
  expect(kept.includes(Buffer.from(held, "base64url"))).toBe(false);
  const taken = await Promise.all([secrets, other, secrets, other].map((one) => one.take(held, 1_999)));
  expect(taken.filter((one) => one !== undefined)).toEqual(["secret"]);
  expect(await secrets.take("x".repeat(500), 0)).toBeUndefined();
  await secrets.put("old", 3_000, 0);
  await secrets.put("new", 90_000, 3_000);
  const left = await pool.query("select expires_at from jobs.one_time_secrets");
  expect(left.rows).toEqual([{ expires_at: "90000" }]);
});
