// A notification as it was at a position: where its deliveries stood, told by the types of their events alone.
import { expect, test } from "vitest";
import { statusAfter } from "../../../src/app/notifications/as-of.ts";
import { type Channel, ChannelSchema } from "../../../src/contract/resources.ts";
import { type DeliveryCommand, deliveryDecider } from "../../../src/domain/delivery.ts";
import type { DeliveryEvent } from "../../../src/domain/delivery-events.ts";
import { DomainError } from "../../../src/domain/errors.ts";
import { NOW } from "../../support/given.ts";
import fc from "../../support/seed.ts";

const policy = { scheduleMs: [1_000, 1_000], jitter: 0 };
const retrying = { policy, random: 0.5 };

/** Commands that fit the delivery now, as often as not. */
const step = fc.record({
  kind: fc.constantFrom("start", "succeed", "fail", "give up", "ack", "fall back", "cancel", "expire", "redrive"),
  pause: fc.constantFrom(0, 1_000, 60_000),
});

function commandOf(kind: string, n: number, at: number): DeliveryCommand {
  const outcome = { provider: "p", response: null, retryAfterMs: null, providerMessageId: null, error: null };
  const record = (how: "succeeded" | "transient" | "permanent"): DeliveryCommand => ({
    ...{ type: "RecordOutcome", at, n, ...retrying },
    outcome: { ...outcome, outcome: how },
  });
  switch (kind) {
    case "start":
      return { type: "StartAttempt", at, n, provider: "p", leaseMs: 30_000, ...retrying };
    case "succeed":
      return record("succeeded");
    case "fail":
      return record("transient");
    case "give up":
      return record("permanent");
    case "ack":
      return { type: "Acknowledge", at, subject: "sub_a" };
    case "fall back": {
      const mail = { id: "dlv_mail", recipient: "sub_b", address: "b@example.com", name: null } as const;
      return { type: "FallbackDue", at, mail };
    }
    case "cancel":
      return { type: "Cancel", at };
    case "expire":
      return { type: "Expire", at, reason: "too_many_open" };
    default:
      return { type: "Redrive", at };
  }
}

const requestOf = (channel: Channel, hasAddress: boolean): DeliveryCommand => ({
  type: "Request",
  at: NOW,
  request: {
    ...{ notification: "ntf_1", recipient: "sub_a", channel, priority: "normal", bulk: false, name: null },
    address: hasAddress ? { open: "somewhere" } : null,
    ...{ fallbackOf: null, expiresAt: NOW + 3_600_000, fallbackAt: channel === "websocket" ? NOW + 30_000 : null },
  },
});

test("the types of its events say where a delivery stands, whatever happened to it", () => {
  const seen = new Set<string>();
  const histories = fc.record({
    channel: fc.constantFrom(...ChannelSchema.options),
    hasAddress: fc.boolean(),
    steps: fc.array(step, { maxLength: 30 }),
  });
  fc.assert(
    fc.property(histories, ({ channel, hasAddress, steps }) => {
      let state = deliveryDecider.initial;
      let at = NOW;
      const types: DeliveryEvent["type"][] = [];
      const apply = (command: DeliveryCommand) => {
        for (const event of decided(state, command)) {
          types.push(event.type);
          state = deliveryDecider.evolve(state, event, { seq: types.length, at });
        }
        seen.add(`${channel} ${state.status}`);
        expect(statusAfter(channel, types)).toBe(state.status);
      };
      apply(requestOf(channel, hasAddress));
      for (const { kind, pause } of steps) {
        at += pause;
        apply(commandOf(kind, state.status === "none" ? 1 : state.n, at));
      }
    }),
    { numRuns: 500 },
  );
  for (const status of ["email sent", "webhook delivered", "websocket fell_back", "email retrying", "email expired"]) {
    expect([...seen]).toContain(status);
  }
});

function decided(state: Parameters<typeof deliveryDecider.decide>[0], command: DeliveryCommand) {
  try {
    return deliveryDecider.decide(state, command, new Map());
  } catch (error) {
    if (error instanceof DomainError) return [];
    throw error;
  }
}
