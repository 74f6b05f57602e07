// Every bad input gets its problem, naming every fault; none gets a 500; nothing is written.
import { afterAll, beforeAll, expect, test } from "vitest";
import { badBodies, type Expected, exampleText } from "./support/bad-bodies.ts";
import type { Refused } from "./support/refusals.ts";
import { type Operation, type Stage, setStage } from "./support/stage.ts";

const MIB = 1024 * 1024;
const json = { "content-type": "application/json" };

const stack = new AsyncDisposableStack();
let stage: Stage;
let operations: readonly Operation[];
let key: Readonly<Record<string, string>>;

beforeAll(async () => {
  stage = await setStage(stack);
  ({ operations, key } = stage);
});
afterAll(() => stack.disposeAsync());

const admitted = (one: Operation) => stage.admitted(one);
/** A request of it that holds all that it needs, and nothing wrong. */
function sound(one: Operation): Pick<Refused, "headers" | "body"> {
  if (one.schema === undefined) return { headers: admitted(one) };
  return { headers: { ...admitted(one), ...json }, body: exampleText(one.schema) };
}
const check = (all: readonly Refused[]) => stage.check(all);
const fault = (path: string, ...codes: string[]): Expected => ({ path, codes });
const invalid = (...faults: Expected[]) => ({ status: 422, code: "validation_failed", faults });

test("fields of bodies: wrong types, bounds, formats, unknown, missing, twice, of prototypes", async () => {
  const all = operations.flatMap((one) =>
    one.schema === undefined
      ? []
      : [...badBodies(one.schema)].map(({ text, faults }): Refused => {
          const headers = { ...admitted(one), ...json };
          return { method: one.method, path: one.path, headers, body: text, ...invalid(...faults) };
        }),
  );
  expect(all.length).toBeGreaterThan(500);
  await check(all);
});

test("bodies: not JSON, no object, too deep, too large, of another type or coding", async () => {
  const deep = (levels: number) => `{"a":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`;
  const bytes = (...list: number[]) => Buffer.concat([Buffer.from('{"a":"'), Buffer.from(list), Buffer.from('"}')]);
  const malformed = ["{", "nope", "{}{}", '{"a":1,}', '{"a":NaN}', "{'a':1}", '"\0"', deep(33), "[".repeat(50_000)];
  const garbled = [bytes(0xff), bytes(0xc3, 0x28), bytes(0xed, 0xa0, 0x80), Buffer.from("{}", "utf16le")];
  const types = ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"];
  const codings = ["gzip", "br", "x".repeat(1_000)].map((coding) => ({ ...json, "content-encoding": coding }));
  const others = ["[]", "null", "5", '"text"', "true", "[{}]"];
  const all = operations.flatMap((one): Refused[] => {
    if (one.schema === undefined) return [];
    const { method, path } = one;
    const by = admitted(one);
    const whole = { method, path, headers: { ...by, ...json } };
    const kinds = [...types.map((type) => ({ "content-type": type })), ...codings];
    return [
      ...[...malformed, ...garbled].map((body): Refused => ({ ...whole, body, status: 400, code: "malformed_json" })),
      ...others.map((body): Refused => ({ ...whole, body, ...invalid(fault("", "wrong_type")) })),
      { ...whole, body: " ".repeat(MIB + 1), status: 413, code: "body_too_large" },
      ...kinds.map((kind): Refused => {
        return { ...whole, headers: { ...by, ...kind }, body: "{}", status: 415, code: "unsupported_media_type" };
      }),
    ];
  });
  await check(all);
});

const BAD_VALUES: Readonly<Record<string, readonly string[]>> = {
  limit: ["0", "101", "-1", "x", "1.5", "1e1", "", "1,2", "%00", "%EF%BC%99"],
  from: ["yesterday", "2026-02-30", "2026-01-01T00:00:00", "1", "", "%00"],
  to: ["tomorrow", "2026-13-01", "2026-01-01T00:00:00", "%ff"],
  sort: ["size", "", "-name"],
  active: ["1", "yes", ""],
  member: ["a%20b", "", "a,%00"],
  search: ["", "x".repeat(201), "%00"],
  external_id: ["", "%00", "x".repeat(256)],
  after_seq: ["-1", "x", "", "99999999999999999999", "%00"],
  before_seq: ["-1", "1.5", "2147483648"],
  order: ["up", "", "ASC"],
  sender_id: ["a%20b", ",", "%00"],
  type: ["%00", "No%20Such", ","],
  include_deleted: ["1", "", "TRUE"],
  status: ["bogus", "", "sent,bogus"],
  recipient: ["", "%00", "x".repeat(2_049)],
  room_id: ["", "%00"],
  ids: ["", "%00", Array(101).fill("x").join()],
  actor: ["", "%00"],
};
const ANY = ["wrong_type", "too_short", "too_long", "too_small", "too_large", "invalid_format", "not_allowed"];

test("queries: every parameter's bad values, unknown ones, cursors", async () => {
  const all = operations.flatMap((one): Refused[] => {
    const { method, path, query } = one;
    const asked = { method, ...sound(one) };
    const unknown = ["bogus=1", "__proto__=1", "constructor", "=x", "%zz=1", `api_key=${stage.api.key}`];
    return [
      ...unknown.map((text): Refused => {
        const [name] = new URLSearchParams(text).keys();
        return { ...asked, path: `${path}?${text}`, ...invalid(fault(`?${name}`, "unknown_field")) };
      }),
      ...[...query.keys()].flatMap((name): Refused[] => {
        if (name === "cursor") {
          const bad = ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAA", "%00", "a,b", "x".repeat(5_000)];
          return bad.map((cursor) => ({
            ...{ ...asked, path: `${path}?cursor=${cursor}`, status: 400, code: "invalid_cursor" },
          }));
        }
        if (name === "after") {
          const bad = ["", "x", "%00", "0000000000000000.0000000000000001"];
          return bad.map((after) => ({
            ...{ ...asked, path: `${path}?after=${after}`, status: [400, 422] },
            code: ["invalid_position", "validation_failed"],
          }));
        }
        expect(BAD_VALUES[name], `bad values for ?${name}`).toBeDefined();
        return (BAD_VALUES[name] ?? []).map((value) => ({
          ...{ ...asked, path: `${path}?${name}=${value}` },
          ...invalid(fault(`?${name}`, ...ANY)),
        }));
      }),
    ];
  });
  const worst = `/api/v1/rooms?limit=0&sort=size&active=1&from=x&bogus=1`;
  const paths = ["?limit", "?sort", "?active", "?from", "?bogus"];
  const each = paths.map((path) => fault(path, "unknown_field", ...ANY));
  await check([...all, { method: "GET", path: worst, headers: key, ...invalid(...each) }]);
});

test("headers: preconditions, positions, idempotency keys", async () => {
  const all = operations.flatMap((one): Refused[] => {
    const { method, path, headers: known } = one;
    const { headers: by, ...rest } = sound(one);
    const asked = { method, path, ...rest };
    const refuse = (name: string, values: readonly string[], ...codes: string[]) =>
      values.map((value): Refused => {
        const headers = { ...by, [name.toLowerCase()]: value };
        return { ...asked, headers, ...invalid(fault(`Header: ${name}`, ...codes)) };
      });
    // Where anybody may register, nobody's key is remembered.
    const isKeyed = known.includes("IdempotencyKey") && path !== "/api/v1/clients";
    const tags = ["17", '"17', '"1","2"', "nonsense", '"a"b"'];
    const keys = ["a b", "x".repeat(256), '""', "é", `"${"x".repeat(256)}"`, "a\tb"];
    const positions = ["x", "0", "0000000000000000.0000000000000001", "NONE", "x".repeat(1_000)];
    return [
      ...(known.includes("IfMatch") ? refuse("If-Match", tags, "invalid_format") : []),
      ...(isKeyed ? refuse("Idempotency-Key", keys, "too_short", "too_long", "invalid_format") : []),
      ...positions.flatMap((position): Refused[] => {
        const headers = { ...by, "read-after": position };
        return known.includes("ReadAfter") ? [{ ...asked, headers, status: 400, code: "invalid_position" }] : [];
      }),
    ];
  });
  const worst = { ...key, ...json, "idempotency-key": "a b" };
  const faults = [fault("Header: Idempotency-Key", "invalid_format"), fault("?x", "unknown_field")];
  const body = '{"name":5,"nmae":"x"}';
  await check([
    ...all,
    {
      ...{ method: "POST", path: "/api/v1/rooms?x=1", headers: worst, body },
      ...invalid(...faults, fault("name", "wrong_type"), { ...fault("nmae", "unknown_field"), near: "name" }),
    },
  ]);
});
