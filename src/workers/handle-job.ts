// What each kind of job does.

import { postScheduled } from "../app/scheduled-messages.ts";
import type { Cursor } from "../contract/fields.ts";
import type { ScheduledMessageId } from "../contract/ids.ts";
import { inboxDecider, inboxStream } from "../domain/inbox.ts";
import { scheduledMessageDecider, scheduledStream } from "../domain/scheduled-message.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import { readDecoded } from "../event-store/handle-command.ts";
import { mapBounded } from "../platform/bounded.ts";
import { openWebsocketDeliveries } from "../projections/models/delivery-list.ts";
import { attemptDelivery } from "./attempts.ts";
import { endHold, expireDelivery, expireOverflow, fallBack, replaceDelivery, requestFallbackMail } from "./fallback.ts";
import { causeOf, contextOf, executeOnDelivery, type JobServices } from "./job-services.ts";
import { DONE, retryLater, type TakenJob, type Verdict, type Work } from "./jobs.ts";
import { redriveDeliveries } from "./redrive.ts";
import { eraseDeliveries, releaseNotification, routeNotification, stopNotification } from "./routing.ts";

// What a mark on a user's whole inbox read is acknowledged: no fallback mail follows, and nothing of it is pushed again.

const PAGE = 100;
const COMMANDS_AT_ONCE = 16;
/** How long the read model is waited for, which knows what is open. */
const READ_WAIT_MS = 5_000;

/** Acknowledges what was open when the mark was made. Done again, it finds what is left. */
async function acknowledgeInbox(
  services: JobServices,
  job: TakenJob,
  { recipient: subject, mark: revision }: Extract<Work, { kind: "acknowledge" }>,
): Promise<Verdict> {
  const { commands, readSide, now } = services;
  const stream = inboxStream(subject);
  const [mark] = await readDecoded(services, stream, { from: revision, limit: 1 });
  if (mark?.type !== "InboxMarked") return DONE;
  if (!(await readSide.waitFor(mark.position, READ_WAIT_MS))) return retryLater(now());
  const cause = { correlation: mark.meta.correlation, causation: mark.id };
  const { beforeAt } = mark.data;
  for (let cursor: Cursor | null | undefined; cursor !== null; ) {
    const range = { now: now(), limit: PAGE, ...(cursor === undefined ? {} : { cursor }) };
    const page: Awaited<ReturnType<typeof openWebsocketDeliveries>> = await openWebsocketDeliveries(
      ...([readSide.readAs(job.client), subject, range] as const),
    );
    const read = page.rows.filter(
      ({ position, requested_at }) => position < mark.position && (beforeAt === null || requested_at < beforeAt),
    );
    await mapBounded(read, COMMANDS_AT_ONCE, ({ id }) =>
      executeOnDelivery(
        services,
        id,
        { type: "Acknowledge", at: now(), subject },
        contextOf(job.client, cause, deriveUuid("read", mark.id, id)),
      ),
    );
    cursor = page.next;
  }
  const command = { type: "MarkAcknowledged", at: now(), mark: revision } as const;
  const context = contextOf(job.client, cause, deriveUuid("acknowledged", mark.id));
  await commands.execute(inboxDecider, stream, command, context);
  return DONE;
}

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
