// Appends of one event each, so many at once, each lane to streams of its own with the exact expected revision.
import { randomUUID } from "node:crypto";
import type { EventStore } from "../../src/event-store/event-store.ts";
import { perSecond } from "../harness/measure.ts";
import { someEvent } from "./events.ts";

/** Events that go to one stream before the lane takes another. */
const STREAM_LENGTH = 100;

/** Appends per second with `inFlight` at once. */
export function appendsPerSecond(store: Pick<EventStore, "append">, inFlight: number, ms: number): Promise<number> {
  const lanes = Array.from({ length: inFlight }, () => ({ stream: `room-${randomUUID()}`, revision: -1 }));
  return perSecond(inFlight, ms, async (number) => {
    const lane = lanes[number];
    if (lane === undefined) return 0;
    await store.append(lane.stream, lane.revision, [someEvent()]);
    lane.revision += 1;
    if (lane.revision === STREAM_LENGTH) Object.assign(lane, { stream: `room-${randomUUID()}`, revision: -1 });
    return 1;
  });
}
