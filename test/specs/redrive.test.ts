// Starting many deliveries again, page after page.
import { describe, test } from "vitest";
import type { DeliveryId } from "../../src/contract/ids.ts";
import { type RedriveCommand, type RedriveEvent, redriveDecider } from "../../src/domain/redrive.ts";
import { given, NOW } from "../support/given.ts";

const filter = {
  ...{ statuses: ["exhausted" as const], channels: null, providers: null, endpoints: null, errorCodes: null },
  ...{ fromAt: null, toAt: null },
};
const requested = (matched: number): RedriveEvent => ({
  type: "RedriveRequested",
  data: { filter, matched },
});
const selected = (page: number, ...deliveries: DeliveryId[]): RedriveEvent => ({
  type: "RedrivePageSelected",
  data: { page, deliveries },
});
const finished = (page: number): RedriveEvent => ({ type: "RedriveFinished", data: { page } });
const request = (matched: number): RedriveCommand => ({ type: "Request", at: NOW, filter, matched });
const select = (page: number, ...deliveries: DeliveryId[]): RedriveCommand => ({
  type: "SelectPage",
  ...{ at: NOW, page, deliveries },
});

describe("a redrive", () => {
  test("is requested once", () => {
    given(redriveDecider).when(request(3)).then(requested(3));
    given(redriveDecider, requested(3)).when(request(5)).thenNothing();
  });
  test("of nothing is over at once", () => given(redriveDecider).when(request(0)).then(requested(0), finished(0)));
  test("goes on page by page until there are no more", () => {
    given(redriveDecider, requested(3))
      .when(select(0, "dlv_a", "dlv_b"))
      .then(selected(1, "dlv_a", "dlv_b"));
    given(redriveDecider, requested(3), selected(1, "dlv_a", "dlv_b"))
      .when(select(1))
      .then(finished(1));
  });
  test("selects no page twice, whoever works on it too", () => {
    given(redriveDecider, requested(3), selected(1, "dlv_a")).when(select(0, "dlv_b")).thenNothing();
    given(redriveDecider, requested(3), selected(1, "dlv_a"), finished(1)).when(select(1, "dlv_b")).thenNothing();
  });
  test("that was never requested is not found", () =>
    given(redriveDecider).when(select(0, "dlv_a")).thenRejected("not_found"));
  test("has done what the pages before the current one hold", () => {
    given(redriveDecider, requested(3), selected(1, "dlv_a", "dlv_b")).thenState({
      status: "running",
      done: 0,
      page: 1,
    });
    given(redriveDecider, requested(3), selected(1, "dlv_a", "dlv_b"), selected(2, "dlv_c")).thenState({ done: 2 });
    given(redriveDecider, requested(3), selected(1, "dlv_a", "dlv_b"), finished(1)).thenState({
      status: "done",
      done: 2,
    });
  });
});
