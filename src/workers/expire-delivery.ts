// Expiring: a WebSocket delivery whose time is over, and a user's oldest ones when too many are open.

import type { Cursor } from "../contract/fields.ts";
import type { DeliveryId, Subject } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { deliveryDecider, deliveryStream, hasEnded } from "../domain/delivery.ts";
import { failpoint } from "../platform/failpoint.ts";
import { countOpen, openWebsocketDeliveries } from "../projections/models/delivery-list.ts";
import type { TakenJob } from "./job-store.ts";
import { causeOf, contextOf, type HandlerParts } from "./parts.ts";
import { again, DONE, type Verdict } from "./worker.ts";

/** How many WebSocket deliveries of one user may be open; past that the oldest expire. */
export const MAX_OPEN_DELIVERIES = 1_000;
const PAGE = 100;

/** Expires a delivery; comes again when it was given more time meanwhile. */
export async function expireDelivery(parts: HandlerParts, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const { state } = await parts.commands.load(deliveryDecider, deliveryStream(id));
  if (state.status === "none" || hasEnded(state.status) || state.status === "sending") return DONE;
  // Read once: a clock that is set back between two looks would end this job without its work.
  const at = parts.now();
  if (state.expiresAt > at) return again(state.expiresAt);
  await expire(parts, job, id, { at, reason: "expired" });
  failpoint("expired/job-done");
  return DONE;
}

/** Expires a user's oldest pending deliveries beyond the limit, as far as the read model knows them. */
export async function expireOverflow(
  parts: HandlerParts,
  job: TakenJob,
  recipient: Subject,
  limit: number,
): Promise<Verdict> {
  const read = parts.readSide.readAs(job.client);
  let surplus = (await countOpen(read, recipient)) - limit;
  let cursor: Cursor | null = null;
  while (surplus > 0) {
    const page = await openWebsocketDeliveries(read, recipient, {
      now: parts.now(),
      limit: PAGE,
      ...(cursor === null ? {} : { cursor }),
    });
    const oldest = page.rows.filter((row) => row.status === "pending").slice(0, surplus);
    await Promise.all(oldest.map((row) => expire(parts, job, row.id, { at: parts.now(), reason: "too_many_open" })));
    surplus -= oldest.length;
    if (page.next === null) break;
    cursor = page.next;
  }
  return DONE;
}

async function expire(
  parts: HandlerParts,
  job: TakenJob,
  id: DeliveryId,
  why: { readonly at: Instant; readonly reason: "expired" | "too_many_open" },
): Promise<void> {
  const stream = deliveryStream(id);
  const command = { type: "Expire", ...why } as const;
  const context = contextOf(job.client, await causeOf(parts, job, stream), parts.newId());
  await parts.commands.execute(deliveryDecider, stream, command, context);
}
