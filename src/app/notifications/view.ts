// What an answer about a notification is made of, now: from the read model, and the log for whom it will be for.

import type { DeliveryId, RoomId, Subject } from "../../contract/ids.ts";
import { SHOWN_DELIVERIES } from "../../contract/resources.ts";
import { reveal } from "../../domain/event.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import type { Room } from "../../domain/room-state.ts";
import { userDecider, userStream } from "../../domain/user.ts";
import { mapBounded } from "../../platform/bounded.ts";
import { attemptsOf, deliveriesOf } from "../../projections/models/deliveries.ts";
import { type NotificationRow, SHOWN_RECIPIENTS, type ShownRecipient } from "../../projections/models/notifications.ts";
import { userIdsOf } from "../../projections/models/users.ts";
import type { ReadAs } from "../../projections/read-side.ts";
import { type NotificationView, unmade } from "../bodies/notification.ts";
import type { Services } from "../services.ts";

const READS_AT_ONCE = 16;

type Parts = Pick<Services, "commands">;

/** A notification as the read model has it. */
export async function viewNow(parts: Parts, read: ReadAs, row: NotificationRow): Promise<NotificationView> {
  const { rows: made } = await deliveriesOf(read, row.id, { limit: SHOWN_DELIVERIES });
  const attempts = made.length === 0 ? [] : await attemptsOf(read, idsOf(made));
  return { row, made, attempts, planned: await plannedFor(parts, read, row) };
}

const idsOf = (rows: readonly { readonly id: DeliveryId }[]): readonly DeliveryId[] => rows.map((row) => row.id);

/** The first whom a notification is for, in the order of its deliveries; of a room only as long as some are not made. */
export async function plannedFor(parts: Parts, read: ReadAs, row: NotificationRow): Promise<readonly ShownRecipient[]> {
  if (row.audience === null) return row.recipients;
  return unmade(row).count === 0 ? [] : membersAt(parts, read, row.audience.roomId, row.audience.atSeq);
}

/** The first members that a room had at a seq, as the router expands them. */
async function membersAt(parts: Parts, read: ReadAs, room: RoomId, seq: number): Promise<readonly ShownRecipient[]> {
  const state: Room = await parts.commands.loadAt(roomDecider, roomStream(room), seq - 1);
  const members = state.status === "live" ? [...state.members.keys()] : [];
  const subjects = members.toSorted().slice(0, SHOWN_RECIPIENTS);
  const known = await userIdsOf(read, subjects);
  return mapBounded(subjects, READS_AT_ONCE, async (subject) => {
    const address = known.get(subject) ?? (await unseenUserId(parts, subject));
    return { subject, address, name: null };
  });
}

/** The id of a user whom the read model has not seen yet; null when it was erased. */
async function unseenUserId({ commands }: Parts, subject: Subject): Promise<string | null> {
  const { state } = await commands.load(userDecider, userStream(subject));
  return state.status === "registered" ? reveal(state.user) : null;
}
