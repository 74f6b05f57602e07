// How far each member has read a room, and received it.
import { describe, test } from "vitest";
import type { Subject } from "../../src/contract/ids.ts";
import { type ReadsCommand, type ReadsEvent, readsDecider } from "../../src/domain/reads.ts";
import { given, NOW } from "../support/given.ts";

const marked = (subject: Subject, seq: number, base: number | null = null): ReadsEvent => ({
  type: "ReadMarked",
  data: { subject, user: { open: "ada" }, seq, base },
});
const delivered = (subject: Subject, seq: number): ReadsEvent => ({
  type: "DeliveredMarked",
  data: { subject, user: { open: "ada" }, seq },
});
const by = (subject: Subject) => ({ at: NOW, subject, user: "ada" });
const mark = (subject: Subject, seq: number, floor = 0, base = 0): ReadsCommand => ({
  ...by(subject),
  type: "MarkRead",
  seq,
  floor: { seq: floor, base },
});
const unread = (subject: Subject, seq: number, readSeq: number, head: number): ReadsCommand => ({
  ...by(subject),
  type: "MarkUnread",
  ...{ seq, readSeq, head },
});
const deliver = (subject: Subject, seq: number, floor = 0): ReadsCommand => ({
  ...by(subject),
  type: "MarkDelivered",
  ...{ seq, floor },
});

describe("a read marker", () => {
  test("moves forward", () => given(readsDecider, marked("sub_a", 3)).when(mark("sub_a", 7)).then(marked("sub_a", 7)));

  test("stays at the same seq and a lower one", () => {
    for (const seq of [7, 6]) given(readsDecider, marked("sub_a", 7)).when(mark("sub_a", seq)).thenNothing();
  });

  test("stays before what joining or one's own message has read already", () =>
    given(readsDecider)
      .when(mark("sub_a", 5, 5))
      .thenNothing());

  test("moves past what joining or one's own message has read, also when it was further back", () =>
    given(readsDecider, marked("sub_a", 2))
      .when(mark("sub_a", 6, 5))
      .then(marked("sub_a", 6)));

  test("is each reader's own", () =>
    given(readsDecider, marked("sub_a", 7)).when(mark("sub_b", 3)).then(marked("sub_b", 3)));
});

describe("setting it back", () => {
  test("remembers the room's head, up to which one's own messages read nothing any more", () =>
    given(readsDecider, marked("sub_a", 7))
      .when(unread("sub_a", 4, 7, 9))
      .then(marked("sub_a", 4, 9)));

  test("to where it is changes nothing", () => {
    given(readsDecider, marked("sub_a", 7))
      .when(unread("sub_a", 7, 7, 9))
      .thenNothing();
    given(readsDecider, marked("sub_a", 4, 9))
      .when(unread("sub_a", 4, 4, 9))
      .thenNothing();
    // One's own message has read up to there.
    given(readsDecider, marked("sub_a", 3))
      .when(unread("sub_a", 7, 7, 9))
      .thenNothing();
  });

  test("takes the log's word for where it is, not the read model's", () =>
    given(readsDecider, marked("sub_a", 8))
      .when(unread("sub_a", 7, 7, 9))
      .then(marked("sub_a", 7, 9)));

  test("lets it move forward again, whatever an older base had read", () => {
    given(readsDecider, marked("sub_a", 4, 9))
      .when(mark("sub_a", 6, 8, 0))
      .then(marked("sub_a", 6));
    given(readsDecider, marked("sub_a", 4, 9))
      .when(mark("sub_a", 10, 11, 9))
      .thenNothing();
  });
});

describe("a delivered marker", () => {
  test("moves forward, past what was read", () => {
    given(readsDecider, delivered("sub_a", 3)).when(deliver("sub_a", 4)).then(delivered("sub_a", 4));
    given(readsDecider, delivered("sub_a", 3)).when(deliver("sub_a", 3)).thenNothing();
    given(readsDecider, marked("sub_a", 7)).when(deliver("sub_a", 7)).thenNothing();
    given(readsDecider)
      .when(deliver("sub_a", 5, 5))
      .thenNothing();
  });

  test("stays where it is when the read marker is set back", () =>
    given(readsDecider, marked("sub_a", 7), marked("sub_a", 2, 9))
      .when(deliver("sub_a", 7))
      .thenNothing());
});
