// The sweep: what is owed is a query. It enqueues what is due and has no live job, whatever became of the jobs.
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
} from "../projections/models/owed.ts";
import type { OperatorRead } from "../projections/read-as.ts";
import type { ReadSide } from "../projections/read-side.ts";
import type { JobStore } from "./job-store.ts";
import { type Job, jobId, keyOf, type Work } from "./jobs.ts";

export const SWEEP_EVERY_MS = MINUTE_MS;
const PAGE = 500;
/** How long the sweep waits for the read model at once. */
const READ_WAIT_MS = 5 * SECOND_MS;
/** A job that a worker took longer ago than this does not count as live: that worker may have crashed. */
const ACTIVE_MS = MINUTE_MS;

type SweepParts = {
  readonly readSide: Pick<ReadSide, "operator" | "waitFor">;
  readonly jobs: JobStore;
  readonly logger: Logger;
  readonly now: () => Instant;
  /** What is due by then; may lie ahead, where jobs may have been lost: then each job waits for its moment. */
  readonly dueBefore: Instant;
};

type Owed = Pick<Job, "client" | "priority" | "work"> & { readonly at?: Instant | null };

/**
 * Enqueues what is due. Only once the read model has reached the reactors' checkpoint, else what has just been done
 * would look owed; false when it has not in time. Doing something twice is harmless: the streams decide.
 */
export async function sweep(parts: SweepParts, reactorsAt: Position, signal: AbortSignal): Promise<boolean> {
  if (!(await parts.readSide.waitFor(reactorsAt, READ_WAIT_MS))) return false;
  const operator = parts.readSide.operator();
  let found = 0;
  for (const pages of [releases, routes, stops, mails, deliveries]) {
    for await (const owed of pages(operator, parts.dueBefore)) {
      if (signal.aborted) return true;
      found += await enqueue(parts, owed);
    }
  }
  if (found > 0) parts.logger.info({ found }, "the sweep found work that had no job");
  return true;
}

async function enqueue({ jobs, now }: SweepParts, owed: readonly Owed[]): Promise<number> {
  const live = await jobs.liveKeys(
    owed.map(({ work }) => keyOf(work)),
    ACTIVE_MS,
  );
  const epoch = Math.floor(now() / SWEEP_EVERY_MS);
  const lost = owed.filter(({ work }) => !live.has(keyOf(work)));
  if (lost.length > 0) failpoint("sweep-found/enqueued");
  await jobs.add(
    lost.map((one): Job => ({ ...one, id: jobId(one.work, "sweep", epoch), cause: null, at: one.at ?? null })),
  );
  if (lost.length > 0) failpoint("sweep-enqueued/next-page");
  return lost.length;
}

async function* releases(operator: OperatorRead, due: Instant): AsyncGenerator<readonly Owed[]> {
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
): AsyncGenerator<readonly Owed[]> {
  for (let after: Position | null = null; ; ) {
    const rows: Awaited<ReturnType<typeof query>> = await query(operator, PAGE, after);
    const owed = rows.filter((row) => row.updated_at <= due);
    yield owed.map(({ id, client, priority }) => ({ client, priority, work: { kind, notification: id } }));
    after = rows.at(-1)?.position ?? null;
    if (rows.length < PAGE) return;
  }
}

async function* mails(operator: OperatorRead): AsyncGenerator<readonly Owed[]> {
  const rows = await missingMails(operator, PAGE);
  yield rows.map((row) => ({
    client: row.client,
    priority: row.priority,
    work: { kind: "mail", delivery: row.fallback_of },
  }));
}

async function* deliveries(operator: OperatorRead, due: Instant): AsyncGenerator<readonly Owed[]> {
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

/** What a delivery is due for: of its deadlines, the first. */
function nextOf(row: DeliveryRow): Work {
  if (row.channel !== "websocket") return { kind: "attempt", delivery: row.id, n: null };
  const fallsBack = row.fallback_at !== null && row.fallback_at <= row.expires_at;
  return { kind: fallsBack ? "fallback" : "expire", delivery: row.id };
}
