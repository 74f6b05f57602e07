// Notifications, deliveries, audit and commands on a real database: what is listed, offered, due and remembered.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DeliveryId, NotificationId, Subject } from "../../src/contract/ids.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { seal } from "../../src/domain/event.ts";
import type { NotificationData } from "../../src/domain/notification.ts";
import { emptyStream } from "../../src/event-store/stream-state.ts";
import { attemptsOf } from "../../src/projections/models/attempts.ts";
import { auditPage, olderCommandsOf } from "../../src/projections/models/audit.ts";
import { deliveriesOf } from "../../src/projections/models/deliveries.ts";
import { countOpen, openWebsocketDeliveries } from "../../src/projections/models/delivery-list.ts";
import * as dueWork from "../../src/projections/models/due-work.ts";
import {
  listNotifications,
  type NotificationList,
  notificationById,
} from "../../src/projections/models/notifications.ts";
import type { OperatorRead, ReadAs, ReadSide } from "../../src/projections/read-side.ts";
import { ANNA, BEN, CLIENT, deliveryRequested, EVE, OTHER, requestedNotification } from "./log.ts";
import { deliveryById, streamPositions } from "./lookups.ts";
import { type Setting, setting } from "./setting.ts";

const released: DomainEvent = { type: "NotificationReleased", data: {} };
const routed: DomainEvent = { type: "NotificationRouted", data: { deliveries: 1 } };
const stopped: DomainEvent = { type: "NotificationStopRequested", data: {} };
const base = (notification: NotificationId, recipient: Subject) => ({ notification, recipient }) as const;

let given: Setting;
let readSide: ReadSide;
let read: ReadAs;
let operator: OperatorRead;

const ask = (id: NotificationId, events: readonly DomainEvent[]) => given.write(`notification-${id}`, events);
const deliver = (id: DeliveryId, events: readonly DomainEvent[]) => given.write(`delivery-${id}`, events);
const email = (more: Partial<NotificationData> = {}) => requestedNotification("email", [ANNA], more);
const fallback = (notification: NotificationId, recipient: Subject, mail: DeliveryId): DomainEvent => ({
  type: "DeliveryFallbackRequested",
  data: {
    ...base(notification, recipient),
    ...{ from: "pending", to: "fell_back", mail, mailRecipient: EVE, address: seal("e@v.e"), name: seal("Eve") },
  },
});

beforeAll(async () => {
  given = await setting();
  readSide = await given.open();
  read = readSide.readAs(CLIENT);
  operator = readSide.operator();
  await ask("ntf_later", [email({ sendAt: 5_000 })]);
  await ask("ntf_unrouted", [email({ roomId: "room_a" }), released]);
  await ask("ntf_stopping", [email(), released, routed]);
  await deliver("dlv_stop", [deliveryRequested(ANNA, "email", { notification: "ntf_stopping" })]);
  await ask("ntf_stopping", [stopped]);
  await ask("ntf_socket", [requestedNotification("websocket", [ANNA, BEN]), released]);
  const socket = { notification: "ntf_socket", fallbackAt: 31_000 } as const;
  await deliver("dlv_anna", [deliveryRequested(ANNA, "websocket", socket)]);
  await deliver("dlv_ben", [deliveryRequested(BEN, "websocket", socket)]);
  await ask("ntf_socket", [routed]);
  await deliver("dlv_anna", [fallback("ntf_socket", ANNA, "dlv_mail")]);
  await deliver("dlv_ben", [fallback("ntf_socket", BEN, "dlv_mail")]);
  await given.write(
    "notification-ntf_theirs",
    [{ ...email(), data: { ...dataOf(email()), client: OTHER } } as DomainEvent],
    {
      client: OTHER,
    },
  );
  await readSide.caughtUp();
});
afterAll(() => given[Symbol.asyncDispose]());
const dataOf = (event: DomainEvent): object => event.data;

describe("lists of notifications", () => {
  const ids = async (list: Partial<NotificationList>) =>
    (await listNotifications(read, { limit: 10, ...list })).rows.map((row) => row.id);

  test("newest first, by what is asked", async () => {
    expect(await ids({})).toEqual(["ntf_socket", "ntf_stopping", "ntf_unrouted", "ntf_later"]);
    expect(await ids({ statuses: ["scheduled"] })).toEqual(["ntf_later"]);
    expect(await ids({ channels: ["websocket", "webhook"] })).toEqual(["ntf_socket"]);
    expect(await ids({ roomIds: ["room_a"] })).toEqual(["ntf_unrouted"]);
    expect(await ids({ ids: ["ntf_later", "ntf_theirs"] })).toEqual(["ntf_later"]);
    expect(await ids({ to: 1_000 })).toEqual([]);
  });

  test("of a person, before and after deliveries are made; a page at a time", async () => {
    expect(await ids({ recipient: BEN })).toEqual(["ntf_socket"]);
    expect(await ids({ recipient: [ANNA, BEN] })).toEqual(["ntf_socket", "ntf_stopping", "ntf_unrouted", "ntf_later"]);
    const page = await listNotifications(read, { recipient: ANNA, limit: 3 });
    const rest = await listNotifications(read, { recipient: ANNA, limit: 3, cursor: page.next ?? [] });
    expect([...page.rows, ...rest.rows].map((row) => row.id)).toEqual(await ids({ recipient: ANNA }));
    expect(rest.next).toBeNull();
  });

  test("another client's is not found", async () => {
    expect(await notificationById(read, "ntf_theirs")).toBeUndefined();
    expect(await notificationById(readSide.readAs(OTHER), "ntf_theirs")).toMatchObject({ client: OTHER });
    expect(await deliveryById(readSide.readAs(OTHER), "dlv_anna")).toBeUndefined();
  });
});

describe("deliveries", () => {
  test("of a notification, in the order in which they were made", async () => {
    const page = await deliveriesOf(read, "ntf_socket", { limit: 1 });
    expect(page.rows.map((row) => row.id)).toEqual(["dlv_anna"]);
    const rest = await deliveriesOf(read, "ntf_socket", { limit: 1, cursor: page.next ?? [] });
    expect(rest).toMatchObject({ rows: [{ id: "dlv_ben", mail: "dlv_mail", status: "fell_back" }], next: null });
    expect((await deliveriesOf(read, "ntf_socket", { statuses: ["pending"], limit: 9 })).rows).toEqual([]);
    expect((await deliveriesOf(read, "ntf_socket", { ids: ["dlv_ben"], limit: 9 })).rows).toHaveLength(1);
    expect(await attemptsOf(read, ["dlv_anna"])).toEqual([]);
  });

  test("are offered until acknowledged or expired, those that fell back too", async () => {
    const offered = async (now: number) =>
      (await openWebsocketDeliveries(read, ANNA, { now, limit: 9 })).rows.map((row) => row.id);
    expect(await offered(2_000)).toEqual(["dlv_anna"]);
    expect(await offered(1_000_000)).toEqual([]);
    expect(await openWebsocketDeliveries(read, BEN, { now: 1, limit: 1 })).toMatchObject({
      rows: [{ notification_id: "ntf_socket", content: "Hello", subject: "Welcome", status: "fell_back" }],
      next: null,
    });
    expect(await countOpen(read, ANNA)).toBe(0);
    await deliver("dlv_more", [deliveryRequested(ANNA, "websocket", { notification: "ntf_socket" })]);
    await readSide.caughtUp();
    expect(await countOpen(read, ANNA)).toBe(1);
    expect(await offered(2_000)).toEqual(["dlv_anna", "dlv_more"]);
    const late = { ...base("ntf_socket", ANNA), from: "fell_back", to: "fell_back" } as const;
    await deliver("dlv_anna", [{ type: "DeliveryAcknowledged", data: late }]);
    await readSide.caughtUp();
    expect(await offered(2_000)).toEqual(["dlv_more"]);
  });
});

describe("due work", () => {
  test("deliveries whose time has come, longest due first, page by page", async () => {
    const due = async (now: number) => (await dueWork.dueDeliveries(operator, now, 9)).map((row) => row.id);
    expect(await due(999)).toEqual([]);
    expect(await due(1_000)).toEqual(["dlv_stop"]);
    expect(await due(1_000_000)).toEqual(["dlv_stop", "dlv_more"]);
    const after = { at: 1_000, id: "dlv_stop" } as const;
    expect((await dueWork.dueDeliveries(operator, 1_000_000, 9, after)).map((row) => row.id)).toEqual(["dlv_more"]);
  });

  test("scheduled ones whose time has come, released ones not routed, stopped ones still open", async () => {
    const ids = (rows: readonly { id: string }[]) => rows.map((row) => row.id);
    expect(ids(await dueWork.dueNotifications(operator, 4_999, 9))).toEqual([]);
    expect(ids(await dueWork.dueNotifications(operator, 5_000, 9))).toEqual(["ntf_later"]);
    expect(ids(await dueWork.unroutedNotifications(operator, 9))).toEqual(["ntf_unrouted"]);
    expect(ids(await dueWork.stoppingNotifications(operator, 9))).toEqual(["ntf_stopping"]);
  });

  test("a fallback's mail, once, until it is made", async () => {
    expect(await dueWork.missingMails(operator, 9)).toMatchObject([
      { client: CLIENT, mail: "dlv_mail", mail_recipient: EVE, mail_address: "e@v.e", fallback_of: "dlv_anna" },
    ]);
    const made = { notification: "ntf_socket", fallbackOf: "dlv_anna" } as const;
    await deliver("dlv_mail", [deliveryRequested(EVE, "email", made)]);
    await readSide.caughtUp();
    expect(await dueWork.missingMails(operator, 9)).toEqual([]);
  });
});

test("the audit finds events by type, actor, time and stream, and only one's own", async () => {
  const types = async (list: Partial<Parameters<typeof auditPage>[1]>) =>
    (await auditPage(read, { limit: 100, ...list })).map((row) => row.type);
  expect(await types({ types: ["NotificationStopRequested"] })).toEqual(["NotificationStopRequested"]);
  expect(await types({ actor: "nobody" })).toEqual([]);
  expect(await types({ from: 1_001 })).toEqual([]);
  const [first, second] = await auditPage(read, { actor: "key_a", limit: 2 });
  expect(first).toMatchObject({ stream: "notification-ntf_later", revision: 0, actor_type: "key", at: 1_000 });
  expect((await auditPage(read, { after: first?.position ?? "a.b", limit: 1 }))[0]).toEqual(second);
  const streams = ["notification-ntf_stopping", "delivery-dlv_stop", "notification-ntf_theirs"];
  const timeline = await streamPositions(read, streams, { limit: 100 });
  expect(timeline.map((row) => row.type)).toEqual([
    "NotificationRequested",
    "NotificationReleased",
    "NotificationRouted",
    "DeliveryRequested",
    "NotificationStopRequested",
  ]);
});

test("a command that a stream has forgotten is found, in that stream, once the read model has it", async () => {
  const origin = { command: "command-1", fingerprint: "print" };
  await given.write("claim-a", [{ type: "Claimed", data: { room: "room_a" } }], origin);
  const claimed: DomainEvent = { type: "Claimed", data: { room: "room_b" } };
  await given.write("claim-b", [{ type: "Claimed", data: { room: "room_a" } }]);
  const { position } = await given.write("claim-b", [claimed, claimed], origin);
  const older = olderCommandsOf(readSide);
  const folded = emptyStream<unknown>(null);
  folded.idempotencyWindow.forgotten = position;
  expect(await older("command-1", folded, "claim-b")).toEqual({ first: 1, last: 2, fingerprint: "print" });
  expect(await older("command-1", folded, "claim-a")).toEqual({ first: 0, last: 0, fingerprint: "print" });
  expect(await older("command-2", folded, "claim-a")).toBeUndefined();
});
