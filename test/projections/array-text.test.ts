// Arrays as text: PostgreSQL reads back what went in, whatever is in it.
import { afterAll, beforeAll, expect, test } from "vitest";
import { arrayText } from "../../src/projections/array-text.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";
import fc from "../support/seed.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database[Symbol.asyncDispose]());

const back = async (type: string, values: Parameters<typeof arrayText>[0]): Promise<unknown> => {
  const { rows } = await database.pool.query(`select $1::${type}[] as found`, [arrayText(values)]);
  return rows[0]?.found;
};
const orNull = <T>(one: fc.Arbitrary<T>) => fc.array(fc.option(one), { maxLength: 8 });
// NUL is the one character that PostgreSQL's text cannot hold; nothing with it gets that far.
const anyText = fc.string({ unit: "binary" }).map((text) => text.replaceAll("\0", ""));
const awkward = fc.constantFrom("", "null", "NULL", "{}", '"', "\\", '\\"', "a,b", " a ", "\n", "\\N", "'", "😀");

test("of text", async () => {
  await fc.assert(
    fc.asyncProperty(orNull(fc.oneof(awkward, anyText)), async (values) => {
      expect(await back("text", values)).toEqual(values);
    }),
  );
});

test("of numbers and booleans", async () => {
  await fc.assert(
    fc.asyncProperty(orNull(fc.integer()), orNull(fc.boolean()), async (numbers, booleans) => {
      expect(await back("int", numbers)).toEqual(numbers);
      expect(await back("bool", booleans)).toEqual(booleans);
    }),
  );
});
