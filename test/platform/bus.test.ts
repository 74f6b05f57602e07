// The buses on real servers: what one node publishes the others hear, and a server that goes is used again when it is back.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type Position, positionOf } from "../../src/event-store/event-store.ts";
import { type Bus, Listeners, Outbox, postgresBus } from "../../src/platform/bus.ts";
import { redisBus } from "../../src/platform/redis.ts";
import { testDatabase } from "../support/postgres.ts";
import { missingRedis, testRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";

const LOG = "thislog";
const OWN = { logId: LOG, own: "here" };
const at = (value: number): Position => positionOf(LOG, value);

function heard(bus: Bus): Position[] {
  const positions: Position[] = [];
  bus.on("moved", (position) => positions.push(position));
  return positions;
}

function recorder() {
  const warnings: string[] = [];
  return { warnings, logger: { warn: (_fields: object, message: string) => warnings.push(message) } };
}

test("who listens hears each position of its topic and log until it stops, and nothing else", () => {
  const listeners = new Listeners();
  const [all, once, other]: [Position[], Position[], Position[]] = [[], [], []];
  listeners.add("moved", (position) => all.push(position));
  listeners.add("awaited", (position) => other.push(position));
  const listening = listeners.add("moved", (position) => once.push(position));
  const wrong = ["", "moved", "moved x", at(1), `read ${at(1)}`, `moved ${LOG}.`, `moved ${positionOf("another", 1)}`];
  for (const text of wrong) listeners.notify(text, LOG);
  listeners.notify(`moved ${at(1)}`, LOG);
  listening[Symbol.dispose]();
  listeners.notify(`moved ${at(2)}`, LOG);
  expect([all, once, other]).toEqual([[at(1), at(2)], [at(1)], []]);
});

test("a burst is sent as its newest position, one at a time, and a failure is passed over", async () => {
  const sent: string[] = [];
  let go = () => {};
  const outbox = new Outbox(async (text) => {
    sent.push(text);
    await new Promise<void>((resolve) => {
      go = resolve;
    });
    if (sent.length === 1) throw new Error("lost");
  }, OWN);
  for (let n = 1; n <= 100; n += 1) outbox.put("moved", at(n));
  await until(() => sent.length === 1);
  for (let n = 101; n <= 200; n += 1) outbox.put("moved", at(n));
  go();
  await until(() => sent.length === 2);
  go();
  await outbox.close();
  expect(sent).toEqual([`moved ${at(100)}`, `moved ${at(200)}`]);
});

test("signals go to the other nodes of the log, several in a message, in order, and no more of them wait than may", async () => {
  const sent: string[] = [];
  const outbox = new Outbox(async (text) => void sent.push(text), OWN);
  const signals = Array.from({ length: 6_000 }, (_, n) => `${n} ${"x".repeat(90)}`);
  outbox.putSignal("x".repeat(4_001));
  for (const signal of signals) outbox.putSignal(signal);
  const [here, there, foreign]: [string[], string[], string[]] = [[], [], []];
  const [own, other, elsewhere] = [new Listeners(), new Listeners(), new Listeners()];
  own.addSignal((text) => here.push(text));
  other.addSignal((text) => there.push(text));
  elsewhere.addSignal((text) => foreign.push(text));
  await until(() => sent.join("").includes("4999 x"));
  for (const text of sent) {
    own.notify(text, LOG, "here");
    other.notify(text, LOG, "there");
    elsewhere.notify(text, "another", "there");
  }
  expect([here, there, foreign]).toEqual([[], signals.slice(0, 5_000), []]);
  expect(Math.max(...sent.map((text) => Buffer.byteLength(text)))).toBeLessThan(8_000);
});

test("PostgreSQL: nodes hear each other, also after their connections were cut", async () => {
  await using database = await testDatabase();
  const { warnings, logger } = recorder();
  await using first = postgresBus({ url: database.url, logId: LOG, logger });
  await using second = postgresBus({ url: database.url, logId: LOG, logger });
  await using foreign = postgresBus({ url: database.url, logId: "another", logger });
  const [read, elsewhere] = [heard(second), heard(foreign)];
  await until(() => [first, second, foreign].every((bus) => bus.status().connected));
  first.publish("moved", at(1));
  await until(() => read.length === 1);
  await database.pool.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'chatapi bus'",
  );
  await until(() => warnings.length === 3);
  await until(() => first.status().connected && second.status().connected);
  first.publish("moved", at(2));
  await until(() => read.length === 2);
  const signals: string[] = [];
  for (const bus of [first, second]) bus.onSignal((text) => signals.push(`${bus === first} ${text}`));
  first.signal("one");
  first.signal("two");
  await until(() => signals.length === 2);
  expect(signals).toEqual(["false one", "false two"]);
  expect(elsewhere).toEqual([]);
  expect(first.status()).toEqual({ kind: "postgres", connected: true, lastError: null });
});

if (missingRedis !== undefined) console.log(missingRedis);
describe.skipIf(missingRedis !== undefined)("Redis", () => {
  test("nodes hear each other; gone, publishing is harmless and said once; back, it is used again", async () => {
    await using redis = await testRedis();
    const { warnings, logger } = recorder();
    await using first = redisBus({ url: redis.url, logId: LOG, logger });
    await using second = redisBus({ url: redis.url, logId: LOG, logger });
    const read = heard(second);
    const up = () => first.status().connected && second.status().connected;
    await until(up);
    first.publish("moved", at(1));
    await until(() => read.length === 1);

    await redis.kill();
    await until(() => !first.status().connected && !second.status().connected);
    for (let n = 2; n < 100; n += 1) first.publish("moved", at(n));
    await sleep(1_500);
    expect(warnings).toHaveLength(2);
    expect(first.status()).toMatchObject({ kind: "redis", connected: false, lastError: expect.any(String) });

    await redis.restart();
    await until(up);
    first.publish("moved", at(100));
    await until(() => read.length === 2);
    expect(read).toEqual([at(1), at(100)]);
    expect(warnings).toHaveLength(2);
    expect(first.status().lastError).toBeNull();
  });

  test("one that is not there at the start is used when it comes", async () => {
    await using redis = await testRedis();
    await redis.kill();
    const { warnings, logger } = recorder();
    await using bus = redisBus({ url: redis.url, logId: LOG, logger });
    await until(() => warnings.length === 1);
    expect(bus.status().connected).toBe(false);
    await redis.restart();
    await until(() => bus.status().connected);
    expect(warnings).toHaveLength(1);
  });
});
