// Which handler does which work.
import { attemptDelivery } from "./attempt-delivery.ts";
import { expireDelivery, expireOverflow } from "./expire-delivery.ts";
import { fallBack, makeFallbackMail } from "./fallback.ts";
import type { TakenJob } from "./job-store.ts";
import type { AttemptParts } from "./parts.ts";
import { releaseNotification, routeNotification, stopNotification } from "./route-notification.ts";
import type { Verdict } from "./worker.ts";

type JobParts = AttemptParts & { readonly maxOpenDeliveries: number };

/** Does a job. Throws when it could not; it then comes again. */
export function handleJob(parts: JobParts, job: TakenJob, signal: AbortSignal): Promise<Verdict> {
  const { work } = job;
  switch (work.kind) {
    case "release":
      return releaseNotification(parts, job, work.notification);
    case "route":
      return routeNotification(parts, job, work.notification, signal);
    case "stop":
      return stopNotification(parts, job, work.notification, signal);
    case "attempt":
      return attemptDelivery(parts, job, work, signal);
    case "fallback":
      return fallBack(parts, job, work.delivery);
    case "mail":
      return makeFallbackMail(parts, job, work.delivery);
    case "expire":
      return expireDelivery(parts, job, work.delivery);
    case "overflow":
      return expireOverflow(parts, job, work.recipient, parts.maxOpenDeliveries);
  }
}
