// A growing message whose writer and readers are cut at any point, and whose node is killed: the same text, and two events.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { codePoints } from "../../src/contract/fields.ts";
import { type Api, apiOf, type Body, tokenOf } from "../e2e/support/api.ts";
import { registeredClient } from "../e2e/support/setups.ts";
import { seed } from "../support/seed.ts";
import { sized, sizedTimeout } from "../support/size.ts";
import { startTwoServers } from "../support/two-servers.ts";
import { urlOf } from "./support/failpoint-runs.ts";
import { openScene, type Scene } from "./support/failpoint-scene.ts";
import { bySocket, byStream, GrowingReader } from "./support/growing-reader.ts";
import { killBoth } from "./support/kill-postgres.ts";
import { pick, type Random, seeded } from "./support/random.ts";

/** 200 a second, for one second or thirty. */
const APPENDS = sized(200, 6_000);
const EVERY_MS = 5;
/** Appends whose answer nobody waits for, and cuts of a reader: one in so many. */
const CUT_ONE_IN = 25;
const TOKENS = ["The", " answer", " é", "語", "👋🏽", "\n", " 42", "ß", ", ", "👩‍👩‍👧‍👦"];

const TIMEOUT_MS = sizedTimeout(120_000, 600_000);

async function roomOf(api: Api): Promise<string> {
  const members = [{ user_id: "assistant" }, { user_id: "ann" }];
  return (await api.post("/rooms", { name: "Talk", members })).body.id;
}
const begin = async (api: Api, room: string): Promise<Body> =>
  (await api.post(`/rooms/${room}/messages`, { sender_id: "assistant", content: "", state: "growing" })).body;
const append = (api: Api, room: string, id: string, piece: { readonly text: string; readonly offset: number }) =>
  api.post(`/rooms/${room}/messages/${id}/append`, piece);

/** Sends an append and goes away without its answer: it may come to the server now, later or never. */
async function sendAndLeave({ url, key }: Api, path: string, piece: object): Promise<void> {
  const gone = new AbortController();
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const about = { method: "POST", headers, body: JSON.stringify(piece), signal: gone.signal };
  const sent = fetch(`${url}/api/v1${path}`, about).catch(() => undefined);
  await sleep(1);
  gone.abort();
  await sent;
}

test(
  `${APPENDS} appends, 200 a second at most, cut and resumed at any point: the same text, and two events (seed ${seed})`,
  async () => {
    await using servers = await startTwoServers();
    const apis = await servers.newClient();
    const [api] = apis;
    const room = await roomOf(api);
    const ann = await tokenOf(api, "ann");
    const { storage } = servers.first;
    const before = await storage.store.tail();
    const { id, seq } = await begin(api, room);
    const random = seeded(seed);
    const ways = apis.flatMap(({ url }) => [bySocket(url, ann, room), byStream(url, ann, room)]);
    using open = new DisposableStack();
    const reader = async (first: number): Promise<GrowingReader> => {
      const turned = [...ways.slice(first), ...ways.slice(0, first)];
      const one = open.use(new GrowingReader(id, seq - 1, turned));
      await one.connect();
      return one;
    };
    const readers = await Promise.all(ways.map((_, first) => reader(first)));
    const figures = { left: 0, cuts: 0, late: 0 };
    let text = "";
    const begun = performance.now();
    for (let n = 0; n < APPENDS; n += 1) {
      await sleep(Math.max(0, begun + n * EVERY_MS - performance.now()));
      const piece = { text: pick(random, TOKENS), offset: codePoints(text) };
      text += piece.text;
      if (random.below(CUT_ONE_IN) === 0) {
        figures.left += 1;
        await sendAndLeave(pick(random, apis), `/rooms/${room}/messages/${id}/append`, piece);
      }
      const { status, body } = await append(pick(random, apis), room, id, piece);
      expect([status, body.code]).toEqual([200, undefined]);
      if (random.below(CUT_ONE_IN) === 0) {
        figures.cuts += 1;
        await pick(random, readers).connect();
      }
      if (random.below(APPENDS / 4) === 0) {
        figures.late += 1;
        readers.push(await reader(random.below(ways.length)));
      }
    }
    const seconds = ((performance.now() - begun) / 1_000).toFixed(1);
    console.log(`${APPENDS} appends in ${seconds} s: ${codePoints(text)} characters, ${JSON.stringify(figures)}`);
    await Promise.all(readers.map((one) => one.has(text)));
    const done = await apis[1].post(`/rooms/${room}/messages/${id}/complete`, {});
    expect(done.body).toMatchObject({ content: text, state: "complete" });
    expect(await Promise.all(readers.map((one) => one.end()))).toEqual(readers.map(() => text));
    expect(readers.flatMap(({ faults }) => faults)).toEqual([]);
    const events = await storage.store.readAll({ after: before, limit: 10 });
    expect(events.map(({ type }) => type)).toEqual(["MessagePosted", "MessageCompleted"]);
  },
  TIMEOUT_MS,
);

/** Appends one token after the other until the node is gone; how long the text was at each answer, and when. */
async function writeUntilGone(api: Api, room: string, id: string, random: Random, over: AbortSignal) {
  const answered: { readonly length: number; readonly at: number }[] = [];
  let text = "";
  let last = { text: "", offset: 0 };
  while (!over.aborted) {
    last = { text: pick(random, TOKENS), offset: codePoints(text) };
    text += last.text;
    const answer = await append(api, room, id, last).catch(() => undefined);
    if (answer === undefined || answer.status >= 500) break; // it is dying
    expect([answer.status, answer.body.code]).toEqual([200, undefined]);
    answered.push({ length: codePoints(text), at: performance.now() });
  }
  return { text, last, answered };
}

/** What stands in the log of a room's messages; the use of a key is noted once an hour. */
const typesIn = async (scene: Scene, room: string): Promise<readonly string[]> => {
  const events = await scene.events();
  const posted = events.findIndex(({ stream, type }) => stream === `room-${room}` && type === "MessagePosted");
  return events.slice(posted).flatMap(({ type }) => (type === "KeyUsed" ? [] : [type]));
};

describe("whose node is killed", () => {
  /** How much was appended before, so that it is there at each point of a piece. */
  const APPENDED = 60;
  /** What the crash of a database may lose. */
  const LOST_MS = 1_000;

  test(
    "has all that was answered, and its writer and readers go on at another node",
    async () => {
      await using scene = await openScene("postgres");
      const [dying, living] = [scene.launch(), scene.launch()];
      const first: Api = await registeredClient(await urlOf(dying), scene.receivers.mailbox);
      const second = apiOf(await urlOf(living), first.key);
      const room = await roomOf(first);
      const ann = await tokenOf(first, "ann");
      const { id, seq } = await begin(first, room);
      using near = new GrowingReader(id, seq - 1, [bySocket(second.url, ann, room)]);
      using cut = new GrowingReader(id, seq - 1, [byStream(first.url, ann, room), byStream(second.url, ann, room)]);
      for (const one of [near, cut]) await one.connect();
      const writing = writeUntilGone(first, room, id, seeded(seed), dying.over);
      while ((await second.get(`/rooms/${room}/messages/${id}`)).body.content.length < APPENDED) await sleep(5);
      await dying.kill();
      const { text, last, answered } = await writing;
      const there: string = (await second.get(`/rooms/${room}/messages/${id}`)).body.content;
      expect(text.startsWith(there)).toBe(true);
      expect(codePoints(there)).toBeGreaterThanOrEqual(answered.at(-1)?.length ?? 0);
      await cut.connect();
      // Nobody knows whether the last piece came: it is sent again.
      expect((await append(second, room, id, last)).body.content).toBe(text);
      const end = { text: " The end.", offset: codePoints(text) };
      expect((await append(second, room, id, end)).status).toBe(200);
      const whole = text + end.text;
      await Promise.all([near.has(whole), cut.has(whole)]);
      expect((await second.post(`/rooms/${room}/messages/${id}/complete`, {})).body.content).toBe(whole);
      for (const one of [near, cut]) expect([await one.end(), one.faults]).toEqual([whole, []]);
      expect(await typesIn(scene, room)).toEqual(["MessagePosted", "MessageCompleted"]);
    },
    TIMEOUT_MS,
  );

  test(
    "with its PostgreSQL, has all but what was answered in the last second, and its writer is told where it is",
    async () => {
      await using scene = await openScene("embedded");
      const dying = scene.launch();
      const api: Api = await registeredClient(await urlOf(dying), scene.receivers.mailbox);
      const room = await roomOf(api);
      const { id } = await begin(api, room);
      const writing = writeUntilGone(api, room, id, seeded(seed), dying.over);
      const begun = performance.now();
      while (performance.now() < begun + 2 * LOST_MS) await sleep(50);
      const killedAt = performance.now();
      await killBoth(scene, dying, false);
      const { text, answered } = await writing;
      const kept = answered.findLast(({ at }) => at < killedAt - LOST_MS)?.length ?? 0;
      expect(kept).toBeGreaterThan(0);
      const again = apiOf(await urlOf(scene.launch()), api.key);
      const { body } = await again.get(`/rooms/${room}/messages/${id}`);
      expect(text.startsWith(body.content)).toBe(true);
      expect(codePoints(body.content)).toBeGreaterThanOrEqual(kept);
      const beyond = await append(again, room, id, { text: "!", offset: codePoints(text) + 1 });
      expect([beyond.body.code, beyond.body.expected]).toEqual(["offset_mismatch", codePoints(body.content)]);
      const rest = { text: `${text.slice(body.content.length)}!`, offset: beyond.body.expected };
      expect((await append(again, room, id, rest)).body.content).toBe(`${text}!`);
      expect((await again.post(`/rooms/${room}/messages/${id}/complete`, {})).body.content).toBe(`${text}!`);
      expect(await typesIn(scene, room)).toEqual(["MessagePosted", "MessageCompleted"]);
    },
    TIMEOUT_MS,
  );
});
