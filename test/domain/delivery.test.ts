// Whatever happens to a delivery, in whatever order, what it promises holds.
import { describe, expect, test } from "vitest";
import type { Channel, DeliveryStatus } from "../../src/contract/deliveries.ts";
import { type AttemptOutcome, type DeliveryCommand, deliveryDecider } from "../../src/domain/delivery.ts";
import {
  type Delivery,
  type DeliveryEvent,
  hasEnded,
  REDRIVABLE,
  statusAfter,
} from "../../src/domain/delivery-state.ts";
import { pause } from "../support/arbitraries.ts";
import { NOW } from "../support/given.ts";
import fc from "../support/seed.ts";
import { type Decided, holds, type Recorded, type Step, simulate } from "./simulation.ts";

type DeliveryStep = Step<DeliveryEvent, DeliveryCommand>;
type Log = readonly Recorded<DeliveryEvent>[];

const LEASE = 3_000;
const OFTEN = ["transient", "transient", "transient", "transient"] as const;
const retrying = { policy: { scheduleMs: [1_000, 2_000, 4_000], jitter: 0.2 } };
const span = fc.integer({ min: 1, max: 200_000 });

const request = (channel: fc.Arbitrary<Channel>): fc.Arbitrary<DeliveryStep> =>
  fc
    .record({ channel, expiresIn: span, fallbackIn: fc.option(span), address: fc.integer({ min: 0, max: 9 }) })
    .map(({ channel, expiresIn, fallbackIn, address }) => ({
      pause: 0,
      command: (at) => ({
        type: "Request",
        at,
        request: {
          notification: "ntf_a",
          recipient: "sub_a",
          channel,
          address: address === 0 ? null : { open: "there" },
          name: null,
          fallbackOf: null,
          priority: "normal",
          bulk: false,
          expiresAt: NOW + expiresIn,
          fallbackAt: channel === "websocket" && fallbackIn !== null ? NOW + fallbackIn : null,
        },
      }),
    }));

/** The highest number that was started, and the one that would be next. */
const lastStarted = (log: Log): number =>
  log.reduce((n, { event }) => (event.type === "DeliveryAttemptStarted" ? event.data.n : n), 0);

const attempt: fc.Arbitrary<DeliveryStep> = fc
  .record({
    pause: pause(10_000),
    kind: fc.constantFrom("start", "start", "outcome"),
    off: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, -1, 1),
    outcome: fc.constantFrom<AttemptOutcome["outcome"]>(...OFTEN, "succeeded", "permanent", "unknown"),
    retryAfterMs: fc.option(fc.nat({ max: 5_000 })),
    random: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  })
  .map(({ pause, kind, off, outcome, retryAfterMs, random }) => ({
    pause,
    command: (at, log): DeliveryCommand => {
      const last = lastStarted(log);
      const about = { at, provider: "main", random, ...retrying };
      if (kind === "start") return { ...about, type: "StartAttempt", n: last + 1 + off, leaseMs: LEASE, domain: null };
      const error = outcome === "succeeded" ? null : { code: "busy", message: "busy" };
      const result = {
        outcome,
        provider: "main",
        response: null,
        error,
        refusal: null,
        retryAfterMs,
        providerMessageId: null,
        recipients: [],
      };
      return { ...about, type: "RecordOutcome", n: last + off, outcome: result };
    },
  }));
/** Finds the open attempt again, as a worker does whose job came back. */
const resume: fc.Arbitrary<DeliveryStep> = pause().map((wait) => ({
  pause: wait,
  command: (at, log) => ({
    type: "StartAttempt",
    at,
    n: lastStarted(log),
    provider: "main",
    leaseMs: LEASE,
    domain: null,
    random: 0.5,
    ...retrying,
  }),
}));

const simple = (make: (at: number) => DeliveryCommand): fc.Arbitrary<DeliveryStep> =>
  pause(10_000).map((wait) => ({ pause: wait, command: make }));
const acknowledge = simple((at) => ({ type: "Acknowledge", at, subject: "sub_a" }));
const fallbackDue = simple((at) => ({
  type: "FallbackDue",
  at,
  mail: { id: "dlv_mail", recipient: "sub_mail", address: null, name: null },
}));
const expire = simple((at) => ({ type: "Expire", at, reason: "expired" }));
const tooMany = simple((at) => ({ type: "Expire", at, reason: "too_many_open" }));
const cancel = simple((at) => ({ type: "Cancel", at }));
const report: fc.Arbitrary<DeliveryStep> = fc
  .record({
    pause: pause(10_000),
    kind: fc.constantFrom("delivered" as const, "bounced" as const, "complained" as const, "opened" as const),
    bounce: fc.constantFrom("hard" as const, "soft" as const, "rejected" as const),
    index: fc.constantFrom(0, 0, 0, 1, null),
  })
  .map(({ pause, kind, bounce, index }) => ({
    pause,
    command: (at) => {
      const about = { kind, bounce: kind === "bounced" ? bounce : null, index, code: null, message: null };
      return { type: "Report", at, report: { ...about, provider: "main", report: "r", happenedAt: at } };
    },
  }));
const redrive = simple((at) => ({ type: "Redrive", at }));

const run = (
  channel: fc.Arbitrary<Channel>,
  ...steps: (fc.Arbitrary<DeliveryStep> | fc.WeightedArbitrary<DeliveryStep>)[]
): fc.Arbitrary<readonly DeliveryStep[]> =>
  fc
    .tuple(request(channel), fc.array(fc.oneof(...steps), { maxLength: 40, size: "max" }))
    .map(([first, rest]) => [first, ...rest]);

const ofType = <T extends DeliveryEvent["type"]>(log: Log, type: T) =>
  log.flatMap(({ event }) => (event.type === type ? [event as Extract<DeliveryEvent, { type: T }>] : []));

const moves = (log: Log) => log.flatMap(({ event }) => (event.type === "ProviderFailedOver" ? [] : [event]));

/** Each event goes on from the status that the one before left, and nothing leaves an end but starting again. */
function statusesChain(log: Log): void {
  let status: DeliveryStatus | null = null;
  for (const event of moves(log)) {
    expect(event.data.from).toBe(status);
    if (status !== null && hasEnded(status)) {
      const readLate = event.type === "DeliveryAcknowledged" && status === "fell_back";
      const told = event.type === "DeliveryReported";
      expect(told || readLate || event.type === "DeliveryRedriven", `${event.type} after ${status}`).toBe(true);
    }
    if (event.type === "DeliveryRedriven") expect(REDRIVABLE).toContain(status);
    status = event.data.to;
  }
}

/** Numbers count 1, 2, 3; one attempt is open at a time; an outcome is of one that was started. */
function attemptsCount(log: Log): void {
  let last = 0;
  let open = false;
  for (const event of moves(log)) {
    if (event.type === "DeliveryAttemptStarted") {
      expect(open).toBe(false);
      expect(event.data.n).toBe(last + 1);
      last += 1;
    }
    if (event.type === "DeliverySucceeded") expect(event.data.n).toBeLessThanOrEqual(last);
    if (event.type === "DeliveryAttemptFailed") expect(event.data.n).toBe(last);
    if (event.type === "DeliveryRetryScheduled") expect(event.data.n).toBe(last + 1);
    open = event.data.to === "sending";
  }
}

/** Between two starts of the delivery there is at most one outcome, and after a cancellation no new attempt. */
function livesEndOnce(log: Log): void {
  let ends = 0;
  let stopped = false;
  for (const event of moves(log)) {
    if (event.type === "DeliveryRedriven") {
      ends = 0;
      stopped = false;
    }
    if (event.type === "DeliveryAttemptStarted" || event.type === "DeliveryRetryScheduled") expect(stopped).toBe(false);
    if (event.type === "DeliveryCancelRequested" || event.type === "DeliveryCancelled") stopped = true;
    const reads = event.type === "DeliveryAcknowledged" && event.data.from === "fell_back";
    const tells = event.type === "DeliveryReported" && hasEnded(event.data.from ?? "pending");
    if (hasEnded(event.data.to) && !reads && !tells) ends += 1;
    expect(ends).toBeLessThanOrEqual(1);
  }
}

/** Never acknowledged in time and fallen back as well. */
function neverBoth(log: Log): void {
  const inTime = ofType(log, "DeliveryAcknowledged").filter((event) => event.data.to === "delivered").length;
  expect(inTime + ofType(log, "DeliveryFallbackRequested").length).toBeLessThanOrEqual(1);
  expect(ofType(log, "DeliveryAcknowledged").length).toBeLessThanOrEqual(1);
}

/** A bounce or a complaint stays until it is started again, and only an attempted mail has any. */
function reportsCount(log: Log): void {
  let final: DeliveryStatus | null = null as DeliveryStatus | null;
  for (const { event } of log) {
    if (event.type === "DeliveryRedriven") final = null;
    if (final !== null) expect(event.data.to).toBe(final);
    if (event.data.to === "bounced" || event.data.to === "complained") final = event.data.to;
  }
  expect(log[1]?.event.type).not.toBe("DeliveryReported");
}

function keeps({ log, after }: Decided<Delivery, DeliveryEvent, DeliveryCommand>): void {
  statusesChain(log);
  attemptsCount(log);
  livesEndOnce(log);
  neverBoth(log);
  if (after.status === "none") return;
  expect(after.status).toBe(moves(log).at(-1)?.data.to);
  // The types of its events alone tell its status, but for what was reported.
  if (ofType(log, "DeliveryReported").length > 0) {
    reportsCount(log);
    return;
  }
  const { channel } = after.request;
  const told = log.reduce<DeliveryStatus>((before, { event }) => statusAfter(before, event.type, channel), "pending");
  expect(told).toBe(after.status);
}

describe("a delivery keeps its promises", () => {
  test("with attempts", () => {
    let attempts = 0;
    const mails = fc.constantFrom<Channel>("email", "webhook");
    const steps = run(mails, { weight: 30, arbitrary: attempt }, resume, expire, cancel, {
      weight: 3,
      arbitrary: redrive,
    });
    holds(deliveryDecider, steps, [], (done) => {
      keeps(done);
      attempts += done.events.filter((event) => event.type === "DeliveryAttemptStarted").length;
    });
    expect(attempts).toBeGreaterThan(100);
  });

  test("with reports of its provider", () => {
    let told = 0;
    const attempting = { weight: 20, arbitrary: attempt };
    const steps = run(fc.constant("email"), attempting, { weight: 10, arbitrary: report }, resume, expire, cancel, {
      weight: 3,
      arbitrary: redrive,
    });
    holds(deliveryDecider, steps, ["Report"], (done) => {
      keeps(done);
      told += ofType(done.log.slice(-done.events.length), "DeliveryReported").length;
    });
    expect(told).toBeGreaterThan(50);
  });

  test("by acknowledgement", () => {
    let ended = 0;
    const steps = run(fc.constant("websocket"), acknowledge, fallbackDue, expire, tooMany, cancel, redrive, attempt);
    holds(deliveryDecider, steps, [], (done) => {
      keeps(done);
      expect(ofType(done.log, "DeliveryAttemptStarted")).toEqual([]);
      ended += done.events.filter((event) => event.type !== "ProviderFailedOver" && hasEnded(event.data.to)).length;
    });
    expect(ended).toBeGreaterThan(50);
  });
});

describe("an acknowledgement racing the deadline", () => {
  /** What came of it once the deadline's job has run, as it does in the end. */
  const outcome = (steps: readonly DeliveryStep[]): { inTime: number; fellBack: number } => {
    const due: DeliveryStep = { pause: 100_000, command: (at) => commandOf("FallbackDue", at) };
    const log = simulate(deliveryDecider, [...steps, due]).at(-1)?.log ?? [];
    return {
      inTime: ofType(log, "DeliveryAcknowledged").filter((event) => event.data.to === "delivered").length,
      fellBack: ofType(log, "DeliveryFallbackRequested").length,
    };
  };
  const commandOf = (type: "Acknowledge" | "FallbackDue" | "Expire", at: number): DeliveryCommand => {
    if (type === "Acknowledge") return { type, at, subject: "sub_a" };
    if (type === "Expire") return { type, at, reason: "expired" };
    return { type, at, mail: { id: "dlv_mail", recipient: "sub_mail", address: null, name: null } };
  };
  const requested = fc.record({ fallbackIn: fc.integer({ min: 1, max: 20_000 }), longer: fc.nat({ max: 20_000 }) }).map(
    ({ fallbackIn, longer }): DeliveryStep => ({
      pause: 0,
      command: (at) => ({
        type: "Request",
        at,
        request: {
          notification: "ntf_a",
          recipient: "sub_a",
          channel: "websocket",
          address: { open: "ada" },
          name: null,
          fallbackOf: null,
          priority: "normal",
          bulk: false,
          expiresAt: at + fallbackIn + longer,
          fallbackAt: at + fallbackIn,
        },
      }),
    }),
  );
  const racing = fc.array(
    fc
      .record({ pause: pause(15_000), type: fc.constantFrom("Acknowledge", "FallbackDue", "Expire") })
      .map(({ pause, type }): DeliveryStep => ({ pause, command: (at) => commandOf(type, at) })),
    { maxLength: 8 },
  );

  test("ends in one of the two: never both, never neither", () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(requested, racing, (first, steps) => {
        const { inTime, fellBack } = outcome([first, ...steps]);
        expect(inTime + fellBack).toBe(1);
        seen.add(inTime === 1 ? "in time" : "fell back");
      }),
      { numRuns: 1_000 },
    );
    expect(seen.size).toBe(2);
  });
});
