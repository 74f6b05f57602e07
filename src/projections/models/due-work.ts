// What is unfinished and due, across clients: what a sweep has to find, whatever became of the jobs.
import type { ClientId, DeliveryId, NotificationId, Subject } from "../../contract/ids.ts";
import type { Priority } from "../../contract/resources.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { OperatorRead } from "../read-as.ts";
import { sql } from "../sql.ts";
import { type DeliveryRow, deliveries } from "./deliveries.ts";
import { type NotificationRow, notifications } from "./notifications.ts";

/** Deliveries that somebody has to see to by `now`: an attempt, a lease's end, a fallback, an expiry. Longest due first. */
export const dueDeliveries = (
  operator: OperatorRead,
  now: Instant,
  limit: number,
  after: { at: Instant; id: DeliveryId } = { at: -1, id: "dlv_" },
): Promise<readonly DeliveryRow[]> =>
  operator.rows(sql`
    select * from ${deliveries} d
    where next_action_at <= ${now} and (next_action_at, id) > (${after.at}, ${after.id})
    order by next_action_at, id limit ${limit}`);

/** Scheduled notifications whose time has come by `now`, longest due first. */
export const dueNotifications = (
  operator: OperatorRead,
  now: Instant,
  limit: number,
  after: { at: Instant; id: NotificationId } = { at: -1, id: "ntf_" },
): Promise<readonly NotificationRow[]> =>
  operator.rows(sql`
    select * from ${notifications} n
    where state = 'scheduled' and send_at <= ${now} and (send_at, id) > (${after.at}, ${after.id})
    order by send_at, id limit ${limit}`);

/** Released notifications of which not every delivery is known to be made, oldest first. */
export const unroutedNotifications = (
  operator: OperatorRead,
  limit: number,
  after: Position | null = null,
): Promise<readonly NotificationRow[]> =>
  operator.rows(sql`
    select * from ${notifications} n where state = 'released' and not routed and position > ${after ?? ""}
    order by position limit ${limit}`);

/** Notifications that were stopped while deliveries of theirs are still open, oldest first. */
export const stoppingNotifications = (
  operator: OperatorRead,
  limit: number,
  after: Position | null = null,
): Promise<readonly NotificationRow[]> =>
  operator.rows(sql`
    select * from ${notifications} n where stop_requested and open > 0 and position > ${after ?? ""}
    order by position limit ${limit}`);

/** A mail that a fallback asked for and that is not made yet. */
export type MissingMail = {
  readonly client: ClientId;
  readonly notification_id: NotificationId;
  readonly mail: DeliveryId;
  readonly mail_recipient: Subject;
  readonly mail_address: string | null;
  readonly mail_name: string | null;
  /** The first that fell back to it. */
  readonly fallback_of: DeliveryId;
  readonly priority: Priority;
  readonly bulk: boolean;
  readonly expires_at: Instant;
};

/** Mails that fallbacks asked for and that are not made yet, of notifications that were not stopped. */
export const missingMails = (operator: OperatorRead, limit: number): Promise<readonly MissingMail[]> =>
  operator.rows(sql`
    select distinct on (n.position, d.mail) d.client, d.notification_id, d.mail, d.mail_recipient, d.mail_address,
      d.mail_name, d.id as fallback_of, d.priority, d.bulk, d.expires_at
    from ${notifications} n
    join ${deliveries} d on d.notification_id = n.id and d.status = 'fell_back'
    where n.mails_due and not n.stop_requested
      and not exists (select from ${deliveries} made where made.id = d.mail)
    order by n.position, d.mail, d.position limit ${limit}`);
