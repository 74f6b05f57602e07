// Notifications and their deliveries, folded without a database.
import { describe, expect, test } from "vitest";
import type { DeliveryStatus } from "../../src/contract/deliveries.ts";
import type { DeliveryId, Subject } from "../../src/contract/ids.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { seal } from "../../src/domain/event.ts";
import type { StoredEvent } from "../../src/event-store/envelope.ts";
import { foldRows } from "../../src/projections/fold.ts";
import { attempts } from "../../src/projections/models/attempts.ts";
import { deliveries } from "../../src/projections/models/deliveries.ts";
import { notifications, recipients } from "../../src/projections/models/notifications.ts";
import { ANNA, BEN, deliveryRequested, EVE, NOTIFICATION, requestedNotification, storedEvents } from "./log.ts";

const STREAM = `notification-${NOTIFICATION}`;
const FIRST = "delivery-dlv_1";
const released: DomainEvent = { type: "NotificationReleased", data: {} };
const routed: DomainEvent = { type: "NotificationRouted", data: { deliveries: 1 } };
const base = <F extends DeliveryStatus, T extends DeliveryStatus>(from: F, to: T, recipient: Subject = ANNA) => ({
  notification: NOTIFICATION,
  recipient,
  from,
  to,
});
const started = (n: number, from: DeliveryStatus = "pending"): DomainEvent => ({
  type: "DeliveryAttemptStarted",
  data: { ...base(from, "sending"), n, provider: "smtp", leaseUntil: 9_000 + n, domain: null },
});
const failed = (n: number): DomainEvent => ({
  type: "DeliveryAttemptFailed",
  data: {
    ...base("sending", "sending"),
    n,
    provider: "smtp",
    kind: "transient",
    response: seal({ status: 451, body: "later" }),
    error: seal({ code: "smtp_451", message: "later" }),
    recipients: [],
  },
});
const retry = (n: number, at: number): DomainEvent => ({
  type: "DeliveryRetryScheduled",
  data: { ...base("sending", "retrying"), n, at },
});
const succeeded = (n: number, to: "sent" | "delivered" = "sent"): DomainEvent => ({
  type: "DeliverySucceeded",
  data: { ...base("sending", to), n, provider: "smtp", response: null, providerMessageId: "<id>", recipients: [] },
});
const fallback = (mail: DeliveryId, recipient: Subject = ANNA): DomainEvent => ({
  type: "DeliveryFallbackRequested",
  data: {
    ...base("pending", "fell_back", recipient),
    mail,
    mailRecipient: EVE,
    address: seal("a@b.c"),
    name: null,
  },
});

const statusOf = (events: readonly StoredEvent[]) => foldRows(notifications, events)[0]?.status;

describe("a notification's row", () => {
  test("says what was asked for, the first hundred recipients, and who it is for", () => {
    const at = storedEvents();
    const many = Array.from({ length: 150 }, (_, index): Subject => `sub_${index}`);
    const fall = { to: null, subject: null, content: seal("mail"), afterMs: 30_000 };
    const events = [at(STREAM, requestedNotification("websocket", many, { fallback: fall, roomId: "room_x" }))];
    const [row] = foldRows(notifications, events);
    expect(row).toMatchObject({
      id: NOTIFICATION,
      client: "cli_one",
      channel: "websocket",
      subject: "Welcome",
      content: "Hello",
      room_id: "room_x",
      recipients_total: 150,
      fallback: { to: null, subject: null, content: "mail", afterMs: 30_000 },
      state: "scheduled",
      status: "scheduled",
      revision: 0,
    });
    expect(row?.recipients).toHaveLength(100);
    expect(foldRows(recipients, events)).toHaveLength(150);
  });

  test("edits replace the content; release, cancel and stop change the state", () => {
    const at = storedEvents();
    const events = [at(STREAM, requestedNotification("email", [ANNA], { sendAt: 5_000 }))];
    const content = { contentKey: NOTIFICATION, subject: null, content: seal("New"), text: null, meta: seal({}) };
    const edit = { ...content, priority: "high" as const, sendAt: 6_000, expiresAt: 7_000 };
    events.push(at(STREAM, { type: "NotificationEdited", data: edit }, { at: 2_000 }));
    expect(foldRows(notifications, events)).toMatchObject([
      { content: "New", subject: null, priority: "high", send_at: 6_000, revision: 1, updated_at: 2_000 },
    ]);
    const cancelled = [...events, at(STREAM, { type: "NotificationCancelled", data: {} })];
    expect(statusOf(cancelled)).toBe("cancelled");
  });

  test("counts its deliveries by status, in whatever order streams are read", () => {
    const at = storedEvents();
    const before = [at(STREAM, requestedNotification("email", [ANNA, BEN])), at(STREAM, released)];
    const one = [deliveryRequested(ANNA, "email"), started(1), succeeded(1)].map((event) => at(FIRST, event));
    const two = [deliveryRequested(BEN, "email"), started(1)].map((event) => at("delivery-dlv_2", event));
    const forward = foldRows(notifications, [...before, ...one, ...two]);
    expect(forward).toMatchObject([{ counts: { sent: 1, sending: 1 }, open: 1, attempts_started: true }]);
    expect(foldRows(notifications, [...before, ...two, ...one])).toEqual(forward);
    expect(statusOf([...before, ...one, ...two, at(STREAM, routed)])).toBe("processing");
  });

  test("from pending over processing to sent", () => {
    const at = storedEvents();
    const events = [at(STREAM, requestedNotification("email", [ANNA])), at(STREAM, released)];
    expect(statusOf(events)).toBe("pending");
    events.push(at(FIRST, deliveryRequested(ANNA, "email")), at(STREAM, routed));
    expect(statusOf(events)).toBe("pending");
    events.push(at(FIRST, started(1)));
    expect(statusOf(events)).toBe("processing");
    events.push(at(FIRST, succeeded(1)));
    expect(statusOf(events)).toBe("sent");
  });

  test("a fallback's mail is due until it is made, however many fall back to it", () => {
    const at = storedEvents();
    const events = [
      at(STREAM, requestedNotification("websocket", [ANNA, BEN])),
      at(STREAM, released),
      at(FIRST, deliveryRequested(ANNA, "websocket", { fallbackAt: 2_000 })),
      at("delivery-dlv_2", deliveryRequested(BEN, "websocket", { fallbackAt: 2_000 })),
      at(STREAM, routed),
      at(FIRST, fallback("dlv_mail")),
    ];
    expect(foldRows(notifications, events)).toMatchObject([{ mails_due: true, status: "pending" }]);
    events.push(at("delivery-dlv_mail", deliveryRequested(EVE, "email", { fallbackOf: "dlv_1" })));
    expect(foldRows(notifications, events)).toMatchObject([{ mails_due: false }]);
    events.push(at("delivery-dlv_2", fallback("dlv_mail", BEN)));
    expect(foldRows(notifications, events)).toMatchObject([
      { mails_due: false, counts: { fell_back: 2, pending: 1 }, mails: { dlv_mail: true } },
    ]);
    expect(foldRows(recipients, events).map((row) => row.subject)).toEqual([ANNA, BEN, EVE]);
  });
});

describe("a delivery's row", () => {
  test("is due at once, then when its lease ends, then at the retry, then never", () => {
    const at = storedEvents();
    const events = [at(FIRST, deliveryRequested(ANNA, "email"))];
    const row = () => foldRows(deliveries, events)[0];
    expect(row()).toMatchObject({
      id: "dlv_1",
      address: "anna",
      status: "pending",
      next_action_at: 1_000,
      next_attempt_at: 1_000,
      attempt_count: 0,
      to_push: false,
    });
    events.push(at(FIRST, started(1)));
    expect(row()).toMatchObject({ status: "sending", next_action_at: 9_001, next_attempt_at: null, attempt_count: 1 });
    events.push(at(FIRST, failed(1)), at(FIRST, retry(2, 6_000)));
    expect(row()).toMatchObject({ status: "retrying", n: 2, next_action_at: 6_000, error: { code: "smtp_451" } });
    events.push(at(FIRST, started(2, "retrying")), at(FIRST, succeeded(2), { at: 7_000 }));
    expect(row()).toMatchObject({
      status: "sent",
      sent_at: 7_000,
      delivered_at: null,
      next_action_at: null,
      lease_until: null,
      error: null,
      provider_message_id: "<id>",
      attempt_count: 2,
    });
    expect(foldRows(attempts, events)).toMatchObject([
      {
        number: 1,
        outcome: "transient",
        next_attempt_at: 6_000,
        response: { status: 451 },
        error: { code: "smtp_451" },
      },
      { number: 2, outcome: "succeeded", next_attempt_at: null, ended_at: 7_000 },
    ]);
  });

  test("a webhook's success is its delivery", () => {
    const at = storedEvents();
    const events = [deliveryRequested(ANNA, "webhook"), started(1), succeeded(1, "delivered")].map((one) =>
      at(FIRST, one),
    );
    expect(foldRows(deliveries, events)).toMatchObject([{ status: "delivered", sent_at: 1_000, delivered_at: 1_000 }]);
  });

  test("one without an address says why it was given up", () => {
    const at = storedEvents();
    const data = { ...base("pending", "exhausted"), reason: "no_address" };
    const events = [at(FIRST, deliveryRequested(ANNA, "email")), at(FIRST, { type: "DeliveryExhausted", data })];
    expect(foldRows(deliveries, events)).toMatchObject([
      { status: "exhausted", error: { code: "no_address" }, next_action_at: null },
    ]);
  });

  test("on a WebSocket the fallback or the expiry is due, and it is pushed on connect until somebody has it", () => {
    const at = storedEvents();
    const events = [at(FIRST, deliveryRequested(ANNA, "websocket", { fallbackAt: 31_000 }))];
    const row = () => foldRows(deliveries, events)[0];
    expect(row()).toMatchObject({ to_push: true, next_action_at: 31_000, next_attempt_at: null });
    events.push(at(FIRST, fallback("dlv_mail")));
    expect(row()).toMatchObject({
      status: "fell_back",
      to_push: true,
      next_action_at: null,
      mail: "dlv_mail",
      mail_recipient: EVE,
      mail_address: "a@b.c",
    });
    events.push(at(FIRST, { type: "DeliveryAcknowledged", data: base("fell_back", "fell_back") }, { at: 40_000 }));
    expect(row()).toMatchObject({ to_push: false, read_at: 40_000, delivered_at: null, status: "fell_back" });
  });

  test("an acknowledgement in time is delivery and reading", () => {
    const at = storedEvents();
    const acknowledged: DomainEvent = { type: "DeliveryAcknowledged", data: base("pending", "delivered") };
    const events = [at(FIRST, deliveryRequested(ANNA, "websocket")), at(FIRST, acknowledged, { at: 3_000 })];
    expect(foldRows(deliveries, events)).toMatchObject([
      { status: "delivered", delivered_at: 3_000, read_at: 3_000, to_push: false, next_action_at: null },
    ]);
  });

  test("started again, its numbers count on", () => {
    const at = storedEvents();
    const exhausted: DomainEvent = {
      type: "DeliveryExhausted",
      data: { ...base("sending", "exhausted"), reason: "smtp_550" },
    };
    const redriven: DomainEvent = {
      type: "DeliveryRedriven",
      data: { ...base("exhausted", "pending"), expiresAt: 2_000_000, fallbackAt: null, withheld: false },
    };
    const events = [deliveryRequested(ANNA, "email"), started(1), failed(1), exhausted].map((event) =>
      at(FIRST, event),
    );
    events.push(at(FIRST, redriven, { at: 50_000 }));
    expect(foldRows(deliveries, events)).toMatchObject([
      { status: "pending", n: 2, next_action_at: 50_000, error: null, expires_at: 2_000_000, attempt_count: 1 },
    ]);
    const whole = (expiresAt: number) =>
      foldRows(notifications, [at(STREAM, requestedNotification("email", [ANNA], { expiresAt })), ...events]);
    expect(whole(1_500_000)).toMatchObject([{ expires_at: 2_000_000 }]);
    expect(whole(3_000_000)).toMatchObject([{ expires_at: 3_000_000 }]);
  });
});
