// What the MAC of each event costs: processor time of appending and of reading 10,000 events in PostgreSQL, with and without.
import { randomBytes, randomUUID } from "node:crypto";
import { EventMacs } from "../../src/event-store/event-macs.ts";
import { type EventStore, type NewEvent, NO_STREAM } from "../../src/event-store/event-store.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { interleave } from "../harness/measure.ts";
import { type Goal, ratioRow } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { ownMs } from "../support/processor-time.ts";

const atMost = { direction: "at most", unit: "x" } as const;
const appending: Goal = {
  ...atMost,
  name: "17 append of 10,000 events with MACs, processor time over without",
  goal: 1.3,
};
const reading: Goal = {
  ...atMost,
  name: "17 read of 10,000 events with MACs checked, processor time over without",
  goal: 1.3,
};

const EVENTS = 10_000;
const APPEND = 500;

/** Milliseconds of this process's processor time. */
async function costOf(work: () => Promise<unknown>): Promise<number> {
  const before = ownMs();
  await work();
  return ownMs() - before;
}

const eventOf = (): NewEvent => ({
  id: randomUUID(),
  type: "MessagePosted",
  data: randomBytes(500),
  metadata: Buffer.from(JSON.stringify({ v: 1, at: Date.now(), command: randomUUID(), subjects: ["sub_a"] })),
});

export const macs: Subject = {
  name: "macs",
  about: "the MAC of each event, made and checked",
  goals: [appending, reading],
  async run({ rounds, postgres }) {
    await using database = await postgres.database();
    await using store = await openPostgresLog({ url: database.url });
    const eventMacs = new EventMacs({ key: randomBytes(32), requiredAfter: "start", onForged: () => {} });
    const events = Array.from({ length: EVENTS }, eventOf);

    async function append(log: EventStore, stream: string, sign: boolean): Promise<void> {
      for (let first = 0; first < EVENTS; first += APPEND) {
        const made = events.slice(first, first + APPEND).map((event, index) => {
          const own = { ...event, id: randomUUID() };
          return sign ? eventMacs.sign(own, { stream, revision: first + index }) : own;
        });
        await log.append(stream, first === 0 ? NO_STREAM : first - 1, made);
      }
    }
    async function read(log: EventStore, stream: string, check: boolean): Promise<void> {
      for (let from = 0; from < EVENTS; from += APPEND) {
        const page = await log.readStream(stream, { from, limit: APPEND });
        if (check) for (const event of page) if (eventMacs.check(event) !== event) throw new Error("forged");
      }
    }
    const appended = await interleave(
      [true, false].map((sign) => ({
        name: sign ? "with MACs" : "without",
        turn: () => costOf(() => append(store, `room-${randomUUID()}`, sign)),
      })),
      rounds,
    );
    const stream = `room-${randomUUID()}`;
    await append(store, stream, true);
    const readBack = await interleave(
      [true, false].map((check) => ({
        name: check ? "checked" : "unchecked",
        turn: () => costOf(() => read(store, stream, check)),
      })),
      rounds,
    );
    return [
      ratioRow(appending, appended, "with MACs", "without", "ms"),
      ratioRow(reading, readBack, "checked", "unchecked", "ms"),
    ];
  },
};
