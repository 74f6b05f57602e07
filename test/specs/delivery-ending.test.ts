// Acknowledgement, fallback, expiry and starting again.
import { describe, test } from "vitest";
import { at, NOW } from "../support/given.ts";
import {
  acknowledge,
  acknowledged,
  base,
  cancel,
  cancelled,
  delivery,
  exhausted,
  expire,
  expired,
  failed,
  failure,
  fallbackDue,
  fellBack,
  HOUR,
  record,
  redrive,
  redriven,
  requested,
  retryScheduled,
  socketRequested,
  start,
  started,
  succeeded,
} from "./deliveries.ts";

const DEADLINE = NOW + 30_000;

describe("an acknowledgement", () => {
  test("in time delivers", () => delivery(socketRequested()).when(acknowledge()).then(acknowledged("pending")));
  test("after the deadline still delivers, as long as the fallback was not recorded", () =>
    delivery(socketRequested())
      .when(acknowledge(DEADLINE + 5_000))
      .then(acknowledged("pending")));
  test("after the fallback says only that it was read", () =>
    delivery(socketRequested(), fellBack).when(acknowledge(DEADLINE)).then(acknowledged("fell_back")));
  test("twice changes nothing the second time", () => {
    delivery(socketRequested(), acknowledged("pending")).when(acknowledge()).thenNothing();
    delivery(socketRequested(), fellBack, acknowledged("fell_back")).when(acknowledge()).thenNothing();
  });
  test("of a cancelled or expired one changes nothing", () => {
    delivery(socketRequested(), cancelled("pending")).when(acknowledge()).thenNothing();
    delivery(socketRequested(), expired("pending")).when(acknowledge()).thenNothing();
  });
  test("by another person finds nothing, nor does one of a mail", () => {
    delivery(socketRequested()).when(acknowledge(NOW, "sub_bob")).thenRejected("not_found");
    delivery(requested()).when(acknowledge()).thenRejected("not_found");
    delivery().when(acknowledge()).thenRejected("not_found");
  });
});

describe("the fallback", () => {
  test("is requested at the deadline, with the mail that follows", () =>
    delivery(socketRequested()).when(fallbackDue()).then(fellBack));
  test("not a moment before", () =>
    delivery(socketRequested())
      .when(fallbackDue(DEADLINE - 1))
      .thenNothing());
  test("never after an acknowledgement", () =>
    delivery(socketRequested(), acknowledged("pending")).when(fallbackDue()).thenNothing());
  test("happens once", () => delivery(socketRequested(), fellBack).when(fallbackDue()).thenNothing());
  test("never after the end", () => {
    delivery(socketRequested(), cancelled("pending")).when(fallbackDue()).thenNothing();
    delivery(socketRequested(), expired("pending")).when(fallbackDue()).thenNothing();
  });
  test("is nothing for one that has none, or is no socket's", () => {
    delivery(socketRequested({ fallbackAt: null }))
      .when(fallbackDue())
      .thenNothing();
    delivery(requested({ fallbackAt: DEADLINE }))
      .when(fallbackDue())
      .thenNothing();
  });
  test("that is owed comes also when the delivery's end has passed unnoticed", () =>
    delivery(socketRequested())
      .when(fallbackDue(NOW + 2 * HOUR))
      .then(fellBack));
  test("whose deadline is after the delivery's end never comes", () =>
    delivery(socketRequested({ expiresAt: DEADLINE - 1 }))
      .when(fallbackDue())
      .then(expired("pending")));
  test("is not undone by cancelling: its mail is a delivery of its own", () =>
    delivery(socketRequested(), fellBack).when(cancel()).thenNothing());
});

describe("expiring", () => {
  test("happens at the delivery's end", () => {
    delivery(requested())
      .when(expire(NOW + HOUR))
      .then(expired("pending"));
    delivery(requested(), started(1), failed(1), retryScheduled(2, NOW + 10_000))
      .when(expire(NOW + HOUR))
      .then(expired("retrying"));
    delivery(socketRequested({ fallbackAt: null }))
      .when(expire(NOW + HOUR))
      .then(expired("pending"));
  });
  test("not a moment before", () =>
    delivery(requested())
      .when(expire(NOW + HOUR - 1))
      .thenNothing());
  test("happens before it to the oldest of too many", () =>
    delivery(socketRequested()).when(expire(NOW, "too_many_open")).then(expired("pending", "too_many_open")));
  test("leaves an open attempt its outcome", () =>
    delivery(requested(), started(1))
      .when(expire(NOW + HOUR))
      .thenNothing());
  test("leaves what ended as it is", () => {
    delivery(requested(), started(1), succeeded(1))
      .when(expire(NOW + HOUR))
      .thenNothing();
    delivery(socketRequested(), fellBack)
      .when(expire(NOW + HOUR))
      .thenNothing();
  });
  test("never takes the place of a fallback that is owed", () => {
    delivery(socketRequested())
      .when(expire(NOW + HOUR))
      .thenNothing();
    delivery(socketRequested({ fallbackAt: NOW + HOUR }))
      .when(expire(NOW + HOUR))
      .thenNothing();
    delivery(socketRequested({ fallbackAt: NOW + HOUR + 1 }))
      .when(expire(NOW + HOUR))
      .then(expired("pending"));
  });
});

describe("starting again", () => {
  const failedOnce = [requested(), started(1), failed(1, "permanent"), exhausted("smtp_450")];

  test("is for those that were exhausted or expired", () => {
    delivery(...failedOnce)
      .when(redrive())
      .then(redriven("exhausted", NOW + HOUR));
    delivery(requested(), expired("pending"))
      .when(redrive(NOW + HOUR))
      .then(redriven("expired", NOW + 2 * HOUR));
    delivery(requested()).when(redrive()).thenNothing();
    delivery(requested(), started(1)).when(redrive()).thenNothing();
    delivery(requested(), started(1), succeeded(1)).when(redrive()).thenNothing();
    delivery(requested(), cancelled("pending")).when(redrive()).thenNothing();
    delivery(socketRequested(), fellBack).when(redrive()).thenNothing();
  });
  test("twice starts once", () =>
    delivery(...failedOnce, redriven("exhausted", NOW + HOUR))
      .when(redrive())
      .thenNothing());
  test("is in vain without an address", () =>
    delivery(requested({ address: null }), exhausted("no_address", "pending"))
      .when(redrive())
      .thenNothing());
  test("counts on from the last attempt, and gives it a whole schedule again", () => {
    const again = [...failedOnce, redriven("exhausted", NOW + HOUR)];
    delivery(...again)
      .when(start(1))
      .thenNothing();
    delivery(...again)
      .when(start(2))
      .then(started(2, "pending"));
    delivery(...again, started(2, "pending"))
      .when(record(2, failure()))
      .then(failed(2), retryScheduled(3, NOW + 10_000));
  });
  test("takes the number of an attempt that was scheduled and never started", () =>
    delivery(
      requested(),
      started(1),
      failed(1),
      retryScheduled(2, NOW + 10_000),
      expired("retrying"),
      at(NOW + HOUR, redriven("expired", NOW + 2 * HOUR)),
    )
      .when(start(2, NOW + HOUR))
      .then(started(2, "pending", NOW + HOUR)));
  test("renews an end that has passed by its original span, every time", () => {
    const first = at(NOW + 2 * HOUR, redriven("expired", NOW + 3 * HOUR));
    delivery(requested(), expired("pending"))
      .when(redrive(NOW + 2 * HOUR))
      .then(first.event);
    delivery(requested(), expired("pending"), first, at(NOW + 3 * HOUR, expired("pending")))
      .when(redrive(NOW + 5 * HOUR))
      .then(redriven("expired", NOW + 6 * HOUR));
  });
  test("keeps an end still to come", () =>
    delivery(...failedOnce)
      .when(redrive(NOW + HOUR - 1))
      .then(redriven("exhausted", NOW + HOUR)));
  test("renews the deadline of the fallback by its original span, never past the end", () => {
    const tooMany = expired("pending", "too_many_open");
    delivery(socketRequested(), tooMany)
      .when(redrive(NOW + 10_000))
      .then(redriven("expired", NOW + HOUR, NOW + 40_000));
    delivery(socketRequested(), tooMany)
      .when(redrive(NOW + HOUR - 1))
      .then(redriven("expired", NOW + HOUR, NOW + HOUR));
    delivery(socketRequested(), tooMany)
      .when(redrive(NOW + HOUR))
      .then(redriven("expired", NOW + 2 * HOUR, NOW + HOUR + 30_000));
  });
});

describe("an erasure", () => {
  const erase = { type: "Erase", at: NOW } as const;
  const sent = [requested(), started(1), succeeded(1)] as const;
  const erased = { type: "DeliveryErased", data: { ...base, from: "sent", to: "sent", n: 1 } } as const;
  test("of an ended one leaves no address, once", () => {
    delivery(...sent)
      .when(erase)
      .then(erased);
    delivery(...sent, erased).thenState({ erased: true, request: { address: { erased: true } } });
    delivery(...sent, erased)
      .when(erase)
      .thenNothing();
  });
  test("waits for the end of what is open", () => {
    delivery(requested()).when(erase).thenNothing();
    delivery(requested(), started(1)).when(erase).thenNothing();
  });
  test("is not started again", () => {
    const gone = { type: "DeliveryErased", data: { ...base, from: "exhausted", to: "exhausted", n: 1 } } as const;
    delivery(requested(), started(1), failed(1, "permanent"), exhausted("x"), gone).when(redrive()).thenNothing();
  });
});
