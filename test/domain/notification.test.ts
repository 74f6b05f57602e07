// Whatever is asked of a notification, in whatever order, what it promises holds.
import { expect, test } from "vitest";
import type { Priority } from "../../src/contract/deliveries.ts";
import {
  type NotificationCommand,
  type NotificationData,
  type NotificationEvent,
  notificationDecider,
  WITHOUT_OPTIONS,
} from "../../src/domain/notification.ts";
import { pause } from "../support/arbitraries.ts";
import { NOW } from "../support/given.ts";
import fc from "../support/seed.ts";
import { holds, type Recorded, type Step } from "./simulation.ts";

type NotificationStep = Step<NotificationEvent, NotificationCommand>;

const sendIn = fc.oneof(fc.constant(null), fc.integer({ min: -1_000, max: 30_000 }));
const data = (sendAt: number | null): NotificationData => ({
  client: "cli_a",
  channel: "email",
  contentKey: "ntf_a",
  subject: null,
  content: { open: "hello" },
  text: null,
  meta: { open: {} },
  priority: "normal",
  sendAt,
  expiresAt: NOW + 1_000_000,
  roomId: null,
  recipients: [],
  audience: null,
  contentType: null,
  ...WITHOUT_OPTIONS,
  replyTo: null,
  cc: { open: [] },
  bcc: { open: [] },
  fallback: null,
});
const request: fc.Arbitrary<NotificationStep> = sendIn.map((wait) => ({
  pause: 0,
  command: (at) => ({ type: "Request", at, data: data(wait === null ? null : NOW + wait) }),
}));
const step: fc.Arbitrary<NotificationStep> = fc
  .record({
    pause: pause(),
    type: fc.constantFrom("Edit", "Release", "Cancel", "MarkRouted", "Release", "Edit"),
    rare: fc.nat({ max: 3 }),
    sendIn: fc.option(sendIn, { nil: undefined }),
    priority: fc.constantFrom<Priority>("low", "normal", "high"),
    openDeliveries: fc.boolean(),
    ifMatch: fc.option(fc.nat({ max: 4 }), { freq: 4 }),
  })
  .map(({ pause, type, rare, sendIn, priority, openDeliveries, ifMatch }) => ({
    pause,
    command: (at): NotificationCommand => {
      if (type === "Cancel" && rare === 0) return { type, at, openDeliveries, ifMatch };
      if (type === "MarkRouted") return { type, at, deliveries: 1 };
      if (type !== "Edit") return { type: "Release", at };
      const moved = sendIn === undefined ? {} : { send_at: sendIn === null ? null : NOW + sendIn };
      return { type, at, ifMatch, patch: { priority, ...moved } };
    },
  }));
const steps = fc
  .tuple(request, fc.array(step, { maxLength: 25, size: "max" }))
  .map(([first, rest]) => [first, ...rest]);

const count = (log: readonly Recorded<NotificationEvent>[], type: NotificationEvent["type"]) =>
  log.filter(({ event }) => event.type === type).length;

test("a notification keeps its promises", () => {
  const seen = new Set<string>();
  holds(notificationDecider, steps, [], ({ log, after, before }) => {
    const released = count(log, "NotificationReleased");
    const cancelled = count(log, "NotificationCancelled");
    // Released or cancelled, never both; each at most once.
    expect(released + cancelled).toBeLessThanOrEqual(1);
    for (const type of ["NotificationRequested", "NotificationStopRequested", "NotificationRouted"] as const) {
      expect(count(log, type)).toBeLessThanOrEqual(1);
    }
    let over = false;
    let sendAt: number | null = null;
    for (const { event, context } of log) {
      seen.add(event.type);
      if (event.type === "NotificationRequested" || event.type === "NotificationEdited") {
        expect(over).toBe(false);
        sendAt = event.data.sendAt;
      }
      // Never before its time.
      if (event.type === "NotificationReleased") expect(sendAt ?? 0).toBeLessThanOrEqual(context.at);
      if (event.type === "NotificationStopRequested" || event.type === "NotificationRouted") expect(released).toBe(1);
      over ||= event.type === "NotificationReleased" || event.type === "NotificationCancelled";
    }
    if (after.status === "none") return;
    expect(after.revision).toBe(log.length - 1);
    expect(after.updatedAt).toBe(log.at(-1)?.context.at);
    if (before.status !== "none" && before.status !== "scheduled") expect(after.status).toBe(before.status);
  });
  expect(seen.size).toBe(6);
});
