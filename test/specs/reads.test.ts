// How far each member has read a room.
import { test } from "vitest";
import type { Subject } from "../../src/contract/ids.ts";
import { type ReadsCommand, type ReadsEvent, readsDecider } from "../../src/domain/reads.ts";
import { given, NOW } from "../support/given.ts";

const marked = (subject: Subject, seq: number): ReadsEvent => ({
  type: "ReadMarked",
  data: { subject, user: { open: "ada" }, seq },
});
const mark = (subject: Subject, seq: number, floor = 0): ReadsCommand => ({
  type: "MarkRead",
  at: NOW,
  subject,
  user: "ada",
  seq,
  floor,
});

test("a marker moves forward", () =>
  given(readsDecider, marked("sub_a", 3)).when(mark("sub_a", 7)).then(marked("sub_a", 7)));

test("the same seq again changes nothing", () =>
  given(readsDecider, marked("sub_a", 7)).when(mark("sub_a", 7)).thenNothing());

test("a lower seq changes nothing", () => given(readsDecider, marked("sub_a", 7)).when(mark("sub_a", 6)).thenNothing());

test("what joining or one's own message has read already changes nothing", () =>
  given(readsDecider)
    .when(mark("sub_a", 5, 5))
    .thenNothing());

test("past what joining or one's own message has read it moves, also when the marker was further back", () =>
  given(readsDecider, marked("sub_a", 2))
    .when(mark("sub_a", 6, 5))
    .then(marked("sub_a", 6)));

test("each reader has a marker of its own", () =>
  given(readsDecider, marked("sub_a", 7)).when(mark("sub_b", 3)).then(marked("sub_b", 3)));
