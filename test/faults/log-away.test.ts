// EventStoreDB away for seconds under load: reads go on, writes are refused, and nothing acknowledged is missing.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, type Body, newClient, tokenOf, until } from "../e2e/support/api.ts";
import { missingOwnEventStore, type OwnEventStore, ownEventStore } from "../support/eventstored.ts";
import { startTestServer, type TestServer } from "../support/server.ts";
import { sized } from "../support/size.ts";

if (missingOwnEventStore !== undefined) console.info(missingOwnEventStore);

const AWAY_MS = sized(6_000, 15_000);
const ROOMS = 10;

describe.skipIf(missingOwnEventStore !== undefined)("EventStoreDB is away", { timeout: 300_000 }, () => {
  const stack = new AsyncDisposableStack();
  let eventStore: OwnEventStore;
  let server: TestServer;
  let api: Api;
  let user: Api;
  let rooms: readonly string[];
  const acknowledged: string[] = [];
  beforeAll(async () => {
    eventStore = stack.use(await ownEventStore());
    const config = { eventStore: { url: eventStore.url, prefix: `${randomUUID()}-` } };
    server = stack.use(await startTestServer({ config }));
    api = await newClient(server.url);
    user = api.as(await tokenOf(api, "ann"));
    const room = { name: "Room", members: [{ user_id: "ann" }] };
    rooms = await Promise.all(Array.from({ length: ROOMS }, async () => (await api.post("/rooms", room)).body.id));
  }, 180_000);
  afterAll(() => stack.disposeAsync());

  const post = async (room: string, content: string) => {
    const answer = await api.post(`/rooms/${room}/messages`, { sender_id: "ann", content });
    if (answer.status === 201) acknowledged.push(`${room} ${content}`);
    return answer;
  };

  test("keys and tokens read on, posts are 503 with Retry-After, and all that was acknowledged is there afterwards", async () => {
    const reads: { status: number; ms: number; away: boolean }[] = [];
    const writes: { status: number; retryAfter: string | null; away: boolean }[] = [];
    let away = false;
    let done = false;
    const reading = rooms.flatMap((room) =>
      [api, user].map(async (reader) => {
        while (!done) {
          const from = performance.now();
          const begun = away;
          const { status } = await reader.get(`/rooms/${room}/messages`);
          reads.push({ status, ms: performance.now() - from, away: begun });
          await sleep(50);
        }
      }),
    );
    const writing = rooms.map(async (room) => {
      for (let n = 0; !done; n += 1) {
        const begun = away;
        const { status, headers } = await post(room, `message ${n}`);
        writes.push({ status, retryAfter: headers.get("retry-after"), away: begun && away });
        await sleep(20);
      }
    });
    await sleep(sized(1_500, 3_000));
    const ready = async () => (await fetch(`${server.url}/readyz`)).status;
    expect(await until(ready, (status) => status === 200)).toBe(200);
    await eventStore.kill();
    away = true;
    await sleep(AWAY_MS);
    await eventStore.restart();
    away = false;
    await until(
      async () => (await post(rooms[0] ?? "", `back ${randomUUID()}`)).status,
      (status) => status === 201,
      60_000,
    );
    done = true;
    await Promise.all([...reading, ...writing]);

    const during = reads.filter((read) => read.away);
    const sorted = during.map(({ ms }) => ms).toSorted((a, b) => a - b);
    const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN;
    console.info(
      `${during.length} reads while it was away, p99 ${Math.round(p99)} ms; ${acknowledged.length} acknowledged`,
    );
    expect(during.length).toBeGreaterThan(2 * ROOMS);
    expect(during.filter(({ status }) => status !== 200)).toEqual([]);
    const refused = writes.filter((write) => write.away);
    expect(refused.length).toBeGreaterThan(0);
    expect(new Set(refused.map(({ status }) => status))).toEqual(new Set([503]));
    expect(refused.filter(({ retryAfter }) => !(Number(retryAfter) >= 1))).toEqual([]);

    const listed = async () => {
      const all: string[] = [];
      for (const room of rooms) {
        let cursor = "";
        do {
          const { body } = await api.get(`/rooms/${room}/messages?limit=100${cursor}`);
          all.push(...body.data.map(({ content }: Body) => `${room} ${content}`));
          cursor = body.next_cursor === null ? "" : `&cursor=${encodeURIComponent(body.next_cursor)}`;
        } while (cursor !== "");
      }
      return new Set(all);
    };
    const missing = async () => {
      const there = await listed();
      return acknowledged.filter((one) => !there.has(one));
    };
    expect(await until(missing, (left) => left.length === 0, 60_000)).toEqual([]);
  });
});
