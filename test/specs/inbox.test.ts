// The inbox: marking one notification, and all of them.
import { describe, test } from "vitest";
import type { DeliveryStatus } from "../../src/contract/deliveries.ts";
import type { InboxStatus } from "../../src/contract/inbox.ts";
import type { DeliveryCommand, ItemMark } from "../../src/domain/delivery.ts";
import type { DeliveryEvent } from "../../src/domain/delivery-state.ts";
import { type InboxCommand, type InboxEvent, type InboxMark, inboxDecider } from "../../src/domain/inbox.ts";
import { given, NOW } from "../support/given.ts";
import {
  acknowledged,
  base,
  cancelled,
  delivery,
  expired,
  fellBack,
  requested,
  socketRequested,
} from "./deliveries.ts";

const mark = (as: ItemMark, covered: InboxStatus = "unread", subject: "sub_ada" | "sub_bob" = "sub_ada") =>
  ({ type: "Mark", at: NOW, subject, as, covered }) satisfies DeliveryCommand;
const marked = (as: ItemMark, status: DeliveryStatus = "delivered"): DeliveryEvent => ({
  type: "DeliveryMarked",
  data: { ...base, from: status, to: status, as },
});
const opened = [socketRequested(), acknowledged("pending")] as const;

describe("an item", () => {
  test("that is read, or archived, is acknowledged in the same append", () => {
    delivery(socketRequested()).when(mark("read")).then(acknowledged("pending"), marked("read"));
    delivery(socketRequested()).when(mark("archived")).then(acknowledged("pending"), marked("archived"));
    delivery(socketRequested(), fellBack)
      .when(mark("read"))
      .then(acknowledged("fell_back"), marked("read", "fell_back"));
  });
  test("that was acknowledged, or expired, is only marked", () => {
    delivery(...opened)
      .when(mark("read"))
      .then(marked("read"));
    delivery(socketRequested(), expired("pending")).when(mark("read")).then(marked("read", "expired"));
  });
  test("is not acknowledged by what does not read it", () =>
    delivery(socketRequested(), expired("pending")).when(mark("unread")).thenNothing());
  test("is marked so once", () => {
    delivery(...opened, marked("read"))
      .when(mark("read"))
      .thenNothing();
    delivery(...opened, marked("archived"))
      .when(mark("archived"))
      .thenNothing();
    delivery(...opened, marked("archived"))
      .when(mark("read"))
      .thenNothing();
    delivery(...opened, marked("read"))
      .when(mark("unarchived"))
      .thenNothing();
    delivery(...opened)
      .when(mark("unread"))
      .thenNothing();
  });
  test("goes back: from read to unread, from the archive to read", () => {
    delivery(...opened, marked("read"))
      .when(mark("unread"))
      .then(marked("unread"));
    delivery(...opened, marked("archived"))
      .when(mark("unread"))
      .then(marked("unread"));
    delivery(...opened, marked("archived"))
      .when(mark("unarchived"))
      .then(marked("unarchived"));
    delivery(...opened, marked("archived"), marked("unarchived"))
      .when(mark("unread"))
      .then(marked("unread"));
  });
  test("counts as what marks on the whole inbox made of it", () => {
    delivery(...opened)
      .when(mark("read", "read"))
      .thenNothing();
    delivery(...opened)
      .when(mark("unread", "read"))
      .then(marked("unread"));
    delivery(...opened)
      .when(mark("unarchived", "archived"))
      .then(marked("unarchived"));
    delivery(...opened, marked("read"))
      .when(mark("archived", "read"))
      .then(marked("archived"));
    delivery(...opened)
      .when(mark("archived", "archived"))
      .thenNothing();
  });
  test("of another user's inbox, or of none, is not found", () => {
    delivery(socketRequested())
      .when(mark("read", "unread", "sub_bob"))
      .thenRejected("not_found");
    delivery(requested()).when(mark("read")).thenRejected("not_found");
    delivery(socketRequested(), cancelled("pending")).when(mark("read")).thenRejected("not_found");
    delivery().when(mark("read")).thenRejected("not_found");
  });
});

const markAll = (as: InboxMark, before: number | null = null): InboxCommand => ({ type: "Mark", at: NOW, as, before });
const allMarked = (as: InboxMark, beforeAt: number | null = null): InboxEvent => ({
  type: "InboxMarked",
  data: { as, beforeAt },
});
const isAcknowledged = (mark: number): InboxCommand => ({ type: "MarkAcknowledged", at: NOW, mark });

describe("the whole inbox", () => {
  test("is marked in one event, up to a time or all of it", () => {
    given(inboxDecider).when(markAll("read")).then(allMarked("read"));
    given(inboxDecider)
      .when(markAll("archived", NOW - 1))
      .then(allMarked("archived", NOW - 1));
  });
  test("is not marked for what is still to come", () =>
    given(inboxDecider)
      .when(markAll("seen", NOW + 1))
      .then(allMarked("seen")));
  test("knows which marks have deliveries to be acknowledged", () => {
    const acknowledgedAt = (mark: number): InboxEvent => ({ type: "InboxAcknowledged", data: { mark } });
    given(inboxDecider, allMarked("seen"), allMarked("read")).when(isAcknowledged(1)).then(acknowledgedAt(1));
    given(inboxDecider, allMarked("seen"), allMarked("read")).when(isAcknowledged(0)).thenNothing();
    given(inboxDecider, allMarked("read"), acknowledgedAt(0)).when(isAcknowledged(0)).thenNothing();
  });
});
