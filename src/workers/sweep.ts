// The sweep: unfinished work is a query. It enqueues what is due, whatever became of the jobs.
import type { Logger } from "pino";
import { type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import type { Position } from "../event-store/event-store.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { DeliveryRow } from "../projections/models/deliveries.ts";
import {
  dueDeliveries,
  dueNotifications,
  erasingNotifications,
  type MissingMail,
  missingMails,
  stoppingNotifications,
  unroutedNotifications,
} from "../projections/models/due-work.ts";
import { unacknowledgedMarks } from "../projections/models/inbox.ts";
import type { NotificationRow } from "../projections/models/notifications.ts";
import { type RedriveRow, runningRedrives } from "../projections/models/redrives.ts";
import { dueScheduled, type ScheduledMessageRow } from "../projections/models/scheduled-messages.ts";
import type { OperatorRead } from "../projections/read-as.ts";
import type { ReadSide } from "../projections/read-side.ts";
import { createJob, type Job, type Work } from "./jobs.ts";
import type { JobQueue } from "./queue.ts";

export const SWEEP_EVERY_MS = MINUTE_MS;
const PAGE = 500;
/** How long the sweep waits for the read model. */
const READ_WAIT_MS = 5 * SECOND_MS;

type SweepOptions = {
  readonly readSide: ReadSide;
  readonly jobs: JobQueue;
  readonly logger: Logger;
  readonly now: () => Instant;
  /** Enqueues what is due by then. When that is in the future, each job waits for its own time. */
  readonly dueBefore: Instant;
};

type DueWork = Pick<Job, "client" | "priority" | "work" | "at"> & Partial<Pick<Job, "endpoint">>;

/**
 * Enqueues what is due. The queue refuses work that waits there already. Doing work twice is harmless: the streams
 * decide. False when the read model does not reach the reactors' checkpoint in time, since finished work would look due.
 */
export async function sweep(options: SweepOptions, reactorsAt: Position, signal: AbortSignal): Promise<boolean> {
  const { readSide, jobs, logger, now, dueBefore } = options;
  if (!(await readSide.waitFor(reactorsAt, READ_WAIT_MS))) return false;
  const operator = readSide.operator();
  const epoch = Math.floor(now() / SWEEP_EVERY_MS);
  let found = 0;
  for (const pages of [releases, posts, routes, stops, erasures, mails, deliveries, redrives, marks]) {
    for await (const due of pages(operator, dueBefore)) {
      if (signal.aborted) return true;
      if (due.length === 0) continue;
      failpoint("sweep-found/enqueued");
      found += await jobs.add(due.map((one) => createJob({ ...one, cause: null }, "sweep", epoch)));
      failpoint("sweep-enqueued/next-page");
    }
  }
  if (found > 0) logger.info({ found }, "sweep: enqueued due work that had no waiting job");
  return true;
}

/** Reads page after page. `query` continues after the last row of the page before. */
async function* pagesOf<R>(
  query: (last: R | undefined) => Promise<readonly R[]>,
  workOf: (row: R) => DueWork | undefined,
): AsyncGenerator<readonly DueWork[]> {
  let last: R | undefined;
  do {
    const rows: readonly R[] = await query(last);
    yield rows.map(workOf).filter((work) => work !== undefined);
    last = rows.length < PAGE ? undefined : rows.at(-1);
  } while (last !== undefined);
}

const releases = (operator: OperatorRead, due: Instant) =>
  pagesOf<NotificationRow>(
    (last) => dueNotifications(operator, due, PAGE, last && { at: last.send_at ?? due, id: last.id }),
    ({ id, client, priority, send_at: at }) => ({ client, priority, at, work: { kind: "release", notification: id } }),
  );

const posts = (operator: OperatorRead, due: Instant) =>
  pagesOf<ScheduledMessageRow>(
    (last) => dueScheduled(operator, due, PAGE, last && { at: last.next_action_at ?? due, id: last.id }),
    ({ id, client, next_action_at: at }) => ({ client, priority: "normal", at, work: { kind: "post", scheduled: id } }),
  );

const byPosition =
  (query: typeof unroutedNotifications, kind: "route" | "stop" | "erase") => (operator: OperatorRead, due: Instant) =>
    pagesOf<NotificationRow>(
      (last) => query(operator, PAGE, last?.position),
      ({ id, client, priority, updated_at }) =>
        updated_at <= due ? { client, priority, at: null, work: { kind, notification: id } } : undefined,
    );
const routes = byPosition(unroutedNotifications, "route");
const stops = byPosition(stoppingNotifications, "stop");
const erasures = byPosition(erasingNotifications, "erase");

/** The first page alone: a mail that was requested is missing no more. */
const mails = (operator: OperatorRead) =>
  pagesOf<MissingMail>(
    async (last) => (last === undefined ? missingMails(operator, PAGE) : []),
    ({ client, priority, fallback_of: delivery }) => ({ client, priority, at: null, work: { kind: "mail", delivery } }),
  );

const deliveries = (operator: OperatorRead, due: Instant) =>
  pagesOf<DeliveryRow>(
    (last) => dueDeliveries(operator, due, PAGE, last && { at: last.next_action_at ?? due, id: last.id }),
    (row) => {
      const { client, endpoint_id: endpoint, priority, next_action_at: at } = row;
      return { client, endpoint, priority, at, work: nextOf(row) };
    },
  );

const redrives = (operator: OperatorRead, due: Instant) =>
  pagesOf<RedriveRow>(
    (last) => runningRedrives(operator, PAGE, last?.position),
    ({ id, client, updated_at }) =>
      updated_at <= due ? { client, priority: "normal", at: null, work: { kind: "redrive", redrive: id } } : undefined,
  );

const marks = (operator: OperatorRead, due: Instant) =>
  pagesOf<Awaited<ReturnType<typeof unacknowledgedMarks>>[number]>(
    (last) => unacknowledgedMarks(operator, PAGE, last?.position),
    ({ client, subject, revision, at }) => {
      const work = { kind: "acknowledge", recipient: subject, mark: revision } as const;
      return at <= due ? { client, priority: "normal", at: null, work } : undefined;
    },
  );

/** What a delivery is due for: its attempt, or the first of its deadlines. */
function nextOf(row: DeliveryRow): Work {
  if (row.channel !== "websocket") return { kind: "attempt", delivery: row.id, n: row.n };
  if (row.held_until !== null && row.held_until <= row.expires_at) return { kind: "endHold", delivery: row.id };
  const fallsBack = row.fallback_at !== null && row.fallback_at <= row.expires_at;
  return { kind: fallsBack ? "fallback" : "expire", delivery: row.id };
}
