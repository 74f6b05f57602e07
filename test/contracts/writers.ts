// The contract with several writers: nobody who reads while they write misses an event, or meets one out of order.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { type EventStore, NO_STREAM, type Position, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { sized } from "../support/size.ts";
import { collect, eventually, ids, newEvents, newStream, type Subject } from "./subject.ts";
import type { WriterMessage } from "./writer.ts";
import { write } from "./writing.ts";

const LOOPS = 8;
const ROUNDS = sized(15, 40);

export function writers(subject: () => Subject, shared: boolean): void {
  /** Writers at work, while a subscription and a reader by pages follow; then both must have seen the whole log. */
  async function follow(store: EventStore, work: (prefix: string) => Promise<number[]>): Promise<void> {
    const after = await store.tail();
    const prefix = newStream();
    await using seen = collect(store, after, { maxBatch: 50 });
    const stop = new AbortController();
    const paging = pages(store, after, stop.signal);
    const written = (await work(prefix)).reduce((sum, count) => sum + count, 0);
    stop.abort();
    const paged = await paging;
    await eventually(() => expect(seen.events.length).toBeGreaterThanOrEqual(written));
    const log = await store.readAll({ after, limit: 100_000 });
    expect(log).toHaveLength(written);
    expect(ids(seen.events)).toEqual(ids(log));
    expect(ids(paged)).toEqual(ids(log));
    const positions = log.map((event) => event.position);
    expect(positions).toEqual(positions.toSorted());
    expect(new Set(positions).size).toBe(written);
    const revisions = Map.groupBy(log, (event) => event.stream);
    for (const events of revisions.values()) expect(events.map(({ revision }) => revision)).toEqual([...events.keys()]);
  }

  test("in one process", async () => {
    const { store } = subject();
    await follow(store, (prefix) =>
      Promise.all(["a", "b"].map((writer) => write(store, { prefix, writer, loops: LOOPS, rounds: ROUNDS }))),
    );
  });

  if (!shared) return;

  test("in two processes and this one", async () => {
    const { store, writer } = subject();
    if (writer === undefined) throw new Error("a shared log needs a writer");
    const children = [1, 2].map(() =>
      fork(new URL("./writer.ts", import.meta.url), [JSON.stringify(writer)], { execArgv: [], stdio: "inherit" }),
    );
    try {
      for (const child of children) expect(await message(child)).toEqual({ ready: true });
      await follow(store, (prefix) => {
        const here = write(store, { prefix, writer: "here", loops: LOOPS, rounds: ROUNDS });
        const there = children.map(async (child, index) => {
          const answer = message(child);
          child.send({ prefix, writer: `child-${index}`, loops: LOOPS, rounds: ROUNDS });
          const said = await answer;
          return "written" in said ? said.written : Number.NaN;
        });
        return Promise.all([here, ...there]);
      });
    } finally {
      for (const child of children) child.kill();
    }
  });

  test("what one process writes another one reads, recognises, and is notified of", async () => {
    const { store, second } = subject();
    if (second === undefined) throw new Error("a shared log opens twice");
    await using other = await second();
    expect(other.logId).toBe(store.logId);
    await using seen = collect(store, await store.tail());
    const stream = newStream();
    const events = newEvents(2);
    const appended = await other.append(stream, NO_STREAM, events);
    expect(await store.tail()).toBe(appended.position);
    expect(ids(await store.readStream(stream, { limit: 10 }))).toEqual(ids(events));
    expect(await store.append(stream, NO_STREAM, events)).toEqual(appended);
    await expect(store.append(stream, NO_STREAM, newEvents(1))).rejects.toMatchObject({ actual: 1 });
    await eventually(() => expect(ids(seen.events)).toEqual(ids(events)));
  });
}

/** Reads page after page until it is told to stop, then to the end. */
async function pages(store: EventStore, start: Position, stop: AbortSignal): Promise<RecordedEvent[]> {
  const read: RecordedEvent[] = [];
  let after = start;
  for (;;) {
    const stopped = stop.aborted;
    const page = await store.readAll({ after, limit: 20 });
    read.push(...page);
    after = page.at(-1)?.position ?? after;
    if (page.length === 0 && stopped) return read;
    if (page.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function message(child: ChildProcess): Promise<WriterMessage> {
  const left = new AbortController();
  const exited = once(child, "exit", { signal: left.signal }).then(([code]) =>
    Promise.reject(new Error(`the writer ended with ${code}`)),
  );
  try {
    const [said] = await Promise.race([once(child, "message", { signal: left.signal }), exited]);
    return said as WriterMessage;
  } finally {
    left.abort();
    exited.catch(() => {});
  }
}
