// The pieces that queries and pages are made of.

import type pg from "pg";
import { describe, expect, test } from "vitest";
import type { Cursor } from "../../src/contract/fields.ts";
import { foldRows } from "../../src/projections/fold.ts";
import { rooms } from "../../src/projections/models/rooms.ts";
import { InvalidCursor, pageOf, readCursor } from "../../src/projections/page.ts";
import {
  bigint,
  boolean,
  json,
  projection,
  put,
  remove,
  tableName,
  text,
  upsert,
} from "../../src/projections/projection.ts";
import { readAs } from "../../src/projections/read-as.ts";
import { CLIENT, roomCreated, storedEvents } from "./log.ts";

describe("queries", () => {
  test("hold every table's condition on the client, never materialised, and values as parameters", () => {
    const read = readAs({} as pg.Pool, CLIENT);
    const { sql, parameters } = read
      .over({ r: rooms })
      .selectFrom("r")
      .select("name")
      .where("name", "=", "; drop")
      .compile();
    expect(sql.replace(/ *\/\*.*?\*\/ */g, " ").replace(/\s+\)/, ")")).toBe(
      `with "r" as not materialized (select * from "read"."${tableName(rooms)}" where client = $1) select "name" from "r" where "name" = $2`,
    );
    expect(parameters).toEqual([CLIENT, "; drop"]);
  });
});

describe("pages", () => {
  test("say where the next one begins, if there is one", () => {
    const cursor = (row: number): Cursor => [row];
    expect(pageOf([1, 2, 3], 2, cursor)).toEqual({ rows: [1, 2], next: [2] });
    expect(pageOf([1, 2], 2, cursor)).toEqual({ rows: [1, 2], next: null });
    expect(pageOf([], 2, cursor)).toEqual({ rows: [], next: null });
  });

  test("take only cursors of their own shape", () => {
    expect(readCursor(["a", 1], ["text", "integer"])).toEqual(["a", 1]);
    expect(readCursor(undefined, ["text"])).toBeUndefined();
    for (const wrong of [[], ["a"], [1, "a"], ["a", 1, 2], ["a", 2 ** 31], ["a", 1.5], ["a\0", 1]] as Cursor[]) {
      expect(() => readCursor(wrong, ["text", "integer"])).toThrow(InvalidCursor);
    }
  });
});

describe("declaring a projection", () => {
  const columns = { id: text(), client: text(), note: json({ nullable: true }), at: bigint(), on: boolean() };
  const base = { name: "things", version: 1, key: ["id"] as const, columns, indexes: [], personal: [] };

  test("names that are no identifiers, and columns that there are not, are refused", () => {
    expect(() => projection({ ...base, name: "things; drop", on: {} })).toThrow(/not a name/);
    expect(() => projection({ ...base, personal: ["other" as "id"], on: {} })).toThrow(/no column/);
  });

  test("a row without a value that it must have is refused; what may be absent is null", () => {
    const at = storedEvents();
    const things = (body: { at?: number }) =>
      projection({
        ...base,
        on: {
          RoomCreated: (e) => [put([e.stream], { client: CLIENT, on: true, note: null, ...(body as { at: number }) })],
        },
      });
    const event = at("room-a", roomCreated());
    expect(() => foldRows(things({}), [event])).toThrow(/at has no value/);
    expect(foldRows(things({ at: 5 }), [event])).toEqual([
      { id: "room-a", client: CLIENT, note: null, at: 5, on: true },
    ]);
  });

  test("changes of a row apply in order: removed and made again is new", () => {
    const at = storedEvents();
    const counted = projection({
      ...base,
      on: {
        RoomCreated: (e) => [
          upsert([e.stream], (row) => ({ client: CLIENT, on: true, note: null, at: (row?.at ?? 0) + 1 })),
        ],
        RoomDeleted: (e) => [remove([e.stream])],
      },
    });
    const created = () => at("room-a", roomCreated());
    const gone = at("room-a", { type: "RoomDeleted", data: {} });
    expect(foldRows(counted, [created(), created(), gone])).toEqual([]);
    expect(foldRows(counted, [created(), created(), gone, created()])).toMatchObject([{ at: 1 }]);
  });
});
