// What is unfinished and due, across clients: what a sweep has to find, whatever became of the jobs.
import { sql } from "kysely";
import type { DeliveryId, NotificationId } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { OperatorRead } from "../read-as.ts";
import { type DeliveryRow, deliveries } from "./deliveries.ts";
import { endpoints } from "./endpoints.ts";
import { messages } from "./messages.ts";
import { type NotificationRow, notifications } from "./notifications.ts";

/** Deliveries that somebody has to see to by `now`: an attempt, a lease's end, a fallback, an expiry. Longest due first. */
export const dueDeliveries = (
  operator: OperatorRead,
  now: Instant,
  limit: number,
  after: { at: Instant; id: DeliveryId } = { at: -1, id: "dlv_" },
): Promise<readonly DeliveryRow[]> =>
  operator.rows(
    operator
      .over({ d: deliveries, e: endpoints })
      .selectFrom("d")
      .selectAll("d")
      .where("d.next_action_at", "<=", now)
      .where(sql<boolean>`(d.next_action_at, d.id) > (${after.at}, ${after.id})`)
      // Those of an endpoint that is paused or disabled wait until it is resumed. Those of a deleted one are cancelled.
      .where(
        sql<boolean>`(d.endpoint_id is null or d.event_type = 'webhook.test'
          or coalesce((select e.status from e where e.id = d.endpoint_id), 'active') = 'active')`,
      )
      .orderBy("d.next_action_at")
      .orderBy("d.id")
      .limit(limit),
  );

/** Messages that were posted by then and still grow as far as the read model knows, oldest first. */
export const growingMessages = (operator: OperatorRead, postedBefore: Instant, limit: number) =>
  operator.rows(
    operator
      .over({ m: messages })
      .selectFrom("m")
      .select(["m.id", "m.client", "m.room_id", "m.seq"])
      .where("m.state", "=", "growing")
      .where("m.created_at", "<", postedBefore)
      .orderBy("m.created_at")
      .limit(limit),
  );

/** Scheduled notifications whose time has come by `now`, longest due first. */
export const dueNotifications = (
  operator: OperatorRead,
  now: Instant,
  limit: number,
  after: { at: Instant; id: NotificationId } = { at: -1, id: "ntf_" },
): Promise<readonly NotificationRow[]> =>
  operator.rows(
    operator
      .over({ n: notifications })
      .selectFrom("n")
      .selectAll()
      .where("state", "=", "scheduled")
      .where("send_at", "<=", now)
      .where(sql<boolean>`(send_at, id) > (${after.at}, ${after.id})`)
      .orderBy("send_at")
      .orderBy("id")
      .limit(limit),
  );

const notificationsAfter = (operator: OperatorRead, after: Position | null) =>
  operator
    .over({ n: notifications })
    .selectFrom("n")
    .selectAll()
    .where(sql<boolean>`position > ${after ?? ""}`)
    .orderBy("position");

/** Released notifications of which not every delivery is known to be made, oldest first. */
export const unroutedNotifications = (
  operator: OperatorRead,
  limit: number,
  after: Position | null = null,
): Promise<readonly NotificationRow[]> =>
  operator.rows(
    notificationsAfter(operator, after)
      .where("state", "=", "released")
      .where((eb) => eb.not("routed"))
      .limit(limit),
  );

/** Notifications that were stopped while deliveries of theirs are still open, oldest first. */
export const stoppingNotifications = (
  operator: OperatorRead,
  limit: number,
  after: Position | null = null,
): Promise<readonly NotificationRow[]> =>
  operator.rows(
    notificationsAfter(operator, after).where(sql<boolean>`stop_requested`).where("open", ">", 0).limit(limit),
  );

/** Notifications that were deleted, of which not every delivery is erased yet, oldest first. */
export const erasingNotifications = (
  operator: OperatorRead,
  limit: number,
  after: Position | null = null,
): Promise<readonly NotificationRow[]> =>
  operator.rows(notificationsAfter(operator, after).where(sql<boolean>`erasing`).limit(limit));

/** Mails that fallbacks requested and that are not made yet, of notifications that were not stopped. */
export const missingMails = (operator: OperatorRead, limit: number) =>
  operator.rows(
    operator
      .over({ n: notifications, d: deliveries })
      .selectFrom("n")
      .innerJoin("d", (join) => join.onRef("d.notification_id", "=", "n.id").on("d.status", "=", "fell_back"))
      .distinctOn(["n.position", "d.mail"])
      .select([
        "d.client",
        "d.notification_id",
        "d.mail_address",
        "d.mail_name",
        "d.priority",
        "d.bulk",
        "d.expires_at",
      ])
      // Set whenever a delivery fell back. `fallback_of` is the first that fell back to the mail.
      .select((eb) => [
        eb.ref("d.mail").$notNull().as("mail"),
        eb.ref("d.mail_recipient").$notNull().as("mail_recipient"),
      ])
      .select("d.id as fallback_of")
      .where(sql<boolean>`n.mails_due and not n.stop_requested`)
      .where(sql<boolean>`not exists (select from d made where made.id = d.mail)`)
      .orderBy("n.position")
      .orderBy("d.mail")
      .orderBy("d.position")
      .limit(limit),
  );

/** A mail that a fallback requested and that is not made yet. */
export type MissingMail = Awaited<ReturnType<typeof missingMails>>[number];
