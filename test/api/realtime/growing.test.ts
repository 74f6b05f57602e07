// The frames of growing messages: their pace, and that every follower comes to the same text, whenever it came.
import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { GrowingFrames } from "../../../src/api/realtime/growing.ts";
import { GrowthFeed } from "../../../src/app/growth-feed.ts";
import { afterCodePoints, codePoints } from "../../../src/contract/fields.ts";
import { messageId } from "../../../src/contract/ids.ts";
import { processBus } from "../../../src/platform/bus.ts";
import { seed } from "../../support/seed.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const ROOM = "room_0123456789abcdefghjkmnpqrs";
const SEQ = 2;
const MESSAGE = messageId(ROOM, SEQ, 0);

/** A node that shows one message, whose text lies where every node finds it. */
function scene() {
  const growth = new GrowthFeed(processBus());
  const text = { now: "" };
  const growing = new Map([[SEQ, { id: MESSAGE }]]);
  const channel = { id: ROOM, head: SEQ, state: { growing } };
  const read = async (_: unknown, offset: number) => {
    const there = text.now;
    await Promise.resolve();
    return { offset, text: afterCodePoints(there, offset), length: codePoints(there) };
  };
  const logger = { warn: (about: unknown) => expect(about).toBeUndefined() };
  const frames = new GrowingFrames({ growth, growing: { read }, logger } as never);
  return {
    channel,
    text,
    /** On this node, or on another one that only tells that it grew. */
    append(added: string, here: boolean) {
      const offset = codePoints(text.now);
      text.now += added;
      const about = { room: ROOM, message: MESSAGE, seq: SEQ } as const;
      growth.grew({ ...about, added: here ? { offset, text: added } : null });
    },
    follow() {
      const seen = { text: "", at: [] as number[] };
      const take = (bytes: Buffer) => {
        const frame = JSON.parse(String(bytes));
        expect(frame.offset).toBeLessThanOrEqual(codePoints(seen.text));
        const kept = seen.text.slice(0, seen.text.length - afterCodePoints(seen.text, frame.offset).length);
        Object.assign(seen, { text: kept + frame.text });
        seen.at.push(performance.now());
        return true;
      };
      const sendPaced = async (make: () => Buffer | undefined) => {
        const bytes = make();
        return bytes !== undefined && take(bytes);
      };
      const follows = frames.follow(channel as never, { send: take, sendPaced, sees: () => true });
      return { seen, follows };
    },
  };
}

test("gives no more than 20 frames a second", async () => {
  const { follow, append, text } = scene();
  const { seen } = follow();
  await vi.advanceTimersByTimeAsync(100);
  for (let n = 0; n < 400; n += 1) {
    append("x", true);
    await vi.advanceTimersByTimeAsync(5);
  }
  await vi.advanceTimersByTimeAsync(100);
  expect(seen.text).toBe(text.now);
  const gaps = seen.at.slice(1).map((at, index) => at - (seen.at[index] ?? 0));
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(50);
  expect(seen.at.length).toBeGreaterThan(30);
});

test("nothing of a message comes after its end", async () => {
  const { follow, append, channel } = scene();
  const { seen } = follow();
  append("before", true);
  await vi.advanceTimersByTimeAsync(100);
  append("after", true);
  channel.state.growing.delete(SEQ);
  await vi.advanceTimersByTimeAsync(200);
  expect(seen.text).toBe("before");
});

test("what comes before the posting waits for it", async () => {
  const { follow, append, channel } = scene();
  channel.head = SEQ - 1;
  channel.state.growing.clear();
  const { seen } = follow();
  append("Hello", true);
  await vi.advanceTimersByTimeAsync(500);
  expect(seen.text).toBe("");
  channel.head = SEQ;
  channel.state.growing.set(SEQ, { id: MESSAGE });
  await vi.advanceTimersByTimeAsync(200);
  expect(seen.text).toBe("Hello");
});

test("every follower comes to the same text, whenever it came and wherever was written", async () => {
  const step = fc.record({
    text: fc.string({ unit: "grapheme", maxLength: 4 }),
    here: fc.boolean(),
    pauseMs: fc.nat(80),
    joins: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const { follow, append, text } = scene();
      const followers = [follow()];
      for (const { text: added, here, pauseMs, joins } of steps) {
        if (added !== "") append(added, here);
        if (joins) followers.push(follow());
        if (pauseMs > 20) await vi.advanceTimersByTimeAsync(pauseMs);
      }
      await vi.advanceTimersByTimeAsync(300);
      for (const { seen } of followers) expect(seen.text).toBe(text.now);
    }),
    { numRuns: 60, seed },
  );
});
