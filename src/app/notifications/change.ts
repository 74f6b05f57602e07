// Changing a notification: cancelling, editing, starting again what failed. Each answers as of what it wrote.

import { type NotificationId, NotificationIdSchema } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import { DomainError, InvalidInput } from "../../domain/errors.ts";
import { type NotificationCommand, notificationDecider, notificationStream } from "../../domain/notification.ts";
import type { CommandContext } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type NotificationRow, notificationById } from "../../projections/models/notifications.ts";
import type { ReadAs } from "../../projections/read-side.ts";
import type { NotificationView } from "../bodies/notification.ts";
import type { Services } from "../services.ts";
import { streamOwner } from "../stream-owner.ts";
import { positionOf, reach, viewAsOf } from "./as-of.ts";
import { edited, patchFaults } from "./edit.ts";
import type { NotificationPatch } from "./input.ts";
import { viewNow } from "./view.ts";

/** What a change is made with. */
export type Change = {
  readonly services: Services;
  readonly read: ReadAs;
  readonly context: CommandContext;
  readonly at: Instant;
};
export type Changed = {
  readonly view: NotificationView;
  readonly position: Position;
  readonly replayed: boolean;
};

/** The notification's id, if it is the client's. Throws not_found. */
export async function ownNotification({ services, read }: Change, named: string): Promise<NotificationId> {
  const { data: id } = NotificationIdSchema.safeParse(named);
  if (
    id === undefined ||
    /* fence: tenant-notification */ (await streamOwner(services.store, notificationStream(id))) !== read.client
  ) {
    throw new DomainError("not_found");
  }
  return id;
}

/** The row, with all that is in the log now. */
export async function rowNow({ services, read }: Change, id: NotificationId): Promise<NotificationRow> {
  await reach(services);
  const row = await notificationById(read, id);
  if (row === undefined) throw new DomainError("not_found");
  return row;
}

/** Stops what is not sent yet. Throws not_found, precondition_failed, not_cancellable. */
export async function cancel(change: Change, named: string, ifMatch: number | null): Promise<Changed> {
  const id = await ownNotification(change, named);
  const row = await rowNow(change, id);
  // As long as the row is not routed its deliveries may come to be before this is decided.
  const openDeliveries = !row.routed || row.open > 0 || row.mails_due;
  return own(change, id, { type: "Cancel", at: change.at, openDeliveries, ifMatch });
}

/** Changes what is still scheduled. Throws not_found, precondition_failed, not_editable, InvalidInput. */
export async function edit(
  change: Change,
  named: string,
  patch: NotificationPatch,
  ifMatch: number | null,
): Promise<Changed> {
  const { services, at } = change;
  const id = await ownNotification(change, named);
  const { state } = await services.commands.load(notificationDecider, notificationStream(id));
  if (state.status === "none") throw new DomainError("not_found");
  const { createdAt, data } = state;
  const faults = patchFaults(data.channel, patch);
  if (faults.length > 0) throw new InvalidInput(faults);
  const command = {
    type: "Edit",
    at,
    ifMatch,
    change: (old) => edited(old, patch, { at, createdAt }),
  } satisfies NotificationCommand;
  return own(change, id, command);
}

/** Gives a command to the notification's own stream, and answers as of it. */
async function own(change: Change, id: NotificationId, command: NotificationCommand): Promise<Changed> {
  const { services, read, context } = change;
  const stream = notificationStream(id);
  const { events, position, replayed } = await services.commands.execute(notificationDecider, stream, command, context);
  const last = events.at(-1);
  if (last === undefined) {
    return { view: await viewNow(services, read, await rowNow(change, id)), position, replayed };
  }
  const upTo = await positionOf(services, stream, last.revision);
  return { view: await viewAsOf(services, read, id, upTo), position, replayed };
}
