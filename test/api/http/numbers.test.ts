// Numbers that a double does not hold: passed on digit by digit, told apart, and refused where a number is meant.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Api, newClient, until } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

const LONG = "1152921504606846977";

let server: TestServer;
let api: Api;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

/** A request with a body as it is written. */
const send = (method: string, path: string, body?: string, headers: Record<string, string> = {}) =>
  raw(server.url, `/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${api.key}`, "content-type": "application/json", ...headers },
    ...(body === undefined ? {} : { body }),
  });

test("are kept in the meta of rooms, members, messages and users, in answers, lists and the audit", async () => {
  const meta = `{"id":${LONG}}`;
  const made = await send("POST", "/rooms", `{"name":"R","members":[{"user_id":"ada"}],"meta":${meta}}`);
  expect(made.text).toContain(`"meta":${meta}`);
  const at = `/rooms/${made.body.id}`;
  const paths = [at, "/rooms", `${at}/members`, `${at}/messages`, "/users/ada", "/users", "/audit/events"];
  await send("PUT", `${at}/members/ada`, `{"meta":${meta}}`);
  await send("POST", `${at}/messages`, `{"sender_id":"ada","content":"hi","meta":${meta}}`);
  await send("PUT", "/users/ada", `{"meta":${meta}}`);
  await send("PATCH", at, `{"meta":{"other":-${LONG}.5}}`);
  for (const path of paths) expect((await send("GET", path)).text, path).toContain(`"id":${LONG}`);
  expect((await send("GET", at)).text).toContain(`"other":-${LONG}.5`);
});

test("are kept in the content of a webhook", async () => {
  const content = `{"order":${LONG},"list":[${LONG}]}`;
  const body = `{"type":"webhook","url":"http://127.0.0.1:8999/","content":${content},"meta":{"n":${LONG}}}`;
  const sent = await send("POST", "/notifications", body);
  expect(sent.text).toContain(`"content":${content}`);
  const read = await until(
    () => send("GET", `/notifications/${sent.body.id}`),
    ({ status }) => status === 200,
  );
  expect(read.text).toContain(`"content":${content}`);
  expect(read.text).toContain(`"meta":{"n":${LONG}}`);
});

test("make another body of the same key when a digit differs", async () => {
  const key = { "idempotency-key": "long" };
  const bodyOf = (last: number) => `{"name":"R","meta":{"id":115292150460684697${last}}}`;
  expect((await send("POST", "/rooms", bodyOf(6), key)).status).toBe(201);
  const again = await send("POST", "/rooms", bodyOf(6), key);
  expect([again.status, again.headers["idempotent-replayed"]]).toEqual([201, "true"]);
  const other = await send("POST", "/rooms", bodyOf(7), key);
  expect([other.status, other.body.code]).toEqual([422, "idempotency_key_reused"]);
});

test("are refused by name where a number is meant", async () => {
  const { body: room } = await send("POST", "/rooms", '{"name":"R","members":[{"user_id":"ada"}]}');
  const refused = await send("PUT", `/rooms/${room.id}/reads/ada`, `{"seq":${LONG}}`);
  expect([refused.status, refused.body.errors[0].path]).toEqual([422, "seq"]);
});
