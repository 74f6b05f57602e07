// Webhook endpoints as the fan-out follows them.
import { expect, test } from "vitest";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import type { EndpointStart } from "../../src/domain/endpoint.ts";
import { positionOf } from "../../src/event-store/event-store.ts";
import { foldRows } from "../../src/projections/fold.ts";
import { endpoints } from "../../src/projections/models/endpoints.ts";
import { ANNA, CLIENT, storedEvents } from "./log.ts";

const created = (start: EndpointStart): DomainEvent => ({
  type: "EndpointCreated",
  data: {
    ...{ client: CLIENT, endpoint: "whk_1", secret: { open: "whsec" }, start },
    ...{ url: { open: "https://example.com/hook" }, recipient: ANNA, events: ["message.*"], roomIds: null },
    ...{ filter: null, description: null, headers: { open: [] }, ordered: false, ratePerSecond: null },
    ...{ timeoutSeconds: 15, retrySchedule: null },
  },
});

const here = positionOf("test", 1);
const elsewhere = positionOf("other", 9);
test.each<[string, EndpointStart, string]>([
  ["the event itself", { after: null, notBefore: null }, here],
  ["a position of this log", { after: positionOf("test", 0), notBefore: null }, positionOf("test", 0)],
  ["the event itself, for a position of the log it came from", { after: elsewhere, notBefore: null }, here],
  ["the log's start, for a time in the log it came from", { after: elsewhere, notBefore: 5 }, positionOf("test", 0)],
])("an endpoint begins at %s", (_name, start, begins) => {
  const events = [storedEvents()(`client-${CLIENT}`, created(start))];
  expect(foldRows(endpoints, events)).toMatchObject([{ start: begins, not_before: start.notBefore, started: here }]);
});
