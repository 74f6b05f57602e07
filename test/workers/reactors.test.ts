// From events to jobs: pure, with ids that follow from the event.
import { describe, expect, test } from "vitest";
import { HOUR_MS } from "../../src/contract/time.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { seal } from "../../src/domain/event.ts";
import type { StoredEvent } from "../../src/event-store/envelope.ts";
import { jobsOf, REACTED_TYPES } from "../../src/workers/reactors.ts";

const AT = 1_700_000_000_000;
const NOTIFICATION = "ntf_1" as const;
const DELIVERY = "dlv_1" as const;
const base = { notification: NOTIFICATION, recipient: "sub_1" } as const;
const sent = {
  ...base,
  source: { notification: NOTIFICATION },
  from: null,
  to: "pending",
  address: seal("a"),
  name: null,
  fallbackOf: null,
  ...{ bulk: false, withheld: false },
} as const;

function stored(event: DomainEvent, stream: string): StoredEvent {
  const actor = { type: "system", id: "worker" } as const;
  const meta = {
    v: 1,
    at: AT,
    client: "cli_1",
    actor,
    command: "c",
    correlation: "r",
    causation: "x",
    subjects: [],
  } as const;
  // Spreading a union loses which data goes with which type.
  return { ...event, id: "e1", stream, revision: 0, position: "log.0000000000000001", meta } as unknown as StoredEvent;
}
const jobs = (event: DomainEvent, stream: string) => jobsOf(stored(event, stream));
const ofDelivery = (event: DomainEvent) => jobs(event, `delivery-${DELIVERY}`);

describe("reactors", () => {
  test("a release is routed, a stop is passed on; the same event gives the same job", () => {
    const released: DomainEvent = { type: "NotificationReleased", data: {} };
    const [job] = jobs(released, `notification-${NOTIFICATION}`);
    expect(job).toMatchObject({ client: "cli_1", cause: { correlation: "r", causation: "e1" }, at: null });
    expect(job?.work).toEqual({ kind: "route", notification: NOTIFICATION });
    expect(jobs(released, `notification-${NOTIFICATION}`)).toEqual([job]);
    const stop: DomainEvent = { type: "NotificationStopRequested", data: {} };
    expect(jobs(stop, `notification-${NOTIFICATION}`)[0]?.work.kind).toBe("stop");
  });

  test("an email or webhook is attempted at once, with its priority; one without an address never", () => {
    const times = { expiresAt: AT + HOUR_MS, fallbackAt: null };
    const data = { ...sent, ...times, channel: "email", priority: "high" } as const;
    const [job] = ofDelivery({ type: "DeliveryRequested", data });
    expect(job).toMatchObject({ work: { kind: "attempt", delivery: DELIVERY, n: 1 }, priority: "high", at: null });
    expect(ofDelivery({ type: "DeliveryRequested", data: { ...data, address: null } })).toEqual([]);
  });

  test("a websocket delivery has deadlines; a far expiry is left to the sweep", () => {
    const data = { ...sent, channel: "websocket", priority: "normal", fallbackAt: AT + 30_000 } as const;
    const kinds = (expiresAt: number) =>
      ofDelivery({ type: "DeliveryRequested", data: { ...data, expiresAt } }).map((job) => [job.work.kind, job.at]);
    expect(kinds(AT + 60_000)).toEqual([
      ["fallback", AT + 30_000],
      ["expire", AT + 60_000],
      ["overflow", AT + 5_000],
    ]);
    expect(kinds(AT + 2 * HOUR_MS).map(([kind]) => kind)).toEqual(["fallback", "overflow"]);
  });

  test("a retry comes at its time, a fallback becomes a mail", () => {
    const retry = { ...base, from: "sending", to: "retrying", n: 2, at: AT + 5_000 } as const;
    const [job] = ofDelivery({ type: "DeliveryRetryScheduled", data: retry });
    expect(job).toMatchObject({ work: { kind: "attempt", delivery: DELIVERY, n: 2 }, at: AT + 5_000 });
    const mail = { mail: "dlv_2", mailRecipient: "sub_2", address: null, name: null } as const;
    const fell = { ...base, from: "pending", to: "fell_back", ...mail } as const;
    expect(ofDelivery({ type: "DeliveryFallbackRequested", data: fell })[0]?.work).toEqual({
      kind: "mail",
      delivery: DELIVERY,
    });
  });

  test("events that nobody wants are not opened", () => {
    expect(REACTED_TYPES).not.toContain("MessagePosted");
    expect(REACTED_TYPES).toContain("NotificationReleased");
  });
});
