// The inbox: a user's WebSocket notifications, with what the user did with each of them or with all.

import type { NotificationId, Subject } from "../contract/ids.ts";
import type { InboxCounts, InboxItemResource, InboxQuery } from "../contract/inbox.ts";
import type { Instant } from "../contract/time.ts";
import { rfc3339, rfc3339OrNull } from "../contract/time.ts";
import { DomainError } from "../domain/decider.ts";
import { deliveryDecider, type ItemMark } from "../domain/delivery.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { type InboxMark, inboxDecider, inboxStream } from "../domain/inbox.ts";
import { deliveryId } from "../event-store/derived-ids.ts";
import type { Position } from "../event-store/event-store.ts";
import {
  countInboxes,
  type InboxEntry,
  itemCovered,
  listInbox as queryInbox,
} from "../projections/models/inbox-list.ts";
import type { Page } from "../projections/page.ts";
import type { ReadAs } from "../projections/read-side.ts";
import { onceMade } from "./deliveries.ts";
import { awaitReadModel } from "./notification-views.ts";
import type { Call, Written } from "./services.ts";
import { subjectOf } from "./users.ts";

const resource = (entry: InboxEntry): InboxItemResource => ({
  id: entry.notification_id,
  delivery_id: entry.id,
  subject: entry.subject,
  content: typeof entry.content === "string" ? entry.content : null,
  meta: entry.meta,
  priority: entry.priority,
  category: entry.category,
  room_id: entry.room_id,
  created_at: rfc3339(entry.created_at),
  seen_at: rfc3339OrNull(entry.seen_at),
  read_at: rfc3339OrNull(entry.read_at),
  archived_at: rfc3339OrNull(entry.archived_at),
});

async function countsOf(read: ReadAs, subject: Subject): Promise<InboxCounts> {
  const [counts] = await countInboxes(read, [subject]);
  return { unread_count: counts?.unread_count ?? 0, unseen_count: counts?.unseen_count ?? 0 };
}

/** Newest first; of a user whom nobody knows it is empty. Throws not_found, InvalidCursor. */
export async function listInbox(
  call: Call,
  user: string,
  { status: statuses, category: categories, limit, cursor }: InboxQuery,
): Promise<Page<InboxItemResource> & { readonly counts: InboxCounts }> {
  const { read } = call;
  const subject = await subjectOf(call, user);
  const [{ rows, next }, counts] = await Promise.all([
    queryInbox(read, subject, { statuses, categories, limit, cursor }),
    countsOf(read, subject),
  ]);
  return { rows: rows.map(resource), next, counts };
}

type Marked = Written & { readonly counts: InboxCounts };

/** The counts once the read model has what was written. Throws read_model_behind. */
async function countsAfter({ services, read }: Call, subject: Subject, written: Written): Promise<Marked> {
  await awaitReadModel(services, written.position);
  const { position, replayed } = written;
  return { counts: await countsOf(read, subject), position, replayed };
}

/** Marks one item. Throws not_found, read_model_behind. */
export async function markItem(call: Call, user: string, id: NotificationId, as: ItemMark): Promise<Marked> {
  const { services, read, at, context } = call;
  const subject = await subjectOf(call, user);
  const delivery = deliveryId(id, subject, "websocket");
  const covered = await onceMade(async () => {
    await awaitReadModel(services);
    const found = await itemCovered(read, delivery);
    if (found === undefined) throw new DomainError("not_found");
    return found;
  });
  const command = { type: "Mark", at, subject, as, covered } as const;
  const written = await services.commands.execute(deliveryDecider, deliveryStream(delivery), command, context);
  return countsAfter(call, subject, written);
}

/** Marks all items, or those that were made before a time, in one event; none when nothing changes. Throws read_model_behind. */
export async function markInbox(call: Call, user: string, as: InboxMark, before: Instant | null): Promise<Marked> {
  const { services, at, context } = call;
  const subject = await subjectOf(call, user);
  await awaitReadModel(services);
  if (context.fingerprint === undefined && !(await changesAny(call, subject, as, before))) {
    return { counts: await countsOf(call.read, subject), position: await tailOf(call), replayed: false };
  }
  const command = { type: "Mark", at, as, before } as const;
  return countsAfter(
    call,
    subject,
    await services.commands.execute(inboxDecider, inboxStream(subject), command, context),
  );
}

const tailOf = ({ services }: Call): Promise<Position> => services.store.tail();

async function changesAny({ read }: Call, subject: Subject, as: InboxMark, before: Instant | null): Promise<boolean> {
  if (as === "seen") return (await countsOf(read, subject)).unseen_count > 0;
  const statuses = as === "read" ? (["unread"] as const) : (["unread", "read"] as const);
  const { rows } = await queryInbox(read, subject, { statuses, before: before ?? undefined, limit: 1 });
  return rows.length > 0;
}
