// What each kind of job does.
import { attemptDelivery } from "./attempts.ts";
import { endHold, expireDelivery, expireOverflow, fallBack, replaceDelivery, requestFallbackMail } from "./fallback.ts";
import { acknowledgeInbox } from "./inbox.ts";
import type { JobServices } from "./job-services.ts";
import type { TakenJob, Verdict } from "./jobs.ts";
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
    case "redrive":
      return redriveDeliveries(services, job, work.redrive, signal);
  }
}
