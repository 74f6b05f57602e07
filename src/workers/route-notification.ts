// From a notification to its deliveries: released when its time has come, routed in pages, stopped when asked.

import type { ClientId, DeliveryId, NotificationId } from "../contract/ids.ts";
import { deliveryDecider, deliveryStream } from "../domain/delivery.ts";
import { DomainError } from "../domain/errors.ts";
import {
  type KnownNotification,
  notificationDecider,
  notificationStream,
  type Recipient,
} from "../domain/notification.ts";
import { deliveryId, deriveUuid } from "../event-store/derived-ids.ts";
import { failpoint } from "../platform/failpoint.ts";
import { AUDIENCE_PAGE, audiencePages, audienceSubjects } from "./audience.ts";
import { fallbackMailOf } from "./fallback.ts";
import type { TakenJob } from "./job-store.ts";
import type { Cause } from "./jobs.ts";
import { causeOf, contextOf, type HandlerParts } from "./parts.ts";
import { wasRedriven } from "./redriven.ts";
import { again, DONE, type Verdict } from "./worker.ts";

/** Releases a scheduled notification; comes again when it has been moved meanwhile. */
export async function releaseNotification(parts: HandlerParts, job: TakenJob, id: NotificationId): Promise<Verdict> {
  const stream = notificationStream(id);
  const cause = await causeOf(parts, job, stream);
  const release = { type: "Release", at: parts.now() } as const;
  const context = contextOf(job.client, cause, parts.newId());
  const { state } = await parts.commands.execute(notificationDecider, stream, release, context);
  failpoint("released/job-done");
  const due = state.status === "scheduled" ? state.data.sendAt : null;
  return due === null ? DONE : again(due);
}

/**
 * Requests every delivery, then says so. Begins again from the start after a crash: what was requested stays as it is.
 * After a stop it makes no more, and cancels what it made: the stop's own job may have been faster than this one.
 */
export async function routeNotification(
  parts: HandlerParts,
  job: TakenJob,
  id: NotificationId,
  signal: AbortSignal,
): Promise<Verdict> {
  const stream = notificationStream(id);
  const load = () => parts.commands.load(notificationDecider, stream);
  let { state } = await load();
  if (state.status !== "released" || state.routed) return DONE;
  const cause = await causeOf(parts, job, stream);
  const made: DeliveryId[] = [];
  for await (const page of audiencePages(parts, job.client, state.data)) {
    if (signal.aborted) return again(parts.now());
    if (state.stopRequested) break;
    const { data, updatedAt } = state;
    const common = { notification: id, channel: data.channel, fallbackOf: null, priority: data.priority } as const;
    const bulk = data.audience !== null || data.recipients.length > 1;
    // As long as nothing came after it, the last event is the release.
    const fallbackAt =
      data.channel === "websocket" && data.fallback !== null ? updatedAt + data.fallback.afterMs : null;
    const times = { expiresAt: data.expiresAt, fallbackAt };
    const request = async (recipient: Recipient) => {
      const delivery = deliveryId(id, recipient.subject, data.channel);
      const address = "open" in recipient.address ? recipient.address : null;
      const asked = { ...common, bulk, ...times, recipient: recipient.subject, address, name: recipient.name };
      const context = contextOf(job.client, cause, deriveUuid("request", delivery));
      const command = { type: "Request", at: parts.now(), request: asked } as const;
      await parts.commands.execute(deliveryDecider, deliveryStream(delivery), command, context, { newStream: true });
      return delivery;
    };
    made.push(...(await Promise.all(page.map(request))));
    failpoint("page-requested/next-page");
    const { state: now } = await load();
    if (now.status !== "released") return DONE;
    state = now;
  }
  if (state.stopRequested) await cancelAll(parts, job.client, cause, made);
  failpoint("all-requested/routed");
  const routed = { type: "MarkRouted", at: parts.now(), deliveries: made.length } as const;
  const context = contextOf(job.client, cause, deriveUuid("routed", id));
  await parts.commands.execute(notificationDecider, stream, routed, context);
  failpoint("routed/job-done");
  return DONE;
}

/**
 * Passes a stop to every delivery that there is, and to the mails that they fell back to. When a sweep asks, some may
 * have been started again after the stop: those go on.
 */
export async function stopNotification(
  parts: HandlerParts,
  job: TakenJob,
  id: NotificationId,
  signal: AbortSignal,
): Promise<Verdict> {
  const { state } = await parts.commands.load(notificationDecider, notificationStream(id));
  if (state.status !== "released" || !state.stopRequested) return DONE;
  const cause = await causeOf(parts, job, notificationStream(id));
  const all = (await audienceSubjects(parts, state.data)).map((one) => deliveryId(id, one, state.data.channel));
  const stopped = async (ids: readonly DeliveryId[]) => {
    if (job.cause !== null) return ids;
    const redriven = await Promise.all(ids.map((one) => wasRedriven(parts, one)));
    return ids.filter((_, index) => redriven[index] === false);
  };
  for (let from = 0; from < all.length; from += AUDIENCE_PAGE) {
    if (signal.aborted) return again(parts.now());
    const page = all.slice(from, from + AUDIENCE_PAGE);
    await cancelAll(parts, job.client, cause, await stopped(page));
    failpoint("page-stopped/next-page");
    if (!hasFallback(state)) continue;
    await cancelAll(parts, job.client, cause, await stopped(await fallbackMails(parts, page)));
  }
  return DONE;
}

const hasFallback = ({ data }: KnownNotification) => data.channel === "websocket" && data.fallback !== null;

async function fallbackMails(parts: HandlerParts, deliveries: readonly DeliveryId[]): Promise<readonly DeliveryId[]> {
  const mails = await Promise.all(deliveries.map((delivery) => fallbackMailOf(parts, delivery)));
  return [...new Set(mails.filter((mail) => mail !== undefined).map((mail) => mail.data.mail))];
}

async function cancelAll(
  parts: HandlerParts,
  client: ClientId,
  cause: Cause,
  ids: readonly DeliveryId[],
): Promise<void> {
  const cancel = async (id: DeliveryId) => {
    const command = { type: "Cancel", at: parts.now() } as const;
    const context = contextOf(client, cause, parts.newId());
    try {
      await parts.commands.execute(deliveryDecider, deliveryStream(id), command, context);
    } catch (error) {
      // It was never made; who is making it sees the stop.
      if (!(error instanceof DomainError && error.code === "not_found")) throw error;
    }
  };
  for (let from = 0; from < ids.length; from += AUDIENCE_PAGE) {
    await Promise.all(ids.slice(from, from + AUDIENCE_PAGE).map(cancel));
  }
}
