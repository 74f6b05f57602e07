// Searching messages over HTTP: who finds what, and how it is shown.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Awaited<ReturnType<typeof newClient>>;
let max: Api;
let rooms: { readonly own: string; readonly open: string };
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  const roomOf = async (kind: string, users: readonly string[]) =>
    (await api.post("/rooms", { name: "Team", kind, members: users.map((user_id) => ({ user_id, role: "owner" })) }))
      .body.id;
  rooms = { own: await roomOf("private", ["anna", "max"]), open: await roomOf("public", ["anna"]) };
  max = api.as(await tokenOf(api, "max"));
  await post(rooms.own, "The penguin & its <mark>");
  await post(rooms.open, "A penguin in public");
});
afterAll(() => server[Symbol.asyncDispose]());

const post = async (room: string, content: string, more: object = {}) =>
  (await api.post(`/rooms/${room}/messages`, { sender_id: "anna", content, ...more })).body;
/** After what the key has written: a caller waits for its own writes alone. */
const search = async (by: Pick<Api, "get">, q: string, more = ""): Promise<Answer> => {
  await api.get("/rooms?limit=1");
  return by.get(`/messages/search?q=${encodeURIComponent(q)}${more}`);
};
const contents = ({ body }: Answer): string[] => body.data.map(({ message }: Body) => message.content).toSorted();
const faults = ({ status, body }: Answer) => [status, body.errors?.map(({ path, code }: Body) => [path, code])];

test("a client's key finds messages of all rooms, a user's token finds what its user may see", async () => {
  expect(contents(await search(api, "PENGUIN"))).toEqual(["A penguin in public", "The penguin & its <mark>"]);
  expect(contents(await search(max, "PENGUIN"))).toEqual(["The penguin & its <mark>"]);
  expect(contents(await search(max, "penguin", `&room_id=${rooms.open}`))).toEqual([]);
  expect(contents(await search(await newClient(server.url), "penguin"))).toEqual([]);
});

test("a result is the message as it is read, with a score, and what was found in HTML", async () => {
  const { body } = await search(max, "its mark*");
  const { message, score, highlight } = body.data[0];
  expect(highlight).toBe("The penguin &amp; <mark>its</mark> &lt;<mark>mark</mark>&gt;");
  expect(score).toBeGreaterThan(0);
  expect((await max.get(`/rooms/${rooms.own}/messages/${message.id}`)).body).toEqual(message);
});

test("a message is found as it is after its edits, and not while it is deleted", async () => {
  const { id } = await post(rooms.own, "walrus", { mentions: ["max"] });
  const at = `/rooms/${rooms.own}/messages/${id}`;
  expect(contents(await search(max, "walrus", "&mentions=max&sender_id=anna&type=text"))).toEqual(["walrus"]);
  await api.patch(at, { content: "sea lion" });
  expect(contents(await search(max, "walrus"))).toEqual([]);
  expect(contents(await search(max, '"sea lion"'))).toEqual(["sea lion"]);
  await api.delete(at);
  expect(contents(await search(max, "sea"))).toEqual([]);
  await api.post(`${at}/restore`, {});
  expect(contents(await search(max, "sea"))).toEqual(["sea lion"]);
});

test("a message to everyone mentions whoever is looked for", async () => {
  await post(rooms.own, "pelican for all", { mentions: ["@everyone"] });
  await post(rooms.own, "pelican for nobody");
  expect(contents(await search(max, "pelican", "&mentions=max"))).toEqual(["pelican for all"]);
});

test("pages lead on from each other, without what came meanwhile", async () => {
  for (const n of [1, 2, 3]) await post(rooms.own, `heron ${n}`);
  const first = await search(max, "heron", "&limit=2");
  await post(rooms.own, "heron heron heron");
  const second = (await max.get(`/messages/search?q=heron&limit=2&cursor=${first.body.next_cursor}`)) as Answer;
  expect([...contents(first), ...contents(second)].toSorted()).toEqual(["heron 1", "heron 2", "heron 3"]);
  expect(second.body.next_cursor).toBeNull();
});

test("a query without a term that is to be found, with too many or too long is refused", async () => {
  expect(faults(await search(api, "-x"))).toEqual([422, [["?q", "invalid_format"]]]);
  expect(faults(await search(api, "x ".repeat(17)))).toEqual([422, [["?q", "too_long"]]]);
  expect(faults(await search(api, "x".repeat(257)))).toEqual([422, [["?q", "too_long"]]]);
  expect(faults(await api.get("/messages/search"))).toEqual([422, [["?q", "required"]]]);
});
