// MACs of events: good for one event at one position in one stream, and for nothing else.
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { checkedLog, EventMacs } from "../../src/event-store/event-macs.ts";
import { NO_STREAM, positionOf, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { collect, eventually, newEvent, newEvents } from "../contracts/subject.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { recorded } from "../support/recorded.ts";

const KEY = randomBytes(32);
const STREAM = "room-room_a";
const macsOf = (key = KEY, reported: RecordedEvent[] = []) =>
  new EventMacs({ key, requiredAfter: "start", onForged: (event) => reported.push(event) });
const signed = (revision = 3) => recorded(macsOf().sign(newEvent(), { stream: STREAM, revision }), STREAM, revision);

test("an event that was signed for its position is genuine", () => {
  const event = signed();
  expect(macsOf().check(event)).toBe(event);
});

test("signed again it has one MAC, for its new position", () => {
  const event = signed();
  const again = macsOf().sign(event, { stream: STREAM, revision: 4 });
  expect(again.metadata.byteLength).toBe(event.metadata.byteLength);
  expect(macsOf().check(recorded(again, STREAM, 4)).type).toBe(event.type);
});

describe("forged, and replaced by EventForged, is an event with", () => {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
  test.each<[string, (event: RecordedEvent) => Partial<RecordedEvent>]>([
    ["another id", () => ({ id: "00000000-0000-4000-8000-000000000000" })],
    ["another type", () => ({ type: "KeyRotated" })],
    ["another stream", () => ({ stream: "room-room_b" })],
    ["another revision", ({ revision }) => ({ revision: revision + 1 })],
    ["other data", () => ({ data: Buffer.from('{"random":"other"}') })],
    ["other metadata", ({ metadata }) => ({ metadata: Buffer.from(text(metadata).replace('"v":1', '"v":2')) })],
    [
      "bytes moved from data to metadata",
      ({ data, metadata }) => ({
        data: data.subarray(0, -1),
        metadata: Buffer.concat([data.subarray(-1), metadata]),
      }),
    ],
    ["no MAC", () => ({ metadata: Buffer.from('{"v":1}') })],
    ["an empty MAC", () => ({ metadata: Buffer.from('{"v":1,"mac":""}') })],
    ["a MAC of another key", (event) => macsOf(randomBytes(32)).sign(event, event)],
    ["no metadata", () => ({ metadata: new Uint8Array() })],
  ])("%s", (_name, change) => {
    const reported: RecordedEvent[] = [];
    const forged = { ...signed(), ...change(signed()) };
    const macs = macsOf(KEY, reported);
    const { stream, revision, position, type } = forged;
    const shown = macs.check(forged);
    expect(shown).toMatchObject({ stream, revision, position, type: "EventForged" });
    expect(JSON.parse(text(shown.data))).toEqual({ forged: true, type });
    expect(JSON.parse(text(shown.metadata))).toMatchObject({ client: null, actor: { type: "system" } });
    macs.check({ ...forged }); // reported once
    expect(reported).toEqual([forged]);
  });
});

test("without a MAC an event is accepted up to the position from which they are required, and not after", () => {
  const unsigned = (number: number) => ({
    ...recorded(newEvent(), STREAM, number),
    position: positionOf("log1", number),
  });
  const macs = new EventMacs({ key: KEY, requiredAfter: positionOf("log1", 5), onForged: () => {} });
  expect([4, 5, 6].map((number) => macs.check(unsigned(number)).type === "EventForged")).toEqual([false, false, true]);
  const changed = { ...signed(2), position: positionOf("log1", 2), type: "Other" };
  expect(macs.check(changed).type).toBe("EventForged"); // one that has a MAC must have the right one
});

test("a checked log shows forged events as forged however it is read, and the others as they are", async () => {
  await using log = await openInMemoryLog();
  const macs = macsOf();
  const store = checkedLog(log, macs);
  const [good = newEvent(), bad = newEvent()] = newEvents(2);
  await log.append(STREAM, NO_STREAM, [macs.sign(good, { stream: STREAM, revision: 0 }), bad]);
  const types = (events: readonly RecordedEvent[]) => events.map(({ type }) => type);
  const expected = [good.type, "EventForged"];
  await using seen = collect(store, "start");
  expect(types(await store.readStream(STREAM, { limit: 10 }))).toEqual(expected);
  expect(types(await store.readAll({ after: "start", limit: 10 }))).toEqual(["LogCreated", ...expected]);
  await eventually(() => expect(types(seen.events)).toEqual(["LogCreated", ...expected]));
});
