// The status of a notification: each line of the rule.
import { describe, expect, test } from "vitest";
import {
  type DeliveryCounts,
  madeCount,
  type NotificationProgress,
  notificationStatus,
  openCount,
} from "../../src/projections/models/notification-status.ts";

const status = (counts: DeliveryCounts, more: Partial<NotificationProgress> = {}) =>
  notificationStatus({
    state: "released",
    stop_requested: false,
    routed: true,
    counts,
    attempts_started: false,
    mails_due: false,
    ...more,
  });

describe("the status of a notification", () => {
  test("cancelled before its release: cancelled", () => {
    expect(status({}, { state: "cancelled", routed: false })).toBe("cancelled");
  });
  test("not released: scheduled", () => {
    expect(status({}, { state: "scheduled", routed: false })).toBe("scheduled");
  });
  test("deliveries not all made yet: pending, or processing once one was attempted", () => {
    expect(status({}, { routed: false })).toBe("pending");
    expect(status({ sent: 1 }, { routed: false, attempts_started: true })).toBe("processing");
  });
  test("a fallback whose mail is not made counts so", () => {
    expect(status({ fell_back: 1 }, { mails_due: true })).toBe("pending");
    expect(status({ fell_back: 1, delivered: 1 }, { mails_due: true, attempts_started: true })).toBe("processing");
  });
  test.each(["pending", "sending", "retrying"] as const)("any %s: pending before the first attempt", (open) => {
    expect(status({ [open]: 1, sent: 3 })).toBe("pending");
    expect(status({ [open]: 1, sent: 3 }, { attempts_started: true })).toBe("processing");
  });
  test("all delivered: delivered; the one that fell back is left out, its mail counts", () => {
    expect(status({ delivered: 2 })).toBe("delivered");
    expect(status({ delivered: 2, fell_back: 1 })).toBe("delivered");
  });
  test("all delivered or sent: sent", () => {
    expect(status({ sent: 2 })).toBe("sent");
    expect(status({ sent: 1, delivered: 1, fell_back: 1 })).toBe("sent");
  });
  test("some delivered or sent: partial", () => {
    expect(status({ sent: 1, exhausted: 1 })).toBe("partial");
    expect(status({ delivered: 1, cancelled: 5 })).toBe("partial");
  });
  test("all cancelled: cancelled; all expired: expired", () => {
    expect(status({ cancelled: 2, fell_back: 1 })).toBe("cancelled");
    expect(status({ expired: 2 })).toBe("expired");
  });
  test("else: failed", () => {
    expect(status({ exhausted: 1 })).toBe("failed");
    expect(status({ expired: 1, cancelled: 1 })).toBe("failed");
    expect(status({ bounced: 1 })).toBe("failed");
    expect(status({})).toBe("failed");
  });
  test("stopped: what the router may still make is waited for", () => {
    const stopped = { stop_requested: true, routed: false };
    expect(status({}, stopped)).toBe("pending");
    expect(status({ cancelled: 3 }, stopped)).toBe("pending");
  });
  test("stopped and routed: no fallback's mail is made any more, so that what was made decides", () => {
    const stopped = { stop_requested: true, routed: true };
    expect(status({}, stopped)).toBe("cancelled");
    expect(status({ cancelled: 3 }, stopped)).toBe("cancelled");
    expect(status({ sent: 1, cancelled: 1 }, stopped)).toBe("partial");
    expect(status({ sending: 1, cancelled: 1 }, { ...stopped, attempts_started: true })).toBe("processing");
    expect(status({ fell_back: 1 }, { ...stopped, mails_due: true })).toBe("cancelled");
  });
});

test("counts of what was made and of what is open", () => {
  const counts = { pending: 1, sending: 2, retrying: 3, sent: 4, fell_back: 5 };
  expect(openCount(counts)).toBe(6);
  expect(madeCount(counts)).toBe(15);
});
