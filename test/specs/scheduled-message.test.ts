// Messages for later, from their scheduling to what the room decided.
import { describe, test } from "vitest";
import type { Actor } from "../../src/domain/decider.ts";
import {
  type ScheduledData,
  type ScheduledMessageCommand,
  type ScheduledMessageEvent,
  scheduledMessageDecider,
} from "../../src/domain/scheduled-message.ts";
import { given, NOW } from "../support/given.ts";
import { adminAnna, idAt, key, memberMax, ROOM } from "./rooms.ts";

const LATER = NOW + 86_400_000;
const YEAR = 366 * 86_400_000;
const data: ScheduledData = {
  ...{ room: ROOM, sender: "sub_max", user: { open: "max" }, senderName: null, key: null, type: "text" },
  ...{ replyTo: null, threadOf: null, content: { open: "Later" }, meta: { open: {} }, mentions: [], everyone: false },
  sendAt: LATER,
};
const scheduled: ScheduledMessageEvent = { type: "MessageScheduled", data };
const due: ScheduledMessageEvent = { type: "MessageDue", data: {} };
const unscheduled: ScheduledMessageEvent = { type: "MessageUnscheduled", data: { sender: "sub_max" } };
const posted: ScheduledMessageEvent = { type: "ScheduledMessagePosted", data: { message: idAt(5) } };
const refused: ScheduledMessageEvent = { type: "MessageRefused", data: { sender: "sub_max", reason: "muted" } };
const rescheduled = (changes: Partial<ScheduledData>): ScheduledMessageEvent => {
  const { sender, content, meta, mentions, everyone, sendAt } = { ...data, ...changes };
  return { type: "MessageRescheduled", data: { sender, content, meta, mentions, everyone, sendAt } };
};

type Changes = Extract<ScheduledMessageCommand, { type: "Change" }>["changes"];
const later = (...history: ScheduledMessageEvent[]) => given(scheduledMessageDecider, scheduled, ...history);
const change = (actor: Actor, changes: Changes): ScheduledMessageCommand => ({
  type: "Change",
  at: NOW,
  actor,
  changes,
  faults: [],
});
const unschedule = (actor: Actor, admin = false): ScheduledMessageCommand => ({
  type: "Unschedule",
  at: NOW,
  actor,
  admin,
});
const sendNow = (actor: Actor): ScheduledMessageCommand => ({ type: "SendNow", at: NOW, actor });
const release = (at: number): ScheduledMessageCommand => ({ type: "Release", at });

describe("a message for later", () => {
  test("is scheduled once", () => {
    given(scheduledMessageDecider).when({ type: "Schedule", at: NOW, data }).then(scheduled);
    later().when({ type: "Schedule", at: NOW, data }).thenNothing();
  });

  test("waits for a year at most", () => {
    const far = { ...data, sendAt: NOW + YEAR };
    given(scheduledMessageDecider).when({ type: "Schedule", at: NOW, data: far }).thenInvalid("send_at", "too_large");
    later()
      .when(change(memberMax, { sendAt: NOW + YEAR }))
      .thenInvalid("send_at", "too_large");
  });

  test("is its sender's and a client key's to change", () => {
    later()
      .when(change(memberMax, { content: "x" }))
      .then(rescheduled({ content: { open: "x" } }));
    later()
      .when(change(key, { meta: { a: 1 } }))
      .then(rescheduled({ meta: { open: { a: 1 } } }));
    later()
      .when(change(memberMax, { content: "Later" }))
      .thenNothing();
    later()
      .when(change(adminAnna, { content: "x" }))
      .thenRejected("not_found");
    later().when(sendNow(adminAnna)).thenRejected("not_found");
    later()
      .when(change(memberMax, { content: "" }))
      .thenInvalid("content", "too_short");
  });

  test("is its sender's and an admin's to cancel", () => {
    later().when(unschedule(memberMax)).then(unscheduled);
    later().when(unschedule(adminAnna, true)).then(unscheduled);
    later().when(unschedule(adminAnna)).thenRejected("not_found");
    later(unscheduled).when(unschedule(memberMax)).thenNothing();
  });

  test("is due at its time, at once when it is asked for, and when it is moved into the past", () => {
    later().when(release(LATER)).then(due);
    later()
      .when(release(LATER - 1))
      .thenNothing();
    later().when(sendNow(memberMax)).then(due);
    later()
      .when(change(memberMax, { sendAt: NOW }))
      .then(rescheduled({ sendAt: NOW }), due);
    later(rescheduled({ sendAt: LATER + 1 }))
      .when(release(LATER))
      .thenNothing();
    later(due).when(sendNow(memberMax)).thenNothing();
    later(due, posted).when(sendNow(memberMax)).thenNothing();
  });

  test("is neither changed nor cancelled once its time has come", () => {
    for (const history of [[due], [due, posted], [due, refused]]) {
      later(...history)
        .when(change(memberMax, { content: "x" }))
        .thenRejected("not_scheduled");
      later(...history)
        .when(unschedule(memberMax))
        .thenRejected("not_scheduled");
    }
    later(due, refused).when(sendNow(memberMax)).thenRejected("not_scheduled");
    later(unscheduled).when(sendNow(memberMax)).thenRejected("not_scheduled");
  });

  test("ends once, as the room decided", () => {
    later(due)
      .when({ type: "Finish", at: NOW, message: idAt(5) })
      .then(posted);
    later(due).when({ type: "Refuse", at: NOW, reason: "muted" }).then(refused);
    later(due, posted).when({ type: "Refuse", at: NOW, reason: "muted" }).thenNothing();
    later(due, refused)
      .when({ type: "Finish", at: NOW, message: idAt(5) })
      .thenNothing();
    later()
      .when({ type: "Finish", at: NOW, message: idAt(5) })
      .thenNothing();
  });
});
