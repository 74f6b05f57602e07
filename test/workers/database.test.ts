// Transactions of the schema `jobs`.
import { expect, test } from "vitest";
import { inTransaction } from "../../src/workers/database.ts";
import { testDatabase } from "../support/postgres.ts";

test("nothing of a transaction that throws is kept, all of one that does not", async () => {
  await using database = await testDatabase();
  const { pool } = database;
  await pool.query("create table kept (n int)");
  const kept = async () => (await pool.query("select n from kept order by n")).rows.map((row) => row.n);
  const failing = inTransaction(pool, async (sql) => {
    await sql.executeSql("insert into kept values (1)");
    throw new Error("in the middle");
  });
  await expect(failing).rejects.toThrow("in the middle");
  expect(await kept()).toEqual([]);
  await inTransaction(pool, async (sql) => {
    await sql.executeSql("insert into kept values (2)");
    await sql.executeSql("insert into kept values (3)");
  });
  expect(await kept()).toEqual([2, 3]);
});
