// The sweep: unfinished work is a query. It enqueues what is due, whatever became of the jobs.
import type { Logger } from "pino";
import { type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import type { Position } from "../event-store/event-store.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { DeliveryRow } from "../projections/models/deliveries.ts";
import {
  dueDeliveries,
  dueNotifications,
  missingMails,
  stoppingNotifications,
  unroutedNotifications,
} from "../projections/models/due-work.ts";
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

type DueWork = Pick<Job, "client" | "priority" | "work" | "at">;

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
  for (const pages of [releases, routes, stops, mails, deliveries]) {
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

async function* releases(operator: OperatorRead, due: Instant): AsyncGenerator<readonly DueWork[]> {
  for (let rows = await dueNotifications(operator, due, PAGE); ; ) {
    yield rows.map((row) => ({
      ...{ client: row.client, priority: row.priority, at: row.send_at },
      work: { kind: "release", notification: row.id },
    }));
    const last = rows.at(-1);
    if (rows.length < PAGE || last?.send_at == null) return;
    rows = await dueNotifications(operator, due, PAGE, { at: last.send_at, id: last.id });
  }
}

const routes = (operator: OperatorRead, due: Instant) => byPosition(operator, unroutedNotifications, "route", due);
const stops = (operator: OperatorRead, due: Instant) => byPosition(operator, stoppingNotifications, "stop", due);

async function* byPosition(
  operator: OperatorRead,
  query: typeof unroutedNotifications,
  kind: "route" | "stop",
  due: Instant,
): AsyncGenerator<readonly DueWork[]> {
  for (let after: Position | null = null; ; ) {
    const rows: Awaited<ReturnType<typeof query>> = await query(operator, PAGE, after);
    const found = rows.filter((row) => row.updated_at <= due);
    yield found.map(({ id, client, priority }) => ({ client, priority, at: null, work: { kind, notification: id } }));
    after = rows.at(-1)?.position ?? null;
    if (rows.length < PAGE) return;
  }
}

async function* mails(operator: OperatorRead): AsyncGenerator<readonly DueWork[]> {
  const rows = await missingMails(operator, PAGE);
  yield rows.map(({ client, priority, fallback_of: delivery }) => ({
    ...{ client, priority, at: null },
    work: { kind: "mail", delivery },
  }));
}

async function* deliveries(operator: OperatorRead, due: Instant): AsyncGenerator<readonly DueWork[]> {
  for (let rows = await dueDeliveries(operator, due, PAGE); ; ) {
    yield rows.map((row) => ({
      ...{ client: row.client, priority: row.priority, at: row.next_action_at },
      work: nextOf(row),
    }));
    const last = rows.at(-1);
    if (rows.length < PAGE || last?.next_action_at == null) return;
    rows = await dueDeliveries(operator, due, PAGE, { at: last.next_action_at, id: last.id });
  }
}

/** What a delivery is due for: its attempt, or the first of its deadlines. */
function nextOf(row: DeliveryRow): Work {
  if (row.channel !== "websocket") return { kind: "attempt", delivery: row.id, n: row.n };
  const fallsBack = row.fallback_at !== null && row.fallback_at <= row.expires_at;
  return { kind: fallsBack ? "fallback" : "expire", delivery: row.id };
}
