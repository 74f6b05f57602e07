// Before a delivery is requested, and again before an attempt: what stands against it now.
import { type Addressee, choiceGates, collapseGate, keyedGate } from "../app/delivery-gates.ts";
import type { Channel } from "../contract/deliveries.ts";
import type { DeliveryId, NotificationId, Subject } from "../contract/ids.ts";
import { MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import type { Gate } from "../domain/delivery.ts";
import type { KnownDelivery } from "../domain/delivery-state.ts";
import { reveal } from "../domain/event.ts";
import { type KnownNotification, notificationDecider, notificationStream } from "../domain/notification.ts";
import { mapBounded } from "../platform/bounded.ts";
import { failpoint } from "../platform/failpoint.ts";
import { contextOf, type JobServices, loadDelivery } from "./job-services.ts";
import type { Cause, TakenJob } from "./jobs.ts";

/** How long a job waits for the read model, which knows what people chose before the notification was accepted. */
const READ_WAIT_MS = 5 * SECOND_MS;
const DECISIONS_AT_ONCE = 50;
/** How old what was decided may be when an attempt starts: after a hold, a retry or a redrive it is decided anew. */
const FRESH_MS = MINUTE_MS;

/** A delivery that is about to be requested. */
type Candidate = Addressee & { readonly delivery: DeliveryId };

/**
 * What stands against deliveries of a released notification, by the subject of the recipient. Preferences first: what
 * nobody wants uses up no throttle and replaces nothing. Rests on what `awaitChoices` waited for.
 */
export async function gatesOf(
  services: JobServices,
  job: TakenJob,
  { notification, channel, cause }: About,
  candidates: readonly Candidate[],
): Promise<ReadonlyMap<Subject, Gate>> {
  const { commands, readSide, now } = services;
  const { category, priority, collapse, throttle } = notification.data;
  const chosen = { channel, category, priority };
  const gates = new Map(await choiceGates(readSide.readAs(job.client), chosen, candidates, now()));
  if (collapse === null && throttle === null) return gates;
  const releasedAt = notification.releasedAt ?? notification.createdAt;
  const keyed = candidates.filter(({ subject }) => !suppresses(gates.get(subject)));
  await mapBounded(keyed, DECISIONS_AT_ONCE, async ({ subject, delivery }) => {
    const about = { client: job.client, delivery, recipient: subject, releasedAt, at: now(), collapse, throttle };
    const gate = await keyedGate(commands, about, (commandId) => contextOf(job.client, cause, commandId));
    failpoint("gate-decided/requested");
    if (gate !== null) gates.set(subject, gate);
  });
  return gates;
}
type About = {
  readonly notification: KnownNotification;
  readonly channel: Channel;
  readonly cause: Cause;
};

const suppresses = (gate: Gate | undefined): boolean => gate !== undefined && gate !== null && "suppress" in gate;

/**
 * Waits until the read model has what people chose before the notification was released; where their choices count. Throws
 * when the read model is behind: the job runs again.
 */
export async function awaitChoices(
  { commands, readSide }: JobServices,
  id: NotificationId,
  channel: Channel,
  priority: KnownNotification["data"]["priority"],
): Promise<void> {
  if (channel === "webhook" || priority === "critical") return;
  const { position } = await commands.load(notificationDecider, notificationStream(id));
  if (position !== null && !(await readSide.waitFor(position, READ_WAIT_MS)))
    throw new Error("the read model does not know yet what people chose");
}

/**
 * What stands against an attempt, where it was decided a while ago. A throttle has counted the delivery, and is not asked
 * again.
 */
export async function gateOfAttempt(
  services: JobServices,
  job: TakenJob,
  id: DeliveryId,
  { delivery, notification }: { readonly delivery: KnownDelivery; readonly notification: KnownNotification },
): Promise<Gate> {
  const { commands, readSide, now } = services;
  const { request } = delivery;
  const { category, collapse, throttle, recipients } = notification.data;
  const { channel, priority, recipient } = request;
  const at = now();
  if (collapse !== null) {
    const releasedAt = notification.releasedAt ?? notification.createdAt;
    const keyed = { client: job.client, delivery: id, recipient, releasedAt, at, collapse, throttle };
    const gate = await collapseGate(commands, keyed, null);
    if (gate !== null) return gate;
  }
  if (at - delivery.requestedAt < FRESH_MS) return null;
  const named = recipients.find((one) => one.subject === recipient)?.user ?? null;
  const user = request.fallbackOf === null ? named : await recipientOf(services, request.fallbackOf);
  const person = { subject: recipient, address: reveal(request.address), user };
  const read = readSide.readAs(job.client);
  return (await choiceGates(read, { channel, category, priority }, [person], at)).get(recipient) ?? null;
}

/** The user whose WebSocket delivery a mail stands in for. */
async function recipientOf(services: JobServices, id: DeliveryId): Promise<Subject | null> {
  const state = await loadDelivery(services, id);
  return state.status === "none" ? null : state.request.recipient;
}
