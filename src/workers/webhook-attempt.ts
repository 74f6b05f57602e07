// A webhook attempt: the body as it is on every attempt, signed with the secrets of the moment.

import type { DeliveryId, NotificationId } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import type { LiveClient } from "../domain/client.ts";
import type { KnownDelivery } from "../domain/delivery.ts";
import { reveal } from "../domain/event.ts";
import type { KnownNotification } from "../domain/notification.ts";
import { type AttemptPlan, ERASED, impossible } from "./attempt-plan.ts";
import type { HandlerParts } from "./parts.ts";

const PROVIDER = "webhook";
const PLACES_PER_HOST = 20;

/** How a webhook delivery is to be attempted now. */
export function planWebhook(
  { webhook, now }: Pick<HandlerParts, "webhook" | "now">,
  id: DeliveryId,
  delivery: KnownDelivery,
  notification: KnownNotification,
  client: LiveClient,
): AttemptPlan {
  const url = reveal(delivery.request.address);
  const body = webhookBody(id, delivery.request.notification, notification);
  const secrets = secretsAt(client, now());
  if (url === null || body === undefined || secrets.length === 0) {
    return impossible({ provider: PROVIDER, outcome: "permanent", error: ERASED });
  }
  return {
    provider: PROVIDER,
    place: { host: `webhook:${URL.parse(url)?.host ?? ""}`, limit: PLACES_PER_HOST },
    longestMs: webhook.attemptTimeoutMs,
    pace: null,
    send: (timestamp, signal) => webhook.send({ url, id, timestamp, body, secrets, signal }),
  };
}

/** The current secret first, then the one before while its grace lasts. */
function secretsAt({ secret, previousSecret }: LiveClient, at: Instant): readonly string[] {
  const previous =
    previousSecret !== null && /* fence: webhook-secret-grace */ previousSecret.until > at
      ? reveal(previousSecret.secret)
      : null;
  return [reveal(secret), previous].filter((one) => one !== null);
}

/** The same bytes on each attempt; undefined when the content was erased. */
function webhookBody(id: DeliveryId, notificationId: NotificationId, { data, createdAt }: KnownNotification) {
  if (!("open" in data.content)) return undefined;
  return JSON.stringify({
    type: "notification",
    timestamp: new Date(Math.max(createdAt, data.sendAt ?? createdAt)).toISOString(),
    data: {
      notification_id: notificationId,
      delivery_id: id,
      subject: reveal(data.subject),
      content: data.content.open,
      meta: reveal(data.meta) ?? {},
      priority: data.priority,
      room_id: data.roomId,
    },
  });
}
