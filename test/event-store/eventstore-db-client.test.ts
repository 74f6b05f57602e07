// What the EventStoreDB client gets wrong, and what must come of it: nothing.

import { randomUUID } from "node:crypto";
import { binaryEvent, EventStoreDBClient } from "@eventstore/db-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type EventStore, NO_STREAM, OutcomeUnknown } from "../../src/event-store/event-store.ts";
import {
  type EventStoreDbOptions,
  holdStrayRejections,
  openEventStoreDb,
} from "../../src/event-store/eventstoredb/log.ts";
import { eventually, newEvent, newEvents, newStream } from "../contracts/subject.ts";
import { missingEventStore, type TestEventStore, testEventStore } from "../support/eventstored.ts";
import { isLong, sized } from "../support/size.ts";
import { withoutRunnersListeners } from "./unheard-rejections.ts";

/** More than the client may have in flight, many times over. */
const BURST = sized(2_000, 8_000);

if (missingEventStore !== undefined) console.info(missingEventStore);

describe.skipIf(missingEventStore !== undefined)("with the client of EventStoreDB", { timeout: 120_000 }, () => {
  let server: TestEventStore;
  let runners: Disposable;
  beforeAll(async () => {
    runners = withoutRunnersListeners();
    server = await testEventStore();
  }, 180_000);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    runners[Symbol.dispose]();
  });
  const open = (options: Partial<EventStoreDbOptions> = {}) =>
    openEventStoreDb({ url: server.url, prefix: `${randomUUID()}-`, ...options });

  const appendOne = (store: EventStore) => store.append(newStream(), NO_STREAM, newEvents(1));
  const outcome = (appended: Promise<unknown>) =>
    appended.then(
      () => "written",
      (error: Error) => error.name,
    );

  test("the end of another client leaves ours deaf; it is replaced, and the stray rejections end nothing", async () => {
    const warnings: string[] = [];
    const logger = { warn: (_: object, message: string) => warnings.push(message) };
    await using store = await open({ appendTimeoutMs: 1_000, logger });
    const event = binaryEvent({ type: "Other", data: new Uint8Array(1) });
    await eventually(async () => {
      const other = EventStoreDBClient.connectionString(server.url);
      await other.appendToStream(newStream(), event);
      // Its end rejects what ours has under way; the late reply then breaks our stream.
      const appending = Array.from({ length: 300 }, () => outcome(appendOne(store)));
      await other.appendToStream(newStream(), event);
      const ending = new Promise((resolve) => setTimeout(resolve, 2)).then(() => other.dispose());
      expect(await Promise.all(appending)).toContain(OutcomeUnknown.name);
      await ending;
      await eventually(async () => expect(await outcome(appendOne(store))).toBe("written"));
      for (const said of ["nobody waits for", "connecting anew"])
        expect(warnings).toContainEqual(expect.stringContaining(said));
    });
    // In time, all of them: on a machine that is busy a burst may be slower than an append may take.
    await eventually(async () => {
      const after = await Promise.all(Array.from({ length: 300 }, () => outcome(appendOne(store))));
      expect(new Set(after)).toEqual(new Set(["written"]));
    });
  });

  test("logs open and close while another writes, and it does not notice", async () => {
    await using store = await open();
    let writing = true;
    const writers = Array.from({ length: 50 }, async () => {
      const outcomes = new Set<string>();
      while (writing) outcomes.add(await outcome(appendOne(store)));
      return [...outcomes];
    });
    for (let round = 0; round < 10; round += 1) {
      await using brief = await open();
      await Promise.all(Array.from({ length: 20 }, () => appendOne(brief)));
    }
    writing = false;
    expect(new Set((await Promise.all(writers)).flat())).toEqual(new Set(["written"]));
  });

  test("a burst of appends of 20 KB is written, whole, without more memory than its bounds allow", async () => {
    const warnings: string[] = [];
    const logger = { warn: (_: object, message: string) => warnings.push(message) };
    await using store = await open({ appendTimeoutMs: 100_000, logger });
    const data = Buffer.alloc(20_000, "x");
    await appendOne(store);
    const before = process.memoryUsage();
    let most = 0;
    const watching = setInterval(() => {
      const { heapUsed, external } = process.memoryUsage();
      most = Math.max(most, heapUsed + external - before.heapUsed - before.external);
    }, 20);
    const appended = await Promise.all(
      Array.from({ length: BURST }, () => store.append(newStream(), NO_STREAM, [newEvent({ data })])),
    );
    clearInterval(watching);
    expect(appended).toHaveLength(BURST);
    expect(new Set(appended.map(({ position }) => position)).size).toBe(BURST);
    // All of it would be there several times over on its way through the client. A small burst is lost in what other files of
    // this process leave to be collected.
    if (isLong) expect(most).toBeLessThan(BURST * data.length);
    expect(warnings).toEqual([]);
  });
});

test("only the client's own stray rejections are held; others stay as fatal as they are", async () => {
  using _ = withoutRunnersListeners();
  const [warnings, fatal]: [unknown[], unknown[]] = [[], []];
  const onFatal = (error: unknown) => fatal.push(error);
  const runners = process.listeners("uncaughtException");
  for (const listener of runners) process.off("uncaughtException", listener);
  process.on("uncaughtException", onFatal);
  try {
    await using held = holdStrayRejections({ warn: ({ err }: { err?: unknown }) => warnings.push(err) });
    const clients = new Error("late");
    clients.stack = `Error: late\n    at x (/app/node_modules/@eventstore/db-client/dist/streams/x.js:1:1)`;
    const ours = new Error("ours");
    void Promise.reject(clients);
    void Promise.reject(ours);
    await eventually(() => expect([warnings, fatal]).toEqual([[clients], [ours]]));
    expect(held).toBeDefined();
  } finally {
    process.off("uncaughtException", onFatal);
    for (const listener of runners) process.on("uncaughtException", listener);
  }
});
