// Bodies: what is too large, of another type, no JSON, or JSON that must do no harm.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, newClient } from "../../e2e/support/api.ts";
import { processorMs } from "../../support/processor-time.ts";
import { breakOff, raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const MIB = 1024 * 1024;
const json = { "content-type": "application/json" };
const put = (body: string | Uint8Array, headers: Record<string, string> = json) =>
  raw(server.url, "/api/v1/users/bob", {
    method: "PUT",
    headers: { authorization: `Bearer ${api.key}`, ...headers },
    body,
  });

describe("size", () => {
  test("is at most 1 MiB, announced or not", async () => {
    const exact = `{"name":"x"}${" ".repeat(MIB - 12)}`;
    expect((await put(exact)).status).toBe(201);
    for (const body of [`${exact} `, "x".repeat(5 * MIB)]) {
      const answer = await put(body);
      expect([answer.status, answer.body.code, answer.body.max_bytes]).toEqual([413, "body_too_large", MIB]);
    }
    const chunked = await fetch(`${server.url}/api/v1/users/bob`, {
      method: "PUT",
      headers: { authorization: `Bearer ${api.key}`, ...json },
      body: new Blob([randomBytes(3 * MIB)]).stream(),
      duplex: "half",
    });
    expect(chunked.status).toBe(413);
  });

  test("is counted before its type is looked at", async () => {
    expect((await put("x".repeat(2 * MIB), { "content-type": "text/plain" })).status).toBe(413);
  });
});

describe("type", () => {
  test.each([
    ["application/json", 200],
    ["application/json; charset=utf-8", 200],
    ['APPLICATION/JSON;charset="UTF-8"', 200],
    ["application/json;charset=utf8", 200],
    ['application/json ; version="1; 2"; Charset = UTF-8', 200],
    ["application/json; odata=verbose;", 200],
    ["application/json; charset=latin1", 415],
    ['application/json; charset="utf-16"', 415],
    ["application/jsonp", 415],
    ["application/x-www-form-urlencoded", 415],
    ["text/plain;charset=UTF-8", 415],
    ["application/merge-patch+json", 415],
    ["", 415],
  ])("%s is %i", async (type, status) => {
    await put('{"name":"x"}');
    const answer = await put('{"name":"x"}', { "content-type": type });
    expect([answer.status, answer.body.code]).toEqual([status, status === 415 ? "unsupported_media_type" : undefined]);
  });

  test("is a merge patch where one is meant, and nothing compressed", async () => {
    const patch = { authorization: `Bearer ${api.key}`, "content-type": "application/merge-patch+json" };
    const answer = await raw(server.url, "/api/v1/users/bob", { method: "PATCH", headers: patch, body: "{}" });
    expect(answer.status).toBe(200);
    expect((await put("{}", { ...json, "content-encoding": "gzip" })).status).toBe(415);
    expect((await put("{}", { ...json, "content-encoding": "identity" })).status).toBe(200);
  });

  test("of any length is told in no time", async () => {
    const types = [" ", ";", "; charset=", '"'].map(
      (part) => `application/merge-patch+json${part.repeat(15_000 / part.length)}x`,
    );
    const spent = await processorMs(async () => {
      for (const type of types) expect((await put("{}", { ...json, "content-type": type })).status).toBe(415);
    });
    expect(spent).toBeLessThan(1_000);
  });

  test("does not matter when nothing is sent: an absent body is an empty object", async () => {
    expect((await put("", {})).status).toBe(200);
    expect((await put("", { "content-type": "text/plain" })).status).toBe(200);
  });
});

describe("JSON", () => {
  const bytes = (...list: number[]) => Buffer.from(list);
  test.each([
    ["nothing that parses", "{"],
    ["text", "hello"],
    ["a comma too many", '{"name":"x",}'],
    ["two values", "{}{}"],
    ["a comment", "{/* */}"],
    ["NaN", '{"name":NaN}'],
    ["a raw NUL", '{"name":"\0"}'],
    ["bytes that are no UTF-8", Buffer.concat([Buffer.from('{"name":"'), bytes(0xc3, 0x28), Buffer.from('"}')])],
    ["UTF-8 of a surrogate", Buffer.concat([Buffer.from('{"name":"'), bytes(0xed, 0xa0, 0x80), Buffer.from('"}')])],
    ["UTF-16", Buffer.from('{"name":"x"}', "utf16le")],
    ["33 levels of objects", `${'{"meta":'.repeat(33)}1${"}".repeat(33)}`],
    ["33 levels of arrays", `${"[".repeat(33)}${"]".repeat(33)}`],
    ["100,000 levels", `${"[".repeat(100_000)}${"]".repeat(100_000)}`],
    ["100,000 levels that do not end", "[".repeat(100_000)],
  ])("%s is malformed", async (_what, body) => {
    const answer = await put(body);
    expect([answer.status, answer.body.code]).toEqual([400, "malformed_json"]);
  });

  test("may be 32 levels deep", async () => {
    const answer = await put(`{"meta":${'{"a":'.repeat(31)}1${"}".repeat(31)}}`);
    expect(answer.status).toBe(200);
  });

  test("of the wrong kind is one fault of the body", async () => {
    for (const body of ["null", "[]", "5", '"text"', "true"]) {
      const answer = await put(body);
      expect([answer.status, answer.body.errors], body).toEqual([
        422,
        [{ path: "", code: "wrong_type", message: "must be an object" }],
      ]);
    }
  });

  test("with a byte order mark, duplicate fields (the last counts) and minus zero is taken", async () => {
    const answer = await put('\ufeff{"name":"a","name":"b","meta":{"n":-0,"e":1e3}}');
    expect([answer.status, answer.body.name, answer.body.meta]).toEqual([200, "b", { n: 0, e: 1_000 }]);
  });

  test("keeps what is odd but harmless", async () => {
    const meta = {
      constructor: "c",
      toString: 1,
      hasOwnProperty: null,
      "": "empty",
      "a.b": [],
      "😀": "👩‍👩‍👧",
      $sealed: [[0, 0]],
      "\u2028": "x",
    };
    const answer = await put(JSON.stringify({ name: "👩‍👩‍👧", meta }));
    expect(answer.status).toBe(200);
    expect(answer.body.meta).toEqual(meta);
    expect((await api.get("/users/bob")).body.meta).toEqual(meta);
  });
});

describe("what no field may hold", () => {
  const faults = async (body: string) => {
    const answer = await put(body);
    expect([answer.status, answer.body.code], body).toEqual([422, "validation_failed"]);
    return answer.body.errors.map(({ path, code }: { path: string; code: string }) => `${path} ${code}`);
  };

  test("NUL and lone surrogates, in values and names", async () => {
    expect(await faults('{"name":"a\\u0000b"}')).toEqual(["name invalid_format"]);
    expect(await faults('{"name":"\\ud800"}')).toEqual(["name invalid_format"]);
    expect(await faults('{"meta":{"list":["ok",{"x":"\\udc00\\ud800"}]}}')).toEqual(["meta.list.1.x invalid_format"]);
    expect(await faults('{"meta":{"a\\u0000":1}}')).toEqual(["meta.a\0 invalid_format"]);
    expect((await put('{"name":"\\ud83d\\ude00"}')).status).toBe(200);
  });

  test("numbers that are none here", async () => {
    expect(await faults('{"meta":{"big":1e400,"small":-1e400}}')).toEqual([
      "meta.big too_large",
      "meta.small too_large",
    ]);
    expect((await put(`{"meta":{"n":${"9".repeat(300)}}}`)).status).toBe(200);
  });

  test("names that could reach prototypes", async () => {
    expect(await faults('{"__proto__":{"name":"x"}}')).toEqual(["__proto__ unknown_field"]);
    expect(await faults('{"meta":{"a":{"__proto__":{"admin":true}}}}')).toEqual(["meta.a.__proto__ not_allowed"]);
    expect(await faults('{"constructor":{"prototype":{"x":1}}}')).toEqual(["constructor unknown_field"]);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  test("a flood of faults is cut, not fatal", async () => {
    const body = JSON.stringify(Object.fromEntries(Array.from({ length: 50_000 }, (_, index) => [`field${index}`, 1])));
    const answer = await put(body);
    expect([answer.status, answer.body.errors.length]).toEqual([422, 1_000]);
  });
});

test("callers that break off do no harm", async () => {
  const before = server.logged.length;
  const head = `PUT /api/v1/users/bob HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${api.key}\r\nContent-Type: application/json\r\n`;
  await breakOff(server.url, `${head}Content-Length: 1000\r\n\r\n{"name":`);
  await breakOff(server.url, `${head}Transfer-Encoding: chunked\r\n\r\n5\r\n{"nam\r\n`);
  await breakOff(server.url, "GET /livez HTTP/1.1\r\nHost: loc");
  await breakOff(server.url, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
  expect((await api.get("/clients/me")).status).toBe(200);
  expect(server.logged.slice(before)).toEqual([]);
});
