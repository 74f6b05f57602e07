// What a sweep would enqueue for one notification, from rows folded in memory: each job at the moment that its row names.
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { DeliveryIdSchema } from "../../../src/contract/ids.ts";
import type { Instant } from "../../../src/contract/time.ts";
import type { StoredEvent } from "../../../src/event-store/envelope.ts";
import { foldRows } from "../../../src/projections/fold.ts";
import { deliveries } from "../../../src/projections/models/deliveries.ts";
import { createJob, type Job, type Work } from "../../../src/workers/jobs.ts";
import { CLIENT, NOTIFICATION } from "../../projections/log.ts";

export type DueJob = Job & { readonly at: Instant };

const RowSchema = z.object({
  id: DeliveryIdSchema,
  channel: z.string(),
  status: z.string(),
  mail: DeliveryIdSchema.nullable(),
  next_action_at: z.number().nullable(),
  fallback_at: z.number().nullable(),
  expires_at: z.number(),
  updated_at: z.number(),
});
type DueRow = z.infer<typeof RowSchema>;

export function sweepOf(events: readonly StoredEvent[]): readonly DueJob[] {
  const types = new Set(events.map((event) => event.type));
  const asked = events.find((event) => event.type === "NotificationRequested");
  const since = asked?.meta.at ?? 0;
  if (!types.has("NotificationReleased"))
    return [dueJob({ kind: "release", notification: NOTIFICATION }, asked?.data.sendAt ?? since)];
  if (!types.has("NotificationRouted")) return [dueJob({ kind: "route", notification: NOTIFICATION }, since)];
  const ofDeliveries = events.filter(({ stream }) => stream.startsWith("delivery-"));
  const rows = z.array(RowSchema).parse(foldRows(deliveries, ofDeliveries));
  return rows.flatMap((row) => {
    if (row.next_action_at !== null) return [dueJob(workOf(row), row.next_action_at)];
    const missing = row.status === "fell_back" && !rows.some(({ id }) => id === row.mail);
    return missing ? [dueJob({ kind: "mail", delivery: row.id }, row.updated_at)] : [];
  });
}

function workOf({ id, channel, fallback_at, expires_at }: DueRow): Work {
  if (channel !== "websocket") return { kind: "attempt", delivery: id, n: null };
  return { kind: fallback_at !== null && fallback_at <= expires_at ? "fallback" : "expire", delivery: id };
}

/** A job as a sweep makes it. */
export const dueJob = (work: Work, at: Instant): DueJob => ({
  ...createJob({ client: CLIENT, priority: "normal", cause: null, work, at }, randomUUID()),
  at,
});
