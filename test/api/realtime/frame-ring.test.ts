// The ring of a room's newest frames: bounded, without gaps, and without what is no longer right.
import { expect, test } from "vitest";
import { createRings, type Frame, FrameRing } from "../../../src/api/realtime/frames.ts";

const RING_FRAMES = 1_000;
const RING_BYTES = 4 * 1024 * 1024;

const frame = (seq: number, messageSeq: number | null = null, size = 1): Frame => ({
  ...{ seq, messageSeq },
  bytes: Buffer.alloc(size),
  position: `log.${seq.toString(16).padStart(16, "0")}`,
});
const seqs = (frames: readonly Frame[]) => frames.map(({ seq }) => seq);

test("it gives what it has from a seq on, and nothing when that one is gone or not there yet", () => {
  const ring = new FrameRing(createRings());
  expect(ring.read(1, 10)).toEqual([]);
  for (let seq = 5; seq < 5 + RING_FRAMES + 10; seq += 1) ring.add(frame(seq));
  expect(ring.read(14, 10)).toEqual([]);
  expect(seqs(ring.read(15, 3))).toEqual([15, 16, 17]);
  expect(seqs(ring.read(1_013, 10))).toEqual([1_013, 1_014]);
  expect(ring.read(1_015, 10)).toEqual([]);
});

test("it is bounded by bytes, and forgets everything at a gap", () => {
  const ring = new FrameRing(createRings());
  for (let seq = 1; seq <= 10; seq += 1) ring.add(frame(seq, null, RING_BYTES / 4));
  expect(ring.read(6, 10)).toEqual([]);
  expect(seqs(ring.read(7, 10))).toEqual([7, 8, 9, 10]);
  ring.add(frame(20));
  expect(ring.read(10, 10)).toEqual([]);
  expect(seqs(ring.read(20, 10))).toEqual([20]);
});

test("the frames of a message are forgotten, and those around them stay", () => {
  const ring = new FrameRing(createRings());
  for (const [seq, message] of [
    [1, 1],
    [2, 2],
    [3, 1],
    [4, 4],
  ] as const)
    ring.add(frame(seq, message));
  ring.forget(1);
  expect(ring.read(1, 10)).toEqual([]);
  expect(seqs(ring.read(2, 10))).toEqual([2]);
  expect(seqs(ring.read(4, 10))).toEqual([4]);
});

test("the rings of all rooms are bounded together: the one that is idle for the longest time is emptied", () => {
  const rings = createRings(100);
  const [first, second, third] = [new FrameRing(rings), new FrameRing(rings), new FrameRing(rings)];
  first.add(frame(1, null, 30));
  second.add(frame(1, null, 30));
  first.add(frame(2, null, 30));
  third.add(frame(1, null, 30));
  expect(seqs(second.read(1, 10))).toEqual([]);
  expect([seqs(first.read(1, 10)), seqs(third.read(1, 10))]).toEqual([[1, 2], [1]]);
  second.add(frame(2, null, 10));
  expect(seqs(second.read(2, 10))).toEqual([2]);
  third[Symbol.dispose]();
  second.add(frame(3, null, 30));
  expect(seqs(first.read(1, 10))).toEqual([1, 2]);
});
