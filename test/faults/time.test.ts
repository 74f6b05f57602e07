// The schedule of deliveries and of messages for later under a fast clock: days go by in a moment, clocks are set, zones
// change their offset.
import { afterEach, describe, expect, test } from "vitest";
import type { Channel } from "../../src/contract/deliveries.ts";
import { DAY_MS, HOUR_MS, type Instant, MINUTE_MS, SECOND_MS } from "../../src/contract/time.ts";
import { seal } from "../../src/domain/event.ts";
import { type NotificationData, WITHOUT_OPTIONS } from "../../src/domain/notification.ts";
import { ANNA, CLIENT, NOTIFICATION } from "../projections/log.ts";
import { NOW } from "../support/given.ts";
import fc from "../support/seed.ts";
import { sized, sizedTimeout } from "../support/size.ts";
import { type Answer, type Story, tell } from "./support/clocked-deliveries.ts";
import { keepsPromisesOfLater, type LaterAct, type LaterStory, tellLater } from "./support/clocked-messages.ts";
import { isPunctual, keepsPromises, started } from "./support/kept-schedule.ts";

const BUSY: Answer = { kind: "busy", retryAfterMs: null, takesMs: 0 };
const timeout = sizedTimeout(60_000, HOUR_MS);

const notification = (start: Instant, channel: Channel, more: Partial<NotificationData> = {}): NotificationData => ({
  ...{
    client: CLIENT,
    channel,
    roomId: null,
    audience: null,
    contentType: null,
    ...WITHOUT_OPTIONS,
    replyTo: null,
    fallback: null,
    contentKey: NOTIFICATION,
  },
  recipients: [
    { subject: ANNA, address: seal(channel === "webhook" ? "https://example.com/" : "anna"), name: null, user: null },
  ],
  ...{ cc: seal([]), bcc: seal([]), subject: seal("News"), content: seal("Hello"), text: null, meta: seal({}) },
  ...{ priority: "normal", sendAt: null, expiresAt: start + 7 * DAY_MS },
  ...more,
});
const story = (start: Instant, more: Partial<Story> = {}): Story => ({
  ...{ start, data: notification(start, "webhook"), answers: [BUSY], steps: [], chances: [0.5] },
  ...{ lostJobs: [], twice: false },
  ...more,
});

const chance = fc.oneof(
  fc.constantFrom(0, 1 - Number.EPSILON),
  fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
);
const chances = fc.array(chance, { minLength: 1, maxLength: 11 });
const answer: fc.Arbitrary<Answer> = fc.record({
  kind: fc.constantFrom("busy", "busy", "busy", "busy", "busy", "busy", "dies", "dies", "gone", "taken"),
  retryAfterMs: fc.option(fc.integer({ min: 0, max: 2 * DAY_MS }), { freq: 2 }),
  takesMs: fc.nat({ max: 15 * SECOND_MS }),
});
const byMs = fc.constantFrom(-HOUR_MS, 3 * DAY_MS, -1, 1, -SECOND_MS, HOUR_MS, -DAY_MS, -3 * DAY_MS);
const step = fc.record({ reading: fc.integer({ min: 2, max: 60 }), byMs });
const stories = (steps: fc.Arbitrary<Story["steps"]>): fc.Arbitrary<Story> =>
  fc
    .record({
      ...{ steps, chances, twice: fc.boolean(), answers: fc.array(answer, { minLength: 1, maxLength: 12 }) },
      lostJobs: fc.oneof(fc.constant([]), fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 3 })),
      channel: fc.constantFrom<Channel>("webhook", "email", "websocket"),
      sendIn: fc.option(fc.integer({ min: 0, max: 30 * DAY_MS })),
      fallbackIn: fc.option(fc.integer({ min: 1, max: 2 * DAY_MS }), { freq: 3 }),
      lasts: fc.oneof(fc.constant(7 * DAY_MS), fc.integer({ min: MINUTE_MS, max: 3 * DAY_MS })),
    })
    .map(({ channel, sendIn, fallbackIn, lasts, ...rest }) => {
      const to = { subject: ANNA, address: seal("anna@example.com") };
      const fallback =
        channel === "websocket" && fallbackIn !== null
          ? { to, subject: null, content: null, afterMs: fallbackIn }
          : null;
      const sendAt = sendIn === null ? null : NOW + sendIn;
      return story(NOW, {
        ...rest,
        data: notification(NOW, channel, { sendAt, fallback, expiresAt: (sendAt ?? NOW) + lasts }),
      });
    });

describe("a receiver that is never there", () => {
  test(
    "sees 11 attempts over some 52 hours, each at its moment",
    async () => {
      await fc.assert(
        fc.asyncProperty(chances, async (drawn) => {
          const one = story(NOW, { chances: drawn });
          const told = await tell(one);
          keepsPromises(told, one);
          isPunctual(told, one);
          expect(started(told)).toHaveLength(11);
          expect(told.events.at(-1)?.type).toBe("DeliveryExhausted");
          const hours = ((told.events.at(-1)?.meta.at ?? 0) - NOW) / HOUR_MS;
          expect(hours).toBeGreaterThan(51.7 * 0.8);
          expect(hours).toBeLessThan(51.8 * 1.2);
          expect(told.sweeps).toBe(0);
        }),
        { numRuns: sized(10, 800) },
      );
    },
    timeout,
  );
});

describe("whatever receivers say, and whoever dies", () => {
  test(
    "all is done at its moment",
    async () => {
      const ends = new Set<string>();
      const punctual = async (one: Story) => {
        const told = await tell(one);
        keepsPromises(told, one);
        isPunctual(told, one);
        if (one.lostJobs.length === 0) expect(told.sweeps).toBe(0);
        for (const event of told.events) ends.add(event.type);
      };
      // So many that each end is among them.
      await fc.assert(fc.asyncProperty(stories(fc.constant([])), punctual), { numRuns: sized(150, 2_500) });
      for (const end of ["Succeeded", "Exhausted", "Expired", "FallbackRequested"])
        expect(ends).toContain(`Delivery${end}`);
    },
    timeout,
  );

  test(
    "a clock that is set, at any of its readings, loses, repeats and hastens nothing",
    async () => {
      const steps = fc.array(step, { minLength: 1, maxLength: 4 });
      const set = async (one: Story) => {
        const told = await tell(one);
        keepsPromises(told, one);
        if (one.lostJobs.length === 0) expect(told.sweeps, "no job ends before its work is done").toBe(0);
      };
      await fc.assert(fc.asyncProperty(stories(steps), set), { numRuns: sized(60, 4_000) });
    },
    timeout,
  );
});

describe("a clock that is set once, at each of its readings", () => {
  test.each(["webhook", "email", "websocket"] as const)(
    "%s: nothing is lost, repeated or hastened",
    async (channel) => {
      const dies: Answer = { kind: "dies", retryAfterMs: null, takesMs: SECOND_MS };
      const to = { subject: ANNA, address: seal("anna@example.com") };
      const fallback = channel === "websocket" ? { to, subject: null, content: null, afterMs: HOUR_MS } : null;
      const data = notification(NOW, channel, { sendAt: NOW + DAY_MS, expiresAt: NOW + 30 * DAY_MS, fallback });
      for (const byMs of [-HOUR_MS, 3 * DAY_MS]) {
        for (let reading = 2; reading <= 40; reading += 1) {
          const one = story(NOW, {
            data,
            answers: [BUSY, dies, { ...dies, kind: "taken" }],
            steps: [{ reading, byMs }],
          });
          const told = await tell(one);
          keepsPromises(told, one);
          expect(told.sends, `at reading ${reading}`).toBe(3);
          expect(told.sweeps, `no job ends before its work is done, at reading ${reading}`).toBe(0);
        }
      }
    },
  );
});

const later = (more: Partial<LaterStory> = {}): LaterStory => ({
  ...{ start: NOW, sendInMs: DAY_MS, acts: [], steps: [], deaths: [], lostJobs: [], twice: false },
  ...more,
});
const laterAct: fc.Arbitrary<LaterAct> = fc.oneof(
  fc.record({
    kind: fc.constant("move" as const),
    afterMs: fc.nat({ max: 2 * DAY_MS }),
    sendInMs: fc.integer({ min: -DAY_MS, max: 3 * DAY_MS }),
  }),
  fc.record({
    kind: fc.constantFrom("send now" as const, "cancel" as const, "remove" as const),
    afterMs: fc.nat({ max: 2 * DAY_MS }),
  }),
);
const laterStories = (steps: fc.Arbitrary<LaterStory["steps"]>): fc.Arbitrary<LaterStory> =>
  fc
    .record({
      ...{ steps, twice: fc.boolean(), sendInMs: fc.integer({ min: 1, max: 2 * DAY_MS }) },
      acts: fc.array(laterAct, { maxLength: 3 }),
      deaths: fc.array(fc.record({ command: fc.integer({ min: 1, max: 6 }), after: fc.boolean() }), { maxLength: 3 }),
      lostJobs: fc.oneof(fc.constant([]), fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 2 })),
    })
    .map((one) => later(one));

describe("a message for later", () => {
  test("is posted at its moment, once", async () => {
    const { events, sweeps } = await tellLater(later());
    const told = events
      .filter(({ stream }) => !stream.startsWith("user-"))
      .map(({ type, meta }) => [type, meta.at - NOW]);
    expect(told).toEqual([
      ["RoomCreated", 0],
      ["MessageScheduled", 0],
      ["MessageDue", DAY_MS],
      ["MessagePosted", DAY_MS],
      ["ScheduledMessagePosted", DAY_MS],
    ]);
    expect(sweeps).toBe(0);
  });

  test(
    "whatever its sender does and whoever dies: posted once, or refused or cancelled, never before its time",
    async () => {
      const ends = new Set<string>();
      const told = async (one: LaterStory) => {
        const run = await tellLater(one);
        keepsPromisesOfLater(run);
        // Whoever sends now posts it itself; that it dies before is the sweep's to find.
        const alone = one.acts.every(({ kind }) => kind !== "send now");
        if (one.lostJobs.length === 0 && alone) expect(run.sweeps, "no job ends before its work is done").toBe(0);
        for (const { type } of run.events) ends.add(type);
      };
      await fc.assert(fc.asyncProperty(laterStories(fc.constant([])), told), { numRuns: sized(200, 4_000) });
      for (const end of ["ScheduledMessagePosted", "MessageRefused", "MessageUnscheduled"]) expect(ends).toContain(end);
    },
    timeout,
  );

  test(
    "a clock that is set, at any of its readings, loses, repeats and hastens nothing",
    async () => {
      const steps = fc.array(fc.record({ reading: fc.integer({ min: 2, max: 20 }), byMs }), {
        minLength: 1,
        maxLength: 4,
      });
      const set = async (one: LaterStory) => keepsPromisesOfLater(await tellLater(one));
      await fc.assert(fc.asyncProperty(laterStories(steps), set), { numRuns: sized(200, 4_000) });
    },
    timeout,
  );

  test("a clock that is set once, whenever it is read: posted once, not before its time, without a sweep", async () => {
    for (const byMs of [-HOUR_MS, 3 * DAY_MS]) {
      for (const twice of [false, true]) {
        for (let reading = 2; reading <= 12; reading += 1) {
          const run = await tellLater(later({ twice, steps: [{ reading, byMs }] }));
          keepsPromisesOfLater(run);
          expect(run.events.map(({ type }) => type)).toContain("MessagePosted");
          expect(run.sweeps, `no job ends before its work is done, at reading ${reading}`).toBe(0);
        }
      }
    }
  });
});

describe("a zone that changes its offset", () => {
  const zone = process.env.TZ;
  afterEach(() => {
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  });

  test.each([
    ["America/New_York", Date.UTC(2026, 2, 8, 7)],
    ["America/New_York", Date.UTC(2026, 10, 1, 6)],
    ["Europe/Berlin", Date.UTC(2026, 2, 29, 1)],
    ["Europe/Berlin", Date.UTC(2026, 9, 25, 1)],
    ["Pacific/Apia", Date.UTC(2011, 11, 30, 10)],
  ])("%s: the same instants as in UTC", async (name, change) => {
    const instants = async (TZ: string) => {
      process.env.TZ = TZ;
      const offsets = [change - HOUR_MS, change + HOUR_MS].map((at) => new Date(at).getTimezoneOffset());
      const data = notification(change, "webhook", { sendAt: change - MINUTE_MS });
      const start = change - 2 * DAY_MS;
      const { events } = await tell(story(start, { data, chances: [0.1, 0.9] }));
      const acts = [{ kind: "move", afterMs: DAY_MS, sendInMs: DAY_MS + MINUTE_MS }] as const;
      const { events: posted } = await tellLater(later({ start, sendInMs: 2 * DAY_MS - MINUTE_MS, acts }));
      const told = [...events, ...posted].map(({ type, meta }) => [type, meta.at]);
      return { offsets: new Set(offsets).size, events: told };
    };
    const [there, utc] = [await instants(name), await instants("UTC")];
    expect([there.offsets, utc.offsets], "the zone does change").toEqual([2, 1]);
    expect(there.events).toEqual(utc.events);
    expect(there.events.length).toBeGreaterThan(30);
  });
});
