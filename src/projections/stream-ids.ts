// The ids that stream names carry.
import type { ClientId, DeliveryId, NotificationId, RoomId } from "../contract/ids.ts";

const tail = (stream: string): string => stream.slice(stream.indexOf("-") + 1);

// Stream names are made by the domain from ids of these types (`roomStream` and its like).
export const clientOf = (stream: string) => tail(stream) as ClientId;
/** Of `room-…` and `reads-…` streams. */
export const roomOf = (stream: string) => tail(stream) as RoomId;
export const notificationOf = (stream: string) => tail(stream) as NotificationId;
export const deliveryOf = (stream: string) => tail(stream) as DeliveryId;
