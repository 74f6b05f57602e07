// What a provider tells of a mail after it took it, in whatever order.
import { describe, test } from "vitest";
import type { DeliveryStatus } from "../../src/contract/deliveries.ts";
import type { Report } from "../../src/domain/delivery-reports.ts";
import { NOW } from "../support/given.ts";
import {
  cancelled,
  delivery,
  exhausted,
  failed,
  failure,
  HOUR,
  record,
  redrive,
  redriven,
  report,
  reported,
  requested,
  retryScheduled,
  start,
  started,
  succeeded,
  success,
  webhookRequested,
} from "./deliveries.ts";

/** As many opens, clicks and the like as are kept of a delivery. */
const MAX_NOTICES = 200;
const sent = [requested(), started(1), succeeded(1)] as const;
const HARD: Partial<Report> = { kind: "bounced", bounce: "hard", code: "unknown_recipient", message: "no such user" };
const SOFT: Partial<Report> = { kind: "bounced", bounce: "soft", code: "mailbox_full" };
const REJECTED: Partial<Report> = { kind: "bounced", bounce: "rejected", code: "rejected" };
const COMPLAINT: Partial<Report> = { kind: "complained" };

describe("a report of a sent mail", () => {
  const cases: readonly [string, Partial<Report>, DeliveryStatus][] = [
    ["delivered", {}, "delivered"],
    ["a hard bounce", HARD, "bounced"],
    ["a rejection", REJECTED, "bounced"],
    ["a complaint", COMPLAINT, "complained"],
    ["a soft bounce", SOFT, "sent"],
    ["deferred", { kind: "deferred" }, "sent"],
    ["opened", { kind: "opened" }, "sent"],
    ["clicked", { kind: "clicked" }, "sent"],
    ["unsubscribed", { kind: "unsubscribed" }, "sent"],
    ["a hard bounce of a copy", { ...HARD, index: 1 }, "sent"],
    ["a complaint of an address that is none of its recipients", { ...COMPLAINT, index: null }, "sent"],
  ];
  test.each(cases)("%s", (_name, changes, to) =>
    delivery(...sent)
      .when(report(changes))
      .then(reported("sent", to, changes)),
  );

  test("never says that it happened later than now", () =>
    delivery(...sent)
      .when(report({ happenedAt: NOW + HOUR }))
      .then(reported("sent", "delivered")));
});

describe("reports in any order", () => {
  test("a bounce after the delivery counts", () =>
    delivery(...sent, reported("sent", "delivered"))
      .when(report(HARD))
      .then(reported("delivered", "bounced", HARD)));
  test.each([
    ["bounced" as const, HARD],
    ["complained" as const, COMPLAINT],
  ])("%s is final: delivered, and each other, never undo it", (final, first) => {
    const history = [...sent, reported("sent", final, first)];
    delivery(...history)
      .when(report())
      .then(reported(final, final));
    const other = final === "bounced" ? COMPLAINT : HARD;
    delivery(...history)
      .when(report(other))
      .then(reported(final, final, other));
  });
  test("what comes while the attempt is open counts once its outcome is there", () => {
    const open = [requested(), started(1)] as const;
    delivery(...open)
      .when(report(HARD))
      .then(reported("sending", "sending", HARD));
    const told = [...open, reported("sending", "sending", HARD)] as const;
    delivery(...told, reported("sending", "sending"))
      .when(record(1, success))
      .then({ ...succeeded(1), data: { ...succeeded(1).data, to: "bounced" } } as ReturnType<typeof succeeded>);
  });
  test("a mail that got out is not sent again, whatever its attempt came to", () => {
    const end = succeeded(1, "sending", "delivered");
    const quiet = { ...end.data, response: null, providerMessageId: null };
    delivery(requested(), started(1), reported("sending", "sending"))
      .when(record(1, failure("transient")))
      .then(failed(1), { ...end, data: quiet } as typeof end);
    const waiting = [requested(), started(1), failed(1), retryScheduled(2, NOW + 10_000)] as const;
    delivery(...waiting)
      .when(report())
      .then(reported("retrying", "delivered"));
    delivery(...waiting, reported("retrying", "delivered"))
      .when(start(2, NOW + 10_000))
      .thenNothing();
  });
  test("one that was given up on is delivered all the same, one that was cancelled stays so", () => {
    const over = [requested(), started(1), failed(1, "unknown"), exhausted("attempts_exhausted")] as const;
    delivery(...over)
      .when(report())
      .then(reported("exhausted", "delivered"));
    const stopped = [requested(), started(1), failed(1, "unknown"), cancelled("sending")] as const;
    delivery(...stopped)
      .when(report())
      .then(reported("cancelled", "cancelled"));
  });
});

test("a bounced mail can be started again, and then the reports of its new attempts count", () => {
  const bounced = [...sent, reported("sent", "bounced", HARD)] as const;
  delivery(...bounced)
    .when(redrive())
    .then(redriven("bounced", NOW + HOUR));
  const again = [...bounced, redriven("bounced", NOW + HOUR), started(2, "pending"), succeeded(2)] as const;
  delivery(...again)
    .when(report())
    .then(reported("sent", "delivered"));
});

test("there are no reports of what was never attempted, nor of what is no mail", () => {
  delivery().when(report()).thenRejected("not_found");
  delivery(requested()).when(report()).thenRejected("not_found");
  delivery(webhookRequested, started(1), succeeded(1)).when(report()).thenRejected("not_found");
});

test("opens beyond the limit are not kept, a bounce still is", () => {
  const opens = Array.from({ length: MAX_NOTICES }, () => reported("sent", "sent", { kind: "opened" }));
  delivery(...sent, ...opens)
    .when(report({ kind: "opened" }))
    .thenNothing();
  delivery(...sent, ...opens)
    .when(report(HARD))
    .then(reported("sent", "bounced", HARD));
});
