// domain/delivery-inbox.ts: a WebSocket delivery as an item of its user's inbox: unread, read or archived.

import type { Subject } from "../contract/ids.ts";
import type { InboxStatus } from "../contract/inbox.ts";
import { DomainError } from "./decider.ts";
import { type DataOf, type DeliveryEvent, type KnownDelivery, statusAfter } from "./delivery-state.ts";

/** What is done with an item. */
export type ItemMark = DataOf<"DeliveryMarked">["as"];

/** `covered`: what marks on the whole inbox made of the item since it was last marked unread, or taken out of the archive. */
export type MarkItem = { readonly subject: Subject; readonly as: ItemMark; readonly covered: InboxStatus };

const ORDER: readonly InboxStatus[] = ["unread", "read", "archived"];
const higher = (one: InboxStatus, other: InboxStatus): InboxStatus =>
  ORDER.indexOf(one) > ORDER.indexOf(other) ? one : other;

/** Whether a mark changes what the item is, by its own marks and those on the whole inbox. */
function changes(now: InboxStatus, as: ItemMark): boolean {
  if (as === "read") return now === "unread";
  if (as === "unread") return now !== "unread";
  return as === "archived" ? now !== "archived" : now === "archived";
}

/**
 * Who reads an item, or archives it, has it: that is an acknowledgement too. Throws not_found for what is in no inbox, or in
 * another's.
 */
export function markItem(
  state: KnownDelivery,
  { subject, as, covered }: MarkItem,
  acknowledge: (state: KnownDelivery) => readonly DeliveryEvent[],
): readonly DeliveryEvent[] {
  const { request, status } = state;
  const { channel, recipient, notification } = request;
  const inInbox = channel === "websocket" && status !== "cancelled" && status !== "suppressed";
  if (!inInbox || /* fence: inbox-recipient */ recipient !== subject) throw new DomainError("not_found");
  const acknowledged = as === "read" || as === "archived" ? acknowledge(state) : [];
  if (!changes(higher(state.item, covered), as)) return acknowledged;
  const now = acknowledged.length > 0 ? statusAfter(status, "DeliveryAcknowledged", channel) : status;
  return [...acknowledged, { type: "DeliveryMarked", data: { notification, recipient, from: now, to: now, as } }];
}
