// Which markers a room's sockets are sent, and when.
import { expect, test } from "vitest";
import { PendingMarkers } from "../../../src/api/realtime/frames.ts";
import { positionOf, type RecordedEvent } from "../../../src/event-store/event-store.ts";

const event = (type: string, subject: string): RecordedEvent => ({
  ...{ type, data: Buffer.from(JSON.stringify({ subject })), id: "id", metadata: Buffer.of() },
  ...{ stream: "reads-room_1", revision: 0, position: positionOf("log1", 1), recordedAt: 0 },
});

test("of each kind and reader the newest is sent, once", () => {
  const markers = new PendingMarkers();
  expect(markers.waitMs(0)).toBe(Number.POSITIVE_INFINITY);
  const [, newest, other, delivered] = [
    event("ReadMarked", "sub_a"),
    event("ReadMarked", "sub_a"),
    event("ReadMarked", "sub_b"),
    event("DeliveredMarked", "sub_a"),
  ].map((one) => {
    markers.push(one);
    return one;
  });
  expect(markers.waitMs(0)).toBe(0);
  const due = markers.due(0);
  expect(due).toEqual([newest, other, delivered]);
  expect(markers.due(0)).toEqual(due); // what fails is sent again
  markers.published(due, 0);
  expect([markers.due(0), markers.waitMs(0)]).toEqual([[], Number.POSITIVE_INFINITY]);
});

test("what was delivered is sent once a second and user, and the last of it in the end", () => {
  const markers = new PendingMarkers();
  const send = (now: number) => {
    const due = markers.due(now);
    markers.published(due, now);
    return due;
  };
  const deliver = (subject: string) => {
    const one = event("DeliveredMarked", subject);
    markers.push(one);
    return one;
  };
  expect(send(0)).toEqual([]);
  const first = deliver("sub_a");
  expect(send(100)).toEqual([first]);
  deliver("sub_a");
  const last = deliver("sub_a");
  const other = deliver("sub_b");
  expect(send(500)).toEqual([other]);
  expect([send(1_099), markers.waitMs(1_099)]).toEqual([[], 1]);
  markers.push(event("ReadMarked", "sub_a"));
  expect(markers.waitMs(1_099)).toBe(0);
  expect(send(1_099)).toHaveLength(1);
  expect(send(1_100)).toEqual([last]);
  expect(markers.waitMs(1_100)).toBe(Number.POSITIVE_INFINITY);
});

test("what came while it was sent is sent after it", () => {
  const markers = new PendingMarkers();
  markers.push(event("ReadMarked", "sub_a"));
  const due = markers.due(0);
  const later = event("ReadMarked", "sub_a");
  markers.push(later);
  markers.published(due, 0);
  expect(markers.due(0)).toEqual([later]);
});
