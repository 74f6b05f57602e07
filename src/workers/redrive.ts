// Redrives: the deliveries of a page start again, then the next page is selected; after a crash its page is done again.
import { redriveGate } from "../app/delivery-gates.ts";
import { positionOf } from "../app/notification-views.ts";
import type { DeliveryId, RedriveId } from "../contract/ids.ts";
import { SECOND_MS } from "../contract/time.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { type Redrive, redriveDecider, redriveStream } from "../domain/redrive.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import { mapBounded } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { nextRedrivable } from "../projections/models/delivery-list.ts";
import { causeOf, contextOf, executeOnDelivery, type JobServices } from "./job-services.ts";
import { type Cause, DONE, retryLater, type TakenJob, type Verdict } from "./jobs.ts";

/** Deliveries of a page; they are named in one event. */
const PAGE = 200;
const COMMANDS_AT_ONCE = 16;
/** How long a job goes on before it lets others of its client have its place. */
const RUN_MS = 2 * SECOND_MS;

type Running = Extract<Redrive, { status: "running" | "done" }>;

/** Goes on with a redrive for a while. Runs again until it is over. */
export async function redriveDeliveries(
  services: JobServices,
  job: TakenJob,
  id: RedriveId,
  signal: AbortSignal,
): Promise<Verdict> {
  const { commands, now } = services;
  const stream = redriveStream(id);
  const cause = await causeOf(services, job, stream);
  const until = now() + RUN_MS;
  let { state } = await commands.load(redriveDecider, stream);
  while (state.status === "running") {
    if (signal.aborted || now() >= until) return retryLater(now());
    const begin = (delivery: DeliveryId) => redrive(services, job, { id, delivery, cause });
    await mapBounded(state.deliveries, COMMANDS_AT_ONCE, begin);
    failpoint("page-redriven/next-page");
    const deliveries = await nextPage(services, job, id, state);
    const command = { type: "SelectPage", at: now(), page: state.page, deliveries } as const;
    const context = contextOf(job.client, cause, deriveUuid("redrive page", id, state.page));
    state = (await commands.execute(redriveDecider, stream, command, context)).state;
  }
  return DONE;
}

/** Starts a delivery again, once for this redrive: done again after a crash, it finds the command under its id. */
async function redrive(
  services: JobServices,
  job: TakenJob,
  { id, delivery, cause }: { readonly id: RedriveId; readonly delivery: DeliveryId; readonly cause: Cause },
): Promise<void> {
  const context = contextOf(job.client, cause, deriveUuid("redrive", id, delivery));
  const once = { ...context, /* fence: redrive-once */ fingerprint: id };
  const at = services.now();
  const gate = await redriveGate(services.commands, services.readSide.readAs(job.client), delivery, at);
  await executeOnDelivery(services, delivery, { type: "Redrive", at, gate }, once);
}

/** The ones after the page, no more together than matched at the request. */
async function nextPage(
  services: JobServices,
  job: TakenJob,
  id: RedriveId,
  state: Running,
): Promise<readonly DeliveryId[]> {
  const left = state.matched - state.done - state.deliveries.length;
  if (left <= 0) return [];
  const last = state.deliveries.at(-1);
  const [upTo, after] = await Promise.all([
    positionOf(services, redriveStream(id), 0),
    last === undefined ? null : positionOf(services, deliveryStream(last), 0),
  ]);
  const range = { upTo, after, limit: Math.min(PAGE, left) };
  const rows = await nextRedrivable(services.readSide.readAs(job.client), state.filter, range);
  return rows.map((row) => row.id);
}
