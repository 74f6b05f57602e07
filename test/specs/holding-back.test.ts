// What holds notifications back: preferences, throttles, collapse keys and deduplication.
import { describe, expect, test } from "vitest";
import type { DeliveryStatus } from "../../src/contract/deliveries.ts";
import type { DeliveryId, NotificationId } from "../../src/contract/ids.ts";
import { NewNotification } from "../../src/contract/notifications.ts";
import { Preferences } from "../../src/contract/preferences.ts";
import { SECOND_MS } from "../../src/contract/time.ts";
import { type CollapseCommand, type CollapseEvent, collapseDecider, isReplaced } from "../../src/domain/collapse.ts";
import { type DedupeCommand, type DedupeEvent, dedupeDecider, heldByAnother } from "../../src/domain/dedupe.ts";
import { type DeliveryCommand, deliveryDecider, type Gate } from "../../src/domain/delivery.ts";
import type { DeliveryEvent } from "../../src/domain/delivery-state.ts";
import { type NotificationData, notificationDecider } from "../../src/domain/notification.ts";
import {
  type Choices,
  choiceGate,
  type PreferencesCommand,
  type PreferencesEvent,
  preferencesDecider,
} from "../../src/domain/preferences.ts";
import { WEEKDAYS } from "../../src/domain/quiet-hours.ts";
import { isAdmitted, type ThrottleCommand, type ThrottleEvent, throttleDecider } from "../../src/domain/throttle.ts";
import { given, NOW } from "../support/given.ts";
import { base, requested, started } from "./deliveries.ts";

const NO_CHOICES: Choices = preferencesDecider.initial.choices;
const NIGHT = { from: "22:00", to: "07:00", days: [...WEEKDAYS], timezone: null };
const choices = (more: Partial<Choices> = {}): Choices => ({ ...NO_CHOICES, ...more });
const put = (more: Partial<PreferencesCommand> = {}): PreferencesCommand => ({
  ...{ type: "Put", at: NOW, subject: "sub_ada", choices: choices({ quietHours: NIGHT }) },
  ...more,
});
const set = (given: Choices): PreferencesEvent => ({
  type: "PreferencesSet",
  data: {
    subject: "sub_ada",
    categories: { open: given.categories },
    quietHours: given.quietHours === null ? null : { open: given.quietHours },
  },
});

describe("preferences", () => {
  test("are replaced", () =>
    given(preferencesDecider)
      .when(put())
      .then(set(choices({ quietHours: NIGHT }))));
  test("that are the same change nothing", () =>
    given(preferencesDecider, set(choices({ quietHours: NIGHT })))
      .when(put())
      .thenNothing());
  test("hold to If-Match, and to If-None-Match", () => {
    given(preferencesDecider, set(NO_CHOICES))
      .when(put({ ifMatch: 0 }))
      .thenRejected("precondition_failed");
    given(preferencesDecider, set(NO_CHOICES))
      .when(put({ onlyNew: true }))
      .thenRejected("precondition_failed");
    given(preferencesDecider)
      .when(put({ onlyNew: true }))
      .then(set(choices({ quietHours: NIGHT })));
  });

  const noon = { at: Date.parse("2026-03-02T12:00Z"), timezone: null };
  const midnight = { at: Date.parse("2026-03-02T23:00Z"), timezone: null };
  const mail = { channel: "email", category: "news", priority: "normal" } as const;
  const one = (name: string, email: boolean | null) => ({ name, email, websocket: null });
  test("say which category comes by which channel: its own entry first, then the one for all", () => {
    const against = (...categories: Choices["categories"]) => choiceGate(choices({ categories }), mail, noon);
    expect(against()).toBe(null);
    expect(against(one("news", false))).toEqual({ suppress: "preference" });
    expect(against(one("*", false))).toEqual({ suppress: "preference" });
    expect(against(one("news", true), one("*", false))).toBe(null);
    expect(against(one("news", null), one("*", false))).toEqual({ suppress: "preference" });
    expect(against(one("orders", false))).toBe(null);
  });
  test("of all categories hold for a notification without one", () =>
    expect(choiceGate(choices({ categories: [one("*", false)] }), { ...mail, category: null }, noon)).toEqual({
      suppress: "preference",
    }));
  test("let it wait for the end of quiet hours, in the zone that they name, else the user's, else UTC", () => {
    const until = (zone: string | null, timezone: string | null) =>
      choiceGate(choices({ quietHours: { ...NIGHT, timezone: zone } }), mail, { ...midnight, timezone });
    expect(until(null, null)).toEqual({ holdUntil: Date.parse("2026-03-03T07:00Z") });
    expect(until(null, "Europe/Berlin")).toEqual({ holdUntil: Date.parse("2026-03-03T06:00Z") });
    expect(until("Asia/Tokyo", "Europe/Berlin")).toBe(null);
  });
  test("what is critical goes through, and so does a webhook", () => {
    const nothing = choices({ categories: [one("*", false)], quietHours: NIGHT });
    expect(choiceGate(nothing, { ...mail, priority: "critical" }, midnight)).toBe(null);
    expect(choiceGate(nothing, { ...mail, channel: "webhook" }, midnight)).toBe(null);
  });
});

const PER = 10 * SECOND_MS;
const admit = (delivery: DeliveryId, at = NOW, limit = 1): ThrottleCommand => ({
  ...{ type: "Admit", at, delivery, limit, perMs: PER },
});
const decided = (delivery: DeliveryId, admitted: boolean, limit = 1): ThrottleEvent => ({
  type: "ThrottleDecided",
  data: { delivery, admitted, limit, perMs: PER },
});

describe("a throttle", () => {
  test("lets through as many as its limit, and refuses the next", () => {
    given(throttleDecider).when(admit("dlv_a")).then(decided("dlv_a", true));
    given(throttleDecider, decided("dlv_a", true)).when(admit("dlv_b")).then(decided("dlv_b", false));
    given(throttleDecider, decided("dlv_a", true))
      .when(admit("dlv_b", NOW, 2))
      .then(decided("dlv_b", true, 2));
  });
  test("lets the next through when its window has passed", () =>
    given(throttleDecider, decided("dlv_a", true))
      .when(admit("dlv_b", NOW + PER))
      .then(decided("dlv_b", true)));
  test("asked again gives the same answer, whatever the time", () => {
    const history = [decided("dlv_a", true), decided("dlv_b", false)];
    given(throttleDecider, ...history)
      .when(admit("dlv_a"))
      .thenNothing();
    given(throttleDecider, ...history)
      .when(admit("dlv_b", NOW + 2 * PER))
      .thenNothing();
  });
  test("keeps what its window needs, and no more", () => {
    let state = throttleDecider.initial;
    for (let second = 0; second < 3_000; second += 1) {
      const at = NOW + second * SECOND_MS;
      const event = decided(`dlv_${second}`, second % 2 === 0);
      state = throttleDecider.evolve(state, event, { seq: second + 1, at });
    }
    expect(state.admitted).toHaveLength(5);
    expect(state.refused).toHaveLength(1_000);
    expect(isAdmitted(state, admit("dlv_2999", NOW + DAY))).toBe(false);
  });
  const DAY = 86_400_000;
});

const replace = (delivery: DeliveryId, releasedAt: number): CollapseCommand => ({
  ...{ type: "Replace", at: NOW, delivery, releasedAt },
});
const collapsed = (delivery: DeliveryId, releasedAt: number, replaced: DeliveryId | null): CollapseEvent => ({
  type: "DeliveryCollapsed",
  data: { delivery, releasedAt, replaced },
});

describe("a collapse key", () => {
  test("the newer replaces the one before it", () => {
    given(collapseDecider)
      .when(replace("dlv_a", 1))
      .then(collapsed("dlv_a", 1, null));
    given(collapseDecider, collapsed("dlv_a", 1, null))
      .when(replace("dlv_b", 2))
      .then(collapsed("dlv_b", 2, "dlv_a"));
  });
  test("the older that is routed later replaces nothing, and is replaced itself", () => {
    given(collapseDecider, collapsed("dlv_b", 2, null))
      .when(replace("dlv_a", 1))
      .thenNothing();
    const state = { newest: { delivery: "dlv_b", releasedAt: 2 } } as const;
    expect(isReplaced(state, { delivery: "dlv_a", releasedAt: 1 })).toBe(true);
    expect(isReplaced(state, { delivery: "dlv_b", releasedAt: 2 })).toBe(false);
  });
  test("the newer is not replaced by the older", () => {
    const state = { newest: { delivery: "dlv_a", releasedAt: 1 } } as const;
    expect(isReplaced(state, { delivery: "dlv_b", releasedAt: 2 })).toBe(false);
  });
  test("asked again changes nothing", () =>
    given(collapseDecider, collapsed("dlv_a", 1, null))
      .when(replace("dlv_a", 1))
      .thenNothing());
});

const WINDOW = 60 * SECOND_MS;
const take = (notification: NotificationId, more: Partial<DedupeCommand> = {}): DedupeCommand => ({
  ...{ type: "Take", at: NOW, notification, windowMs: WINDOW, abandoned: null },
  ...more,
});
const taken = (notification: NotificationId): DedupeEvent => ({ type: "DedupeKeyTaken", data: { notification } });

describe("a deduplication key", () => {
  test("is the first notification's", () => {
    given(dedupeDecider).when(take("ntf_a")).then(taken("ntf_a"));
    given(dedupeDecider, taken("ntf_a")).when(take("ntf_a")).thenNothing();
  });
  test("is not another's within the window, and free after it", () => {
    given(dedupeDecider, taken("ntf_a")).when(take("ntf_b")).thenNothing();
    given(dedupeDecider, taken("ntf_a"))
      .when(take("ntf_b", { at: NOW + WINDOW }))
      .then(taken("ntf_b"));
    const holder = { notification: "ntf_a", at: NOW } as const;
    expect(heldByAnother({ holder }, take("ntf_b"))).toEqual(holder);
  });
  test("of a notification that was never made is taken over", () =>
    given(dedupeDecider, taken("ntf_a"))
      .when(take("ntf_b", { abandoned: "ntf_a" }))
      .then(taken("ntf_b")));
});

const held = (until: number, from: DeliveryStatus = "pending"): DeliveryEvent => ({
  type: "DeliveryHeld",
  data: { ...base, from, to: from, channel: "email", until, fallbackAt: null },
});
const suppressed = (reason: string): DeliveryEvent => ({
  type: "DeliverySuppressed",
  data: { ...base, from: "pending", to: "suppressed", reason },
});
const withhold = (gate: Gate, at = NOW): DeliveryCommand => ({ type: "Withhold", at, gate });

describe("a delivery", () => {
  test("is suppressed, or waits, by what stands against it", () => {
    given(deliveryDecider, requested())
      .when(withhold({ suppress: "preference" }))
      .then(suppressed("preference"));
    given(deliveryDecider, requested())
      .when(withhold({ holdUntil: NOW + 1_000 }))
      .then(held(NOW + 1_000));
    given(deliveryDecider, requested()).when(withhold(null)).thenNothing();
  });
  test("that waits already, or whose time has come, waits no longer for it", () => {
    given(deliveryDecider, requested(), held(NOW + 1_000))
      .when(withhold({ holdUntil: NOW + 1_000 }))
      .thenNothing();
    given(deliveryDecider, requested())
      .when(withhold({ holdUntil: NOW }))
      .thenNothing();
  });
  test("whose attempt is open is not withheld: the attempt counts", () =>
    given(deliveryDecider, requested(), started(1))
      .when(withhold({ suppress: "collapsed" }))
      .thenNothing());
  test("that is held goes on at its time, not before", () => {
    const until = NOW + 1_000;
    given(deliveryDecider, requested(), held(until))
      .when({ type: "EndHold", at: until - 1 })
      .thenNothing();
    given(deliveryDecider, requested(), held(until))
      .when({ type: "EndHold", at: until })
      .then({
        type: "DeliveryReleased",
        data: { ...base, from: "pending", to: "pending", expiresAt: NOW + 3_600_000, fallbackAt: null },
      });
  });
});

describe("a header", () => {
  const mail = { type: "email", to_email: "a@example.com", subject: "s", content: "c" };
  const ok = (headers: Record<string, string>) => NewNotification.safeParse({ ...mail, headers }).success;
  test("of a mail is one that neither we nor a provider set", () => {
    expect(ok({ "X-Order": "1", "In-Reply-To": "<a@b.c>", "list-id": "news" })).toBe(true);
    for (const name of ["Subject", "X-ChatAPI-Delivery", "x-pm-keepid", "X", "X Y", "Authorization"])
      expect(ok({ [name]: "1" }), name).toBe(false);
    expect(ok({ "X-A": "1", "x-a": "2" })).toBe(false);
  });
  test("is one line", () => {
    for (const value of ["a\r\nBcc: b@example.com", "a\nb", "a\0", "a\u2028b"])
      expect(ok({ "X-A": value }), value).toBe(false);
  });
});

test("quiet hours that never end are refused", () => {
  const ok = (quiet: object) => Preferences.safeParse({ quiet_hours: quiet }).success;
  expect(ok({ from: "08:00", to: "08:00" })).toBe(false);
  expect(ok({ from: "08:00", to: "08:00", days: ["mon"] })).toBe(true);
  expect(ok({ from: "24:00", to: "08:00" })).toBe(false);
});

test("a notification that was given up is never made", () => {
  given(notificationDecider).when({ type: "Abandon", at: NOW }).then({ type: "NotificationAbandoned", data: {} });
  given(notificationDecider, { type: "NotificationAbandoned", data: {} })
    .when({ type: "Request", at: NOW, data: {} as NotificationData })
    .thenRejected("unavailable");
});
