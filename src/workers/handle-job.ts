// What each kind of job does.
import { postScheduled } from "../app/scheduled-messages.ts";
import type { ScheduledMessageId } from "../contract/ids.ts";
import { scheduledMessageDecider, scheduledStream } from "../domain/scheduled-message.ts";
import { attemptDelivery } from "./attempts.ts";
import { endHold, expireDelivery, expireOverflow, fallBack, replaceDelivery, requestFallbackMail } from "./fallback.ts";
import { acknowledgeInbox } from "./inbox.ts";
import { causeOf, contextOf, type JobServices } from "./job-services.ts";
import { DONE, retryLater, type TakenJob, type Verdict } from "./jobs.ts";
import { redriveDeliveries } from "./redrive.ts";
import { eraseDeliveries, releaseNotification, routeNotification, stopNotification } from "./routing.ts";

/** Does a job. Throws when it could not; the job then runs again. */
export function handleJob(services: JobServices, job: TakenJob, signal: AbortSignal): Promise<Verdict> {
  const { work } = job;
  switch (work.kind) {
    case "release":
      return releaseNotification(services, job, work.notification);
    case "route":
      return routeNotification(services, job, work.notification, signal);
    case "stop":
      return stopNotification(services, job, work.notification, signal);
    case "erase":
      return eraseDeliveries(services, job, work.notification, signal);
    case "attempt":
      return attemptDelivery(services, job, work, signal);
    case "fallback":
      return fallBack(services, job, work.delivery);
    case "mail":
      return requestFallbackMail(services, job, work.delivery);
    case "expire":
      return expireDelivery(services, job, work.delivery);
    case "replace":
      return replaceDelivery(services, job, work.delivery);
    case "endHold":
      return endHold(services, job, work.delivery);
    case "overflow":
      return expireOverflow(services, job, work.recipient);
    case "acknowledge":
      return acknowledgeInbox(services, job, work);
    case "post":
      return postScheduledMessage(services, job, work.scheduled);
    case "redrive":
      return redriveDeliveries(services, job, work.redrive, signal);
  }
}

/** Posts a message for later that is due. Runs again at the new time when it was rescheduled. */
async function postScheduledMessage(services: JobServices, job: TakenJob, id: ScheduledMessageId): Promise<Verdict> {
  const stream = scheduledStream(id);
  const cause = await causeOf(services, job, stream);
  const context = contextOf(job.client, cause, services.newId());
  const release = { type: "Release", at: services.now() } as const;
  const { state } = await services.commands.execute(scheduledMessageDecider, stream, release, context);
  if (state.status === "scheduled") return retryLater(state.data.sendAt);
  if (state.status === "due") await postScheduled(services, { id, client: job.client, ...cause });
  return DONE;
}
