// Content filters of webhook endpoints: what each operator matches, and what no filter may hold.
import { describe, expect, test } from "vitest";
import { filterFaults } from "../../src/contract/event-requests.ts";
import type { JsonObject } from "../../src/contract/json.ts";
import { matchesFilter, matchesType } from "../../src/domain/endpoint.ts";

const EVENT = {
  type: "message.posted",
  room_id: "room_1",
  data: { type: "text", n: 5, on: true, none: null, tags: ["a", "b"], meta: { plan: "pro" } },
};

const CASES: readonly (readonly [JsonObject, boolean])[] = [
  [{}, true],
  [{ "data.meta.plan": "pro" }, true],
  [{ "data.meta.plan": "free" }, false],
  [{ "data.n": "5" }, false],
  [{ "data.n": { $eq: 5 } }, true],
  [{ "data.n": { $ne: 6 } }, true],
  [{ "data.n": { $ne: 5 } }, false],
  [{ "data.n": { $ne: "5" } }, false],
  [{ "data.none": { $ne: 5 } }, true],
  [{ "data.meta.plan": { $ne: null } }, true],
  [{ "data.none": null }, true],
  [{ "data.n": { $gt: 4, $lt: 6 } }, true],
  [{ "data.n": { $gte: 5, $lte: 5 } }, true],
  [{ "data.n": { $gt: "4" } }, false],
  [{ "data.type": { $in: ["text", "image"] } }, true],
  [{ "data.type": { $nin: ["image"] } }, true],
  [{ "data.type": { $nin: ["text"] } }, false],
  [{ "data.tags": "b" }, true],
  [{ "data.tags": { $in: ["c"] } }, false],
  [{ "data.type": { $startsWith: "te" } }, true],
  [{ "data.n": { $startsWith: "5" } }, false],
  [{ "data.gone": { $exists: false } }, true],
  [{ "data.none": { $exists: true } }, true],
  [{ "data.gone": "x" }, false],
  [{ "data.gone": { $ne: "x" } }, true],
  [{ "data.gone": { $nin: ["x"] } }, true],
  [{ "data.gone": { $lt: 1 } }, false],
  [{ $and: [{ "data.n": 5 }, { "data.on": true }] }, true],
  [{ $or: [{ "data.n": 6 }, { "data.on": true }] }, true],
  [{ $or: [{ "data.n": 6 }, { "data.on": false }] }, false],
  [{ $not: { "data.n": 6 } }, true],
  [{ $not: { "data.n": 5 } }, false],
  [{ "data.toString": { $exists: true } }, false],
];

test.each(CASES)("%j: %s", (filter, expected) => {
  expect(filterFaults(filter)).toEqual([]);
  expect(matchesFilter(filter, EVENT)).toBe(expected);
});

const nested = (depth: number): JsonObject => (depth === 1 ? { "data.n": 5 } : { $not: nested(depth - 1) });

describe("what is refused", () => {
  test.each([
    [[], "wrong_type"],
    [{ $nor: [] }, "unknown_field"],
    [{ "data.n": { $regex: "x" } }, "unknown_field"],
    [{ "data.n": {} }, "too_short"],
    [{ "data.n": [5] }, "wrong_type"],
    [{ $or: [] }, "too_short"],
    [{ "data.n": { $in: 5 } }, "wrong_type"],
    [{ "data.n": { $exists: "yes" } }, "wrong_type"],
    [{ "data.n": "x".repeat(4_096) }, "too_long"],
    [nested(9), "too_large"],
  ])("%j", (filter, code) => {
    expect(filterFaults(filter).map((fault) => fault.code)).toEqual([code]);
  });

  test("eight filters deep are not", () => {
    expect(filterFaults(nested(8))).toEqual([]);
  });
});

test("types are named one by one, or all of a kind", () => {
  expect(matchesType(["message.*"], "message.posted")).toBe(true);
  expect(matchesType(["message.*"], "messages.posted")).toBe(false);
  expect(matchesType(["room.created"], "room.created")).toBe(true);
  expect(matchesType(["room.created"], "room.updated")).toBe(false);
});
