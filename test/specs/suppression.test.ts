// Which addresses a client's mails do not go to, why, and what goes all the same.
import { describe, expect, test } from "vitest";
import {
  type Suppression,
  type SuppressionCommand,
  type SuppressionEvent,
  shownEntry,
  suppressionDecider,
  suppressionOf,
} from "../../src/domain/suppression.ts";
import { given, type History, NOW } from "../support/given.ts";

const about = { subject: "sub_a", delivery: null } as const;
type Reason = Extract<SuppressionCommand, { type: "Suppress" }>["reason"];
const suppress = (reason: Reason, category: string | null = null): SuppressionCommand => ({
  ...{ type: "Suppress", at: NOW, address: "a@example.com", reason, category },
  ...about,
});
const suppressed = (reason: Reason, category: string | null = null): SuppressionEvent => ({
  type: "AddressSuppressed",
  data: { ...about, address: { open: "a@example.com" }, reason, category },
});
const unsuppress: SuppressionCommand = { type: "Unsuppress", at: NOW, subject: "sub_a" };
const unsuppressed = (...categories: string[]): SuppressionEvent => ({
  type: "AddressUnsuppressed",
  data: { subject: "sub_a", categories },
});
const address = (...history: History<SuppressionEvent>) => given(suppressionDecider, ...history);
const after = (...events: readonly SuppressionEvent[]): Suppression =>
  events.reduce(
    (state, event) => suppressionDecider.evolve(state, event, { seq: 1, at: NOW }),
    suppressionDecider.initial,
  );

describe("an address", () => {
  test("is put on the list once for one reason", () => {
    address().when(suppress("bounced")).then(suppressed("bounced"));
    address(suppressed("bounced")).when(suppress("bounced")).thenNothing();
  });
  test("that unsubscribed from all can bounce as well, one that bounced stays so", () => {
    address(suppressed("unsubscribed")).when(suppress("bounced")).then(suppressed("bounced"));
    address(suppressed("bounced")).when(suppress("unsubscribed")).thenNothing();
    address(suppressed("bounced")).when(suppress("complained")).thenNothing();
  });
  test("is its client's to put there, whatever it was there for", () => {
    address(suppressed("bounced")).when(suppress("manual")).then(suppressed("manual"));
    address(suppressed("manual")).when(suppress("manual")).thenNothing();
    address(suppressed("manual")).when(suppress("bounced")).thenNothing();
  });
  test("unsubscribes from categories one by one, from all beyond the limit", () => {
    address(suppressed("unsubscribed", "news")).when(suppress("unsubscribed", "news")).thenNothing();
    address(suppressed("unsubscribed", "news"))
      .when(suppress("unsubscribed", "offers"))
      .then(suppressed("unsubscribed", "offers"));
    const many = Array.from({ length: 100 }, (_, n) => suppressed("unsubscribed", `c${n}`));
    address(...many)
      .when(suppress("unsubscribed", "one more"))
      .then(suppressed("unsubscribed"));
  });
  test("is taken off the list with all that it was there for; one that is not there is not found", () => {
    address(suppressed("bounced"), suppressed("unsubscribed", "news")).when(unsuppress).then(unsuppressed("news"));
    address().when(unsuppress).thenRejected("not_found");
    address(suppressed("bounced"), unsuppressed()).when(unsuppress).thenRejected("not_found");
    expect(
      shownEntry(after(suppressed("bounced"), suppressed("unsubscribed", "news"), unsuppressed("news"))),
    ).toBeNull();
  });
});

test.each<[string, SuppressionEvent | null, string | null, string | null, string | null]>([
  ["none", null, "news", null, null],
  ["bounced", suppressed("bounced"), null, "suppressed", "suppressed"],
  ["complained", suppressed("complained"), "news", "suppressed", "suppressed"],
  ["manual", suppressed("manual"), "news", "suppressed", "suppressed"],
  ["unsubscribed from all", suppressed("unsubscribed"), null, "unsubscribed", null],
  ["unsubscribed from the category", suppressed("unsubscribed", "news"), "news", "unsubscribed", null],
  ["unsubscribed from another category", suppressed("unsubscribed", "news"), "orders", null, null],
  ["unsubscribed from a category, of a mail without one", suppressed("unsubscribed", "news"), null, null, null],
])("what becomes of a mail, and of a critical one: %s", (_name, event, category, normal, critical) => {
  const state = event === null ? after() : after(event);
  expect(suppressionOf(state, { category, critical: false })).toBe(normal);
  expect(suppressionOf(state, { category, critical: true })).toBe(critical);
});
