// Whom notifications are for: so that one person's can be found, before and after deliveries are made.
import type { ClientId, NotificationId, Subject } from "../../contract/ids.ts";
import type { Position } from "../../event-store/event-store.ts";
import { projection, type RowOf, text, upsert } from "../projection.ts";
import { notificationOf } from "../stream-ids.ts";

const columns = {
  notification_id: text<NotificationId>(),
  subject: text<Subject>(),
  client: text<ClientId>(),
  /** Of the event that first named the person: where the notification stands in the person's list. */
  position: text<Position>(),
};
type RecipientRow = RowOf<typeof columns>;

export const recipients = projection({
  name: "recipients",
  version: 1,
  key: ["notification_id", "subject"],
  columns,
  indexes: ["(client, subject, position, notification_id)"],
  personal: [],
  on: {
    NotificationRequested: (e) => {
      const { client, position } = { client: e.data.client, position: e.position };
      const subjects = new Set(e.data.recipients.map((one) => one.subject));
      return [...subjects].map((subject) => named(notificationOf(e.stream), subject, client, position));
    },
    // The members of a room, and the addresses of fallbacks.
    DeliveryRequested: (e) =>
      e.meta.client === null ? [] : [named(e.data.notification, e.data.recipient, e.meta.client, e.position)],
  },
});

const named = (notification: NotificationId, subject: Subject, client: ClientId, position: Position) =>
  upsert<RecipientRow, Omit<RecipientRow, "notification_id" | "subject">>([notification, subject], (row) =>
    row === undefined ? { client, position } : undefined,
  );
