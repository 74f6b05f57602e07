// What the outside sees of stored events: one function for sockets, webhooks and pull. Those of rooms are made in
// `public-room-events.ts`.
import { type EventId, type RoomId, RoomIdSchema } from "../contract/ids.ts";
import type {
  DeliveryEventData,
  NotificationEventData,
  PublicActor,
  PublicEvent,
  PublicEventType,
} from "../contract/public-events.ts";
import { rfc3339 } from "../contract/time.ts";
import type { DomainEvent } from "../domain/catalogue.ts";
import type { DataOf } from "../domain/delivery-state.ts";
import { reveal } from "../domain/event.ts";
import { notificationDecider } from "../domain/notification.ts";
import { ROOM_STREAMS, roomDecider } from "../domain/room.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { publicEventId } from "../event-store/derived-ids.ts";
import { decode, type StoredEvent } from "../event-store/envelope.ts";
import { foldRows } from "../projections/fold.ts";
import { type DeliveryRow, deliveries } from "../projections/models/deliveries.ts";
import { rowOfState } from "../projections/models/notifications.ts";
import { notificationOf, roomOf } from "../projections/projection.ts";
import { notificationEventData } from "./notification-views.ts";
import { ROOM_NAMES, type StoredRoomEvent } from "./public-room-events.ts";
import { deliveryResource } from "./resources.ts";
import { type PublicEventServices, RoomEventMaker } from "./room-event-maker.ts";

const READ_PAGE = 1_000;

/** The public types that a stored type may be published as. Types that are not here are published to nobody. */
const MAY_BE = {
  ...mapValues(ROOM_NAMES, (name) => [name]),
  NotificationRequested: ["notification.accepted"],
  NotificationCancelled: ["notification.cancelled"],
  NotificationStopRequested: ["notification.cancelled"],
  NotificationDeleted: ["notification.deleted"],
  DeliverySucceeded: ["delivery.sent", "delivery.delivered"],
  DeliveryReported: ["delivery.delivered", "delivery.bounced", "delivery.complained", "delivery.opened"],
  DeliverySuppressed: ["delivery.suppressed"],
  DeliveryAcknowledged: ["delivery.delivered", "delivery.read"],
  DeliveryRetryScheduled: ["delivery.retrying"],
  DeliveryFallbackRequested: ["delivery.fell_back"],
  DeliveryExhausted: ["delivery.exhausted"],
  DeliveryCancelled: ["delivery.cancelled"],
  DeliveryExpired: ["delivery.expired"],
  ProviderFailedOver: ["provider.failed_over"],
  ProviderDown: ["provider.down"],
  ProviderUp: ["provider.up"],
  EndpointDisabled: ["webhook.disabled"],
} as const satisfies { readonly [T in DomainEvent["type"]]?: readonly PublicEventType[] };

function mapValues<K extends string, V, R>(record: Readonly<Record<K, V>>, map: (value: V) => R): Record<K, R> {
  return Object.fromEntries(Object.entries<V>(record).map(([key, value]) => [key, map(value)])) as Record<K, R>;
}

const mayBe: Readonly<Record<string, readonly PublicEventType[]>> = MAY_BE;

/** The stored types that are published as any of the public types that `wanted` names. */
export const storedTypesOf = (wanted: (type: PublicEventType) => boolean): readonly string[] =>
  Object.entries(mayBe).flatMap(([stored, types]) => (types.some(wanted) ? [stored] : []));

/** The public types that events of a stored type may be published as. */
export const mayBecome = (stored: string): readonly PublicEventType[] =>
  Object.hasOwn(mayBe, stored) ? (mayBe[stored] ?? []) : [];

/** What a stored event is published as: its public type, and the id of that public event. */
export type Published = { readonly id: EventId; readonly type: PublicEventType };

/** Everything that an event is published as, in order; mostly one thing or none. */
export function publishedAs(event: StoredEvent): readonly Published[] {
  return [...testOf(event), ...typesOf(event).map((type, nth) => ({ id: publicEventId(event.id, nth), type }))];
}

function typesOf(event: StoredEvent): readonly PublicEventType[] {
  // What endpoints are sent is published to nobody: an endpoint would follow itself for ever.
  if ("notification" in event.data && event.data.notification === null) return [];
  switch (event.type) {
    case "DeliverySucceeded":
      return [event.data.provider === WEBHOOK ? "delivery.delivered" : "delivery.sent"];
    case "DeliveryReported":
      return reportedAs(event.data);
    case "DeliveryAcknowledged":
      return event.data.to === "delivered" ? ["delivery.delivered", "delivery.read"] : ["delivery.read"];
    default:
      return mayBecome(event.type);
  }
}

/** The provider of every webhook. */
const WEBHOOK = "webhook";

/** What is reported of a mail's copies is published to nobody, nor what ends nothing. */
function reportedAs({ index, kind, bounce, to }: DataOf<"DeliveryReported">): readonly PublicEventType[] {
  if (index !== 0) return [];
  if (kind === "delivered") return to === "bounced" || to === "complained" ? [] : ["delivery.delivered"];
  if (kind === "bounced") return bounce === "soft" ? [] : ["delivery.bounced"];
  if (kind === "complained") return ["delivery.complained"];
  return kind === "opened" ? ["delivery.opened"] : [];
}

/** The test of an endpoint is the request of its delivery. */
const testOf = (event: StoredEvent): readonly Published[] =>
  event.type === "DeliveryRequested" && "event" in event.data.source && event.data.source.type === "webhook.test"
    ? [{ id: event.data.source.event, type: "webhook.test" }]
    : [];

/**
 * What an endpoint's filter by room and its lane are about: the room of a room's event, else the notification with its
 * deliveries, else the client.
 */
export function laneOf({ stream, data }: StoredEvent): { readonly room: RoomId | null; readonly lane: string } {
  const { data: room } = RoomIdSchema.safeParse(stream.startsWith(ROOM_STREAMS) ? roomOf(stream) : undefined);
  if (room !== undefined) return { room, lane: room };
  const of =
    "notification" in data && typeof data.notification === "string" ? `notification-${data.notification}` : stream;
  return { room: null, lane: of };
}

/** The public event of a stored one, as it is to be shown now. Undefined when it is not published as that. */
export async function publicEvent(
  services: PublicEventServices,
  event: StoredEvent,
  id: EventId,
): Promise<PublicEvent | undefined> {
  const published = publishedAs(event).find((one) => one.id === id);
  const { client } = event.meta;
  if (published === undefined || client === null) return undefined;
  if (isOfRoom(event)) {
    const { state: now } = await services.commands.load(roomDecider, event.stream);
    return (await new RoomEventMaker(services, roomOf(event.stream)).past([event], now))[0];
  }
  return {
    ...published,
    ...{ room_id: null, seq: null },
    at: rfc3339(event.meta.at),
    position: services.positions.ofEvent(client, event.position),
    actor: await actorOf(services, event),
    data: await dataOf(services, event),
  };
}

export const isOfRoom = (event: StoredEvent): event is StoredRoomEvent => Object.hasOwn(ROOM_NAMES, event.type);

async function actorOf({ commands }: PublicEventServices, { meta }: StoredEvent): Promise<PublicActor> {
  if (meta.actor.type !== "user") return meta.actor;
  const { state } = await commands.load(userDecider, userStream(meta.actor.id));
  return { type: "user", id: state.status === "none" ? null : reveal(state.user) };
}

async function dataOf(services: PublicEventServices, event: StoredEvent): Promise<object> {
  switch (event.type) {
    case "EndpointDisabled":
      return { endpoint_id: event.data.endpoint, reason: event.data.reason };
    case "ProviderFailedOver":
      return { name: event.data.from, reason: event.data.code };
    case "ProviderDown":
    case "ProviderUp":
      return { name: event.data.name, reason: event.data.reason };
    case "DeliveryRequested":
      return { endpoint_id: event.data.endpoint };
    case "NotificationRequested":
    case "NotificationCancelled":
    case "NotificationStopRequested":
    case "NotificationDeleted":
      return notificationAfter(services, event);
    default:
      return deliveryAfter(services, event);
  }
}

/** The notification just after an event of its own; a request is shown with the release that came with it. */
async function notificationAfter(
  { commands }: PublicEventServices,
  { type, stream, revision, meta }: StoredEvent,
): Promise<NotificationEventData> {
  const state = await commands.loadAt(notificationDecider, stream, revision);
  if (state.status === "none") throw new Error(`${stream} has no event ${revision}`);
  const { sendAt } = state.data;
  const released = type === "NotificationRequested" && (sendAt === null || sendAt <= meta.at);
  return notificationEventData(rowOfState(notificationOf(stream), released ? { ...state, status: "released" } : state));
}

/** The delivery just after an event of it. */
async function deliveryAfter(
  { store, keyring }: PublicEventServices,
  { stream, revision }: StoredEvent,
): Promise<DeliveryEventData> {
  const events: StoredEvent[] = [];
  while (events.length <= revision) {
    const limit = Math.min(READ_PAGE, revision + 1 - events.length);
    const page = await decode(keyring, await store.readStream(stream, { from: events.length, limit }));
    if (page.length === 0) break;
    events.push(...page);
  }
  // Folding gives exactly the projection's columns.
  const [row] = foldRows(deliveries, events) as unknown as readonly DeliveryRow[];
  if (row === undefined) throw new Error(`${stream} has no event ${revision}`);
  const { attempts: _attempts, ...data } = deliveryResource(row, []);
  return data;
}
