// Attempts of a delivery: their starts, their outcomes, and what follows from those.
import { describe, expect, test } from "vitest";
import { type DeliveryCommand, deliveryDecider } from "../../src/domain/delivery.ts";
import type { Delivery, DeliveryEvent } from "../../src/domain/delivery-state.ts";
import { NOW } from "../support/given.ts";
import {
  base,
  cancel,
  cancelled,
  cancelRequested,
  delivery,
  exhausted,
  expired,
  failed,
  failure,
  HOUR,
  LEASE,
  record,
  redriven,
  request,
  requested,
  retryScheduled,
  socketRequested,
  start,
  started,
  succeeded,
  success,
  webhookRequested,
} from "./deliveries.ts";

/** Attempt 1 failed, attempt 2 is due 10 s later. */
const once = [requested(), started(1), failed(1), retryScheduled(2, NOW + 10_000)];

describe("requesting", () => {
  test("opens the delivery", () => delivery().when(request()).then(requested()));
  test("twice opens one", () => delivery(requested()).when(request()).thenNothing());
  test("without an address ends it at once", () =>
    delivery()
      .when(request({ address: null }))
      .then(requested({ address: null }), exhausted("no_address", "pending")));
  test("comes first", () => {
    for (const command of [start(1), record(1, success), cancel()]) delivery().when(command).thenRejected("not_found");
  });
});

describe("starting an attempt", () => {
  test("is recorded before anything is sent, with the end of its lease", () =>
    delivery(requested()).when(start(1)).then(started(1)));
  test("whose time has not come waits", () =>
    delivery(...once)
      .when(start(2, NOW + 9_999))
      .thenNothing());
  test("whose time has come goes on from the last number", () =>
    delivery(...once)
      .when(start(2, NOW + 10_000))
      .then(started(2, "retrying", NOW + 10_000)));
  test("of another number than the next does nothing", () => {
    for (const n of [1, 3])
      delivery(...once)
        .when(start(n, NOW + 10_000))
        .thenNothing();
    delivery(requested()).when(start(2)).thenNothing();
  });
  test("that is open does nothing until its lease ends", () =>
    delivery(requested(), started(1))
      .when(start(1, NOW + LEASE - 1))
      .thenNothing());
  test("that is open after its lease counts as failed, outcome unknown, and the next is scheduled", () =>
    delivery(requested(), started(1))
      .when(start(1, NOW + LEASE))
      .then(failed(1, "unknown"), retryScheduled(2, NOW + LEASE + 10_000)));
  test("after the delivery's end does nothing", () => {
    delivery(requested(), started(1), succeeded(1)).when(start(1)).thenNothing();
    delivery(requested(), cancelled("pending")).when(start(1)).thenNothing();
  });
  test("past the delivery's time expires it", () => {
    delivery(requested())
      .when(start(1, NOW + HOUR))
      .then(expired("pending"));
    delivery(...once)
      .when(start(2, NOW + HOUR))
      .then(expired("retrying"));
  });
  test("is nothing for a socket", () => delivery(socketRequested()).when(start(1)).thenNothing());
});

describe("a success", () => {
  test("of a mail is sent, of a webhook delivered", () => {
    delivery(requested(), started(1)).when(record(1, success)).then(succeeded(1));
    delivery(webhookRequested, started(1))
      .when(record(1, success))
      .then(succeeded(1, "sending", "delivered"));
  });
  test("that comes late counts as long as the delivery has not ended", () => {
    delivery(requested(), started(1), failed(1, "unknown"), retryScheduled(2, NOW + 10_000))
      .when(record(1, success))
      .then(succeeded(1, "retrying"));
    delivery(...once, started(2))
      .when(record(1, success))
      .then(succeeded(1));
    delivery(requested(), started(1), failed(1, "permanent"), exhausted("smtp_450"), redriven("exhausted", NOW + HOUR))
      .when(record(1, success))
      .then(succeeded(1, "pending"));
  });
  test("after the delivery's end changes nothing", () => {
    delivery(requested(), started(1), succeeded(1)).when(record(1, success)).thenNothing();
    delivery(requested(), started(1), failed(1, "permanent"), exhausted("smtp_450"))
      .when(record(1, success))
      .thenNothing();
  });
  test("of an attempt that never started is none", () => {
    delivery(requested()).when(record(1, success)).thenNothing();
    delivery(...once)
      .when(record(2, success))
      .thenNothing();
    delivery(socketRequested()).when(record(1, success)).thenNothing();
  });
});

describe("a failure", () => {
  test("that may pass schedules the next attempt by the policy", () => {
    delivery(requested(), started(1))
      .when(record(1, failure()))
      .then(failed(1), retryScheduled(2, NOW + 10_000));
    delivery(...once, started(2))
      .when(record(2, failure()))
      .then(failed(2), retryScheduled(3, NOW + 20_000));
  });
  test("of the last attempt exhausts it", () =>
    delivery(...once, started(2), failed(2), retryScheduled(3, NOW), started(3))
      .when(record(3, failure()))
      .then(failed(3), exhausted("attempts_exhausted")));
  test("that is permanent exhausts it, with its code as the reason", () =>
    delivery(requested(), started(1))
      .when(record(1, failure("permanent")))
      .then(failed(1, "permanent"), exhausted("smtp_450")));
  test("waits as long as the receiver asks", () =>
    delivery(requested(), started(1))
      .when(record(1, failure("transient", 120_000)))
      .then(failed(1), retryScheduled(2, NOW + 120_000)));
  test("whose next attempt would come at the delivery's end or later expires it", () => {
    delivery(requested({ expiresAt: NOW + 10_000 }), started(1))
      .when(record(1, failure()))
      .then(failed(1), expired("sending"));
    delivery(requested({ expiresAt: NOW + 10_001 }), started(1))
      .when(record(1, failure()))
      .then(failed(1), retryScheduled(2, NOW + 10_000));
  });
  test("that comes twice, or late, changes nothing", () => {
    delivery(...once)
      .when(record(1, failure()))
      .thenNothing();
    delivery(...once, started(2))
      .when(record(1, failure()))
      .thenNothing();
    delivery(requested(), started(1), succeeded(1)).when(record(1, failure())).thenNothing();
  });
});

describe("cancelling", () => {
  test("ends what is waiting", () => {
    delivery(requested()).when(cancel()).then(cancelled("pending"));
    delivery(...once)
      .when(cancel())
      .then(cancelled("retrying"));
    delivery(socketRequested()).when(cancel()).then(cancelled("pending"));
  });
  test("leaves an open attempt its outcome, and lets none follow", () => {
    const open = [requested(), started(1)];
    delivery(...open)
      .when(cancel())
      .then(cancelRequested);
    delivery(...open, cancelRequested)
      .when(record(1, success))
      .then(succeeded(1));
    delivery(...open, cancelRequested)
      .when(record(1, failure()))
      .then(failed(1), cancelled("sending"));
    delivery(...open, cancelRequested)
      .when(start(1, NOW + LEASE))
      .then(failed(1, "unknown"), cancelled("sending"));
  });
  test("twice, or after the end, changes nothing", () => {
    delivery(requested(), started(1), cancelRequested).when(cancel()).thenNothing();
    delivery(requested(), cancelled("pending")).when(cancel()).thenNothing();
    delivery(requested(), started(1), succeeded(1)).when(cancel()).thenNothing();
  });
});

describe("a mail with copies", () => {
  const result = (index: number, outcome: "taken" | "deferred" | "refused") => ({ index, outcome, status: 250 });
  const deferred = { ...failure(), recipients: [result(0, "taken"), result(1, "deferred"), result(2, "refused")] };
  const recorded = { ...failed(1).data, recipients: deferred.recipients };
  const afterFirst = [requested(), started(1), { type: "DeliveryAttemptFailed", data: recorded } as DeliveryEvent];
  const sentIn = (n: number, from: "sending" | "retrying"): DeliveryEvent => ({
    type: "DeliverySucceeded",
    data: {
      ...{ ...base, from, to: "sent", n, provider: "main" },
      ...{ response: null, providerMessageId: null, recipients: [] },
    },
  });
  const retried = [...afterFirst, retryScheduled(2, NOW + 10_000)];

  test("of which one is deferred is tried again, and what became of each is recorded", () =>
    delivery(requested(), started(1))
      .when(record(1, deferred))
      .then(...retried.slice(2)));
  test("knows who has it, and who never will, whoever attempts it next", () => {
    const state = retried.reduce<Delivery>(
      (before, event) => deliveryDecider.evolve(before, event, { seq: 1, at: NOW }),
      deliveryDecider.initial,
    );
    expect(state).toMatchObject({ taken: [0], refused: [2], takenIn: 1 });
  });
  test("is sent when its attempts are used up, or fail for good, once its recipient has it", () => {
    delivery(...retried, started(2), failed(2), retryScheduled(3, NOW), started(3))
      .when(record(3, failure()))
      .then(failed(3), sentIn(1, "sending"));
    delivery(...retried, started(2))
      .when(record(2, failure("permanent")))
      .then(failed(2, "permanent"), sentIn(1, "sending"));
  });
  test("is sent when it is cancelled while only copies are tried", () =>
    delivery(...retried)
      .when({ type: "Cancel", at: NOW })
      .then(sentIn(1, "retrying")));
});

describe("a lease", () => {
  const extend = (n: number, at = NOW): DeliveryCommand => ({ type: "ExtendLease", at, n, leaseMs: 600_000 });
  test("grows while its attempt is under way, and only then", () => {
    delivery(requested(), started(1))
      .when(extend(1, NOW + 1_000))
      .then({
        type: "DeliveryLeaseExtended",
        data: { ...base, from: "sending", to: "sending", n: 1, leaseUntil: NOW + 601_000 },
      });
    delivery(requested(), started(1)).when(extend(2)).thenNothing();
    delivery(requested(), started(1))
      .when(extend(1, NOW + LEASE))
      .thenNothing();
    delivery(requested(), started(1), succeeded(1)).when(extend(1)).thenNothing();
  });
});

describe("an open attempt", () => {
  const failOver = (n: number, at = NOW): DeliveryCommand => {
    return { type: "FailOver", at, n, provider: "backup", code: "auth_failed", leaseMs: LEASE };
  };
  const over = (at: number): DeliveryEvent => ({
    type: "ProviderFailedOver",
    data: { ...base, n: 1, from: "main", to: "backup", code: "auth_failed", leaseUntil: at + LEASE },
  });
  test("goes on with another provider while its lease lasts, unless it is to be cancelled", () => {
    delivery(requested(), started(1))
      .when(failOver(1, NOW + 1_000))
      .then(over(NOW + 1_000));
    delivery(requested(), started(1)).when(failOver(2)).thenNothing();
    delivery(requested(), started(1))
      .when(failOver(1, NOW + LEASE))
      .thenNothing();
    delivery(requested(), started(1), succeeded(1)).when(failOver(1)).thenNothing();
    delivery(requested(), started(1), cancelRequested).when(failOver(1)).thenNothing();
  });
});
