// Appends to messages that grow, and their ends, that are sent again or rest on an ETag, on two nodes.
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { HOUR_MS } from "../../../src/contract/time.ts";
import { endSilent } from "../../../src/workers/growing-messages.ts";
import { type Api, type Body, tokenOf } from "../../e2e/support/api.ts";
import { startTwoServers, type TwoServers } from "../../support/two-servers.ts";

let servers: TwoServers;
/** The client's key on each node, and Max on each. */
let apis: readonly [Api, Api];
let maxes: readonly [Api, Api];
let path: string;

beforeAll(async () => {
  servers = await startTwoServers();
  apis = await servers.newClient();
  const token = await tokenOf(apis[0], "max");
  maxes = [apis[0].as(token), apis[1].as(token)];
});
afterAll(() => servers[Symbol.asyncDispose]());
beforeEach(async () => {
  const { body } = await apis[0].post("/rooms", { name: "Talk", members: [{ user_id: "max" }] });
  path = `/rooms/${body.id}/messages`;
});

const begin = async (content = ""): Promise<Body> => (await maxes[0].post(path, { content, state: "growing" })).body;
const append = (id: string, text: string, offset: number) => maxes[0].post(`${path}/${id}/append`, { text, offset });
const read = async (id: string): Promise<Body> => (await maxes[0].get(`${path}/${id}`)).body;
const codes = async (...asked: Promise<{ status: number; body: Body }>[]) =>
  (await Promise.all(asked)).map(({ status, body }) => `${status} ${body.code}`);

/** What the workers do every few seconds, so much later. */
async function sweepAfter(ms: number): Promise<void> {
  const { growing, commands, readSide, logger, newId } = servers.second.services;
  const now = () => Date.now() + ms;
  await endSilent({ growing, commands, readSide, logger, newId, now }, new AbortController().signal);
}

test("an append under an idempotency key is done once, and answered as the first time for a day", async () => {
  const { id } = await begin();
  const keyed = async (text: string, offset: number, key = "append-1", by: Api = maxes[1]) => {
    const { status, body, headers } = await by.call(
      "POST",
      `${path}/${id}/append`,
      { text, offset },
      { "idempotency-key": key },
    );
    return [status, body.code ?? body.content, headers.get("idempotent-replayed")];
  };
  const reused = [422, "idempotency_key_reused", null];
  expect(await keyed("Hello", 0, "append-1", maxes[0])).toEqual([200, "Hello", null]);
  await append(id, " 👋", 5);
  expect(await keyed("Hello", 0)).toEqual([200, "Hello", "true"]);
  expect(await keyed("!", 7)).toEqual(reused);
  expect(await keyed("Hello", 0, "append-1", apis[0])).toEqual([200, "Hello 👋", null]);
  // What was refused, or adds nothing, leaves its key free.
  expect(await keyed("?", 0, "append-2")).toEqual([409, "offset_mismatch", null]);
  expect(await keyed(" 👋", 5, "append-2")).toEqual([200, "Hello 👋", null]);
  expect(await keyed("!", 7, "append-2")).toEqual([200, "Hello 👋!", null]);
  expect(await read(id)).toMatchObject({ content: "Hello 👋!", state: "growing" });
  // Its answer may have been lost with the last append: once it has ended, it is shown as it is.
  await maxes[0].post(`${path}/${id}/complete`, { content: "Anew" });
  expect(await keyed("!", 7, "append-2")).toEqual([200, "Anew", "true"]);
  expect(await keyed("?", 7, "append-2")).toEqual(reused);
  expect(await keyed("?", 7, "append-3")).toEqual([409, "not_growing", null]);
  await sweepAfter(23 * HOUR_MS);
  expect(await keyed("!", 7, "append-2")).toEqual([200, "Anew", "true"]);
  await sweepAfter(25 * HOUR_MS);
  expect(await keyed("!", 7, "append-2")).toEqual([409, "not_growing", null]);
});

test("a key that another node uses meanwhile is not used again", async () => {
  const { id } = await begin();
  const send = (text: string, offset: number, by: Api) =>
    by.call("POST", `${path}/${id}/append`, { text, offset }, { "idempotency-key": "on-two-nodes" });
  const { growing } = servers.first.services;
  const used = growing.used.bind(growing);
  const looking = vi.spyOn(growing, "used").mockImplementationOnce(async (key) => {
    const found = await used(key);
    expect((await send("Hello", 0, maxes[1])).status).toBe(200);
    return found;
  });
  expect(await codes(send("!", 5, maxes[0]))).toEqual(["422 idempotency_key_reused"]);
  looking.mockRestore();
  expect((await read(id)).content).toBe("Hello");
});

test("is appended to and ended with the ETag that it has, or with none", async () => {
  const { id } = await begin("a");
  const call = (what: string, body: Body, etag: string) =>
    maxes[0].call("POST", `${path}/${id}/${what}`, body, { "if-match": etag });
  const stale = [
    call("append", { text: "b", offset: 1 }, '"1"'),
    call("complete", {}, '"3"'),
    call("cancel", {}, '"1"'),
  ];
  expect(await codes(...stale)).toEqual(Array(3).fill("412 precondition_failed"));
  expect(await codes(call("complete", {}, "2"))).toEqual(["422 validation_failed"]);
  expect((await call("append", { text: "b", offset: 1 }, '"2"')).body.content).toBe("ab");
  const done = await call("complete", {}, '"1", "2"');
  expect([done.status, done.body.content, done.headers.get("etag")]).toEqual([200, "ab", '"3"']);
  expect(await codes(call("complete", {}, '"2"'))).toEqual(["412 precondition_failed"]);
  expect((await call("complete", {}, '"3"')).status).toBe(200);
});
