// Appending to EventStoreDB through our adapter, against its client as it is.
import { randomUUID } from "node:crypto";
import { binaryEvent, EventStoreDBClient, NO_STREAM } from "@eventstore/db-client";
import { openEventStoreDb } from "../../src/event-store/eventstoredb/log.ts";
import { missingEventStore, testEventStore } from "../../test/support/eventstored.ts";
import { interleave, perSecond } from "../harness/measure.ts";
import { type Goal, notMeasured, ratioRow } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { appendsPerSecond } from "../support/appending.ts";
import { someEvent } from "../support/events.ts";

const goal: Goal = {
  ...{ name: "4 append to EventStoreDB through the adapter, 256 in flight, over the bare client", goal: 0.8 },
  ...{ direction: "at least", unit: "x" },
};

const IN_FLIGHT = 256;
const STREAM_LENGTH = 100;

/** Its batch path, which a call without credentials takes, with the exact revision: of its ways the fastest one. */
function bareAppends(client: EventStoreDBClient, ms: number): Promise<number> {
  const lanes = Array.from({ length: IN_FLIGHT }, () => ({ stream: `bare-${randomUUID()}`, count: 0 }));
  return perSecond(IN_FLIGHT, ms, async (number) => {
    const lane = lanes[number];
    if (lane === undefined) return 0;
    const { id, type, data, metadata } = someEvent();
    const event = binaryEvent({ id, type, data: new Uint8Array(data), metadata: new Uint8Array(metadata) });
    const expectedRevision = lane.count === 0 ? NO_STREAM : BigInt(lane.count - 1);
    await client.appendToStream(lane.stream, event, { expectedRevision });
    lane.count += 1;
    if (lane.count === STREAM_LENGTH) Object.assign(lane, { stream: `bare-${randomUUID()}`, count: 0 });
    return 1;
  });
}

export const eventStoreDb: Subject = {
  name: "eventstoredb",
  about: "appending to EventStoreDB",
  goals: [goal],
  async run({ rounds, turnMs }) {
    if (missingEventStore !== undefined) return [notMeasured(goal, missingEventStore)];
    await using server = await testEventStore();
    await using store = await openEventStoreDb({ url: server.url, prefix: "bench-" });
    const client = EventStoreDBClient.connectionString(server.url);
    try {
      const ours = "adapter, 256 in flight";
      const bare = "bare client, batch path, 256 in flight";
      const reached = await interleave(
        [
          { name: bare, turn: () => bareAppends(client, turnMs) },
          { name: ours, turn: () => appendsPerSecond(store, IN_FLIGHT, turnMs) },
        ],
        rounds,
      );
      return [ratioRow(goal, reached, ours, bare)];
    } finally {
      await client.dispose();
    }
  },
};
