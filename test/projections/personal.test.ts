// What a person's key seals stays a person's in the read models: the columns that it reaches are declared.
import { describe, expect, test } from "vitest";
import type { JsonValue } from "../../src/contract/json.ts";
import { blobEvents } from "../../src/domain/blob.ts";
import { catalogue } from "../../src/domain/catalogue.ts";
import type { EventDefinition } from "../../src/domain/event.ts";
import type { StoredEvent } from "../../src/event-store/envelope.ts";
import { foldRows } from "../../src/projections/fold.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import type { Projection } from "../../src/projections/projection.ts";
import * as events from "./log.ts";

const { ANNA, BEN, NOTIFICATION, ROOM } = events;
const MARK = "PERSONAL";
const definitions: Readonly<Record<string, EventDefinition>> = catalogue;

/** The event with each field that is sealed for a person, or for who receives, holding the mark. */
function marked(event: StoredEvent): StoredEvent {
  const definition = definitions[event.type];
  if (definition === undefined) throw new Error(event.type);
  const people = Object.entries(definition.seals).filter(([, ref]) => ref !== "client");
  let data: JsonValue = JSON.parse(JSON.stringify(event.data));
  for (const [path] of people) data = put(data, path.split("."));
  return { ...event, data } as StoredEvent;
}

function put(node: JsonValue, [step = "", ...rest]: readonly string[]): JsonValue {
  if (Array.isArray(node) && step === "*") return node.map((child) => put(child, rest));
  if (typeof node !== "object" || node === null || Array.isArray(node)) return node;
  const child = node[step];
  if (rest.length > 0) return { ...node, [step]: put(child ?? null, rest) };
  if (child === undefined) return node;
  return {
    ...node,
    [step]: {
      open: SHAPES[step] ?? MARK,
    },
  };
}
const CLIENT = "cli_a" as const;
const ENDPOINT = "whk_a" as const;
const fault = { code: MARK, message: MARK };
const response = { status: 200, body: MARK };
/** What is sealed that is no text, by its field. */
const SHAPES: Readonly<Record<string, JsonValue>> = {
  attachments: [{ blob: "b", filename: MARK, contentType: "text/plain", size: 1, contentId: null }],
  meta: { [MARK]: 1 },
  error: fault,
  response,
  categories: [{ name: MARK, email: null, websocket: null }],
  quietHours: { from: MARK, to: MARK, days: [], timezone: null },
};

/** One of every event that is sealed for a person. */
function everything(): readonly StoredEvent[] {
  const at = events.storedEvents();
  const base = { notification: NOTIFICATION, recipient: ANNA } as const;
  const attempt = { ...base, n: 1, provider: "smtp" } as const;
  const open = { open: MARK };
  const mail = { mail: "dlv_m", mailRecipient: BEN, address: open, name: open } as const;
  const fallback = { to: { subject: BEN, address: open }, subject: open, content: open, afterMs: 1 };
  const failure = { kind: "transient", response: { open: response }, error: { open: fault } } as const;
  const edit = { contentKey: NOTIFICATION, subject: open, content: open, text: open, meta: { open: {} } } as const;
  const ofEndpoint = { notification: null, endpoint: ENDPOINT } as const;
  const endpoint = {
    ...{ client: CLIENT, endpoint: ENDPOINT, url: { open: "https://example.com" }, recipient: ANNA, events: [] },
    ...{ roomIds: null, filter: null, description: null, headers: { open: [] }, ordered: false, ratePerSecond: null },
    ...{ timeoutSeconds: 15, retrySchedule: null, secret: { open: "s" }, start: { after: null, notBefore: null } },
  } as const;
  const profile = { subject: ANNA, name: open, email: open, timezone: open, meta: { open: {} } };
  return [
    at(`user-${ANNA}`, events.registered(ANNA, MARK)),
    at(`user-${ANNA}`, { type: "UserUpdated", data: profile }),
    at(`room-${ROOM}`, events.roomCreated([events.member(ANNA, "owner", MARK)])),
    at(`room-${ROOM}`, events.joined(BEN)),
    at(`room-${ROOM}`, { type: "MemberUpdated", data: events.member(BEN, "admin", MARK) }),
    at(`room-${ROOM}`, events.posted(ANNA, 4, 1)),
    at(`room-${ROOM}`, events.edited(ANNA, 4, MARK)),
    at(`room-${ROOM}`, events.grown("MessageCompleted", ANNA, 4, MARK)),
    at(`room-${ROOM}`, events.grown("MessageCancelled", ANNA, 4, MARK)),
    at("scheduled-sch_1", events.scheduled("MessageScheduled", ANNA, MARK)),
    at("scheduled-sch_1", events.scheduled("MessageRescheduled", ANNA, MARK)),
    at(`room-${ROOM}`, events.posted(BEN, 6, 2, { thread: 4, mentions: [ANNA] })),
    at(`room-${ROOM}`, events.reaction("ReactionAdded", ANNA, 4, "👍")),
    at(`room-${ROOM}`, events.reaction("ReactionRemoved", ANNA, 4, "👍")),
    at(`room-${ROOM}`, events.left(BEN)),
    at(`room-${ROOM}`, { type: "MemberMuted", data: { subject: ANNA, user: open, until: 9 } }),
    at(`room-${ROOM}`, { type: "MemberBanned", data: { subject: BEN, user: open, until: 9, reason: open } }),
    at(`room-${ROOM}`, { type: "MemberUnbanned", data: { subject: BEN, user: open } }),
    at(`preferences-${ANNA}`, {
      type: "PreferencesSet",
      data: { subject: ANNA, categories: { open: [] }, quietHours: null },
    }),
    at(`suppression-${ANNA}`, {
      type: "AddressSuppressed",
      data: { subject: ANNA, address: open, reason: "manual", category: null, delivery: null },
    }),
    at(`reads-${ROOM}`, events.marked(ANNA, 3)),
    at(`reads-${ROOM}`, events.delivered(ANNA, 4)),
    at(`notification-${NOTIFICATION}`, events.requestedNotification("email", [ANNA], { fallback })),
    at(`notification-${NOTIFICATION}`, {
      type: "NotificationEdited",
      data: { ...edit, priority: "low", sendAt: null, expiresAt: 9 },
    }),
    at("delivery-dlv_1", events.deliveryRequested(ANNA, "email")),
    at("delivery-dlv_1", {
      type: "DeliveryAttemptStarted",
      data: { ...attempt, from: "pending", to: "sending", leaseUntil: 1, domain: null },
    }),
    at("delivery-dlv_1", {
      type: "DeliveryAttemptFailed",
      data: { ...attempt, ...failure, from: "sending", to: "sending", recipients: [] },
    }),
    at("delivery-dlv_2", events.deliveryRequested(ANNA, "email")),
    at("delivery-dlv_2", {
      type: "DeliveryAttemptStarted",
      data: { ...attempt, from: "pending", to: "sending", leaseUntil: 1, domain: null },
    }),
    at("delivery-dlv_2", {
      type: "DeliverySucceeded",
      data: {
        ...attempt,
        from: "sending",
        to: "sent",
        response: { open: response },
        providerMessageId: null,
        recipients: [],
      },
    }),
    at(`client-${CLIENT}`, { type: "EndpointCreated", data: endpoint }),
    at("delivery-dlv_4", {
      type: "DeliveryAttemptFailed",
      data: { ...attempt, ...failure, ...ofEndpoint, from: "sending", to: "sending", recipients: [] },
    }),
    at("delivery-dlv_2", {
      type: "DeliveryReported",
      data: {
        ...{ ...base, from: "sent", to: "bounced", kind: "bounced", bounce: "hard", code: null, index: 0 },
        ...{ provider: "smtp", report: "r", happenedAt: 1, message: open },
      },
    }),
    at("delivery-dlv_3", events.deliveryRequested(ANNA, "websocket")),
    at("delivery-dlv_3", {
      type: "DeliveryFallbackRequested",
      data: { ...base, ...mail, from: "pending", to: "fell_back" },
    }),
  ];
}

/** The columns that hold the mark in any row. */
function reached(projection: Projection, all: readonly StoredEvent[]): ReadonlySet<string> {
  const columns = new Set<string>();
  // After each event: a later one may put something else in its place.
  for (let count = 1; count <= all.length; count += 1) {
    for (const row of foldRows(projection, all.slice(0, count))) {
      for (const [name, value] of Object.entries(row))
        if (JSON.stringify(value).toUpperCase().includes(MARK)) columns.add(name);
    }
  }
  return columns;
}

describe("personal columns", () => {
  const all = everything().map(marked);

  test("the events tried are all that are sealed for a person", () => {
    const sealed = Object.entries(definitions)
      .filter(([, { seals }]) => Object.values(seals).some((ref) => ref !== "client"))
      .map(([type]) => type)
      // No read model gets those of blobs.
      .filter((type) => !Object.hasOwn(blobEvents, type));
    expect(new Set(all.map((event) => event.type))).toEqual(
      new Set([...sealed, "DeliveryAttemptStarted", "EndpointCreated"]),
    );
  });

  test.each(storedProjections.map((one) => [one.name, one] as const))(
    "of %s are those that sealed fields reach",
    (_, one) => {
      expect([...reached(one, all)].sort()).toEqual([...one.personal].sort());
    },
  );

  test("one that is not declared is found", () => {
    const users = storedProjections.find((one) => one.name === "users");
    if (users === undefined) throw new Error("there are no users");
    const careless = { ...users, personal: users.personal.filter((name) => name !== "email") };
    expect([...reached(careless, all)].sort()).not.toEqual([...careless.personal].sort());
  });
});
