// Delivery ids follow from what they deliver: making the same delivery twice meets the same stream.
import type { DeliveryId, NotificationId, Subject } from "../contract/ids.ts";
import type { Channel } from "../contract/resources.ts";
import { deriveTail } from "./derive.ts";

/** The delivery of a notification to one recipient on one channel. Part of the storage format. */
export const deliveryId = (notification: NotificationId, recipient: Subject, channel: Channel): DeliveryId =>
  `dlv_${deriveTail("delivery", notification, recipient, channel)}`;

/**
 * The mail that a notification falls back to. `recipient` is the subject of the address, so that all deliveries that
 * fall back to one address share one mail; the user's own where there is no address. Part of the storage format.
 */
export const fallbackMailId = (notification: NotificationId, recipient: Subject): DeliveryId =>
  `dlv_${deriveTail("fallback", notification, recipient)}`;
