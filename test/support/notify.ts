// Notifications without workers: requested, released and, as the router would, with a delivery for each recipient.

import type { ClientId, DeliveryId, NotificationId } from "../../src/contract/ids.ts";
import { type DeliveryCommand, deliveryDecider, type Requested } from "../../src/domain/delivery.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import {
  type NotificationData,
  notificationDecider,
  notificationStream,
  WITHOUT_OPTIONS,
} from "../../src/domain/notification.ts";
import { deliveryId } from "../../src/event-store/derived-ids.ts";
import { type CommandParts, contextOf } from "./live.ts";

export type Notified = { readonly notification: NotificationId; readonly delivery: DeliveryId };
let made = 0;

export type NotifyOptions = {
  readonly content?: string;
  readonly expiresInMs?: number;
  readonly fallbackInMs?: number;
};

/** A WebSocket notification to one user, with its delivery. */
export async function notify(
  { commands, keyring }: CommandParts,
  client: ClientId,
  user: string,
  { content = "hello", expiresInMs = 3_600_000, fallbackInMs }: NotifyOptions = {},
): Promise<Notified> {
  made += 1;
  const notification: NotificationId = `ntf_${made.toString().padStart(26, "0")}`;
  const subject = await keyring.subjectOfUser(client, user);
  const at = Date.now();
  const expiresAt = at + expiresInMs;
  const data: NotificationData = {
    ...{
      client,
      roomId: null,
      audience: null,
      fallback: null,
      contentType: null,
      ...WITHOUT_OPTIONS,
      replyTo: null,
      cc: { open: [] },
      bcc: { open: [] },
    },
    ...{ contentKey: subject, subject: { open: "Subject" }, content: { open: content }, text: null },
    ...{ meta: { open: { made } }, sendAt: null, expiresAt },
    channel: "websocket",
    priority: "high",
    recipients: [{ subject, address: { open: user }, name: null, user: null }],
  };
  const stream = notificationStream(notification);
  await commands.execute(notificationDecider, stream, { type: "Request", at, data }, contextOf(client));
  const request: Requested = {
    ...{ notification, recipient: subject, address: { open: user }, name: null },
    ...{ fallbackOf: null, bulk: false, expiresAt },
    channel: "websocket",
    priority: "high",
    fallbackAt: fallbackInMs === undefined ? null : at + fallbackInMs,
  };
  const delivery = deliveryId(notification, subject, "websocket");
  await moveDelivery({ commands }, client, delivery, { type: "Request", at, request });
  return { notification, delivery };
}

/** Runs a command on a delivery. */
export const moveDelivery = (
  { commands }: Pick<CommandParts, "commands">,
  client: ClientId,
  delivery: DeliveryId,
  command: DeliveryCommand,
) => commands.execute(deliveryDecider, deliveryStream(delivery), command, contextOf(client));
