// The deadlines of WebSocket deliveries: falling back to a mail, at most one to an address, and expiring.
import { type Cursor, canonicalOrSame } from "../contract/fields.ts";
import type { ClientId, DeliveryId, Subject } from "../contract/ids.ts";
import type { Instant } from "../contract/time.ts";
import { deliveryStream, hasEnded, type KnownDelivery } from "../domain/delivery-state.ts";
import { reveal } from "../domain/event.ts";
import type { KnownNotification } from "../domain/notification.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { deriveUuid, fallbackMailId } from "../event-store/derived-ids.ts";
import { readDecoded } from "../event-store/handle-command.ts";
import { failpoint } from "../platform/failpoint.ts";
import { countOpen, openWebsocketDeliveries } from "../projections/models/delivery-list.ts";
import { awaitChoices, gatesOf } from "./gates.ts";
import {
  contextFor,
  contextOf,
  executeOnDelivery,
  type JobServices,
  loadDelivery,
  loadNotification,
  notificationOfRequest,
} from "./job-services.ts";
import { DONE, retryLater, type TakenJob, type Verdict } from "./jobs.ts";

/** The stream of a WebSocket delivery has few events: it ends with its first outcome, and a redrive adds two. */
const DELIVERY_READ = 200;
const OVERFLOW_PAGE = 100;

/** Falls back at the deadline. After an acknowledgement nothing is left to do. */
export async function fallBack(services: JobServices, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const state = await loadDelivery(services, id);
  if (state.status !== "pending" || state.fallbackAt === null) return DONE;
  // Read once: a clock that is set back between two readings would end this job without its work.
  const at = services.now();
  if (state.fallbackAt > at) return retryLater(state.fallbackAt);
  await requestFallback(services, job, state, { id, at, early: false });
  failpoint("fell-back/mail-job");
  return DONE;
}

/** Lets a delivery fall back to its mail. `early`: before its deadline. */
async function requestFallback(
  services: JobServices,
  job: TakenJob,
  { request }: KnownDelivery,
  { id, at, early }: { readonly id: DeliveryId; readonly at: Instant; readonly early: boolean },
): Promise<void> {
  const { recipient, name } = request;
  const notification = notificationOfRequest(request);
  const about = await loadNotification(services, notification);
  if (about.status === "none") throw new Error(`delivery ${id} has no notification`);
  const to = await addressOf(services, job.client, recipient, about);
  const ownName = about.data.fallback?.to === null ? reveal(name) : null;
  const mail = { ...to, id: fallbackMailId(notification, to.recipient), name: ownName };
  const command = { type: "FallbackDue", /* fence: fallback-clock */ at, early, mail } as const;
  await executeOnDelivery(services, id, command, await contextFor(services, job, deliveryStream(id)));
}

/** Where the mail goes: to the address that the notification names, else to the user's current one. */
async function addressOf(
  { keyring, commands }: JobServices,
  client: ClientId,
  user: Subject,
  { data }: KnownNotification,
): Promise<{ recipient: Subject; address: string | null }> {
  const named = data.fallback?.to ?? null;
  if (named !== null) return { recipient: named.subject, address: reveal(named.address) };
  const { state } = await commands.load(userDecider, userStream(user));
  const email = state.status === "registered" ? reveal(state.profile.email) : null;
  if (email === null) return { recipient: user, address: null };
  // By its canonical spelling, as elsewhere: two spellings of one mailbox share one mail.
  const subject = await keyring.subjectOfAddress(client, canonicalOrSame(email));
  return { recipient: subject, address: email };
}

/** The event of a delivery's last fallback. Undefined when it did not fall back. */
export async function fallbackEventOf(services: JobServices, id: DeliveryId) {
  const events = await readDecoded(services, deliveryStream(id), { direction: "backward", limit: DELIVERY_READ });
  return events.find((event) => event.type === "DeliveryFallbackRequested");
}

/**
 * Requests the mail of a delivery that fell back. Another delivery may have requested the same mail before. After a stop
 * it requests none. A mail that is requested while the stop comes is cancelled before its first attempt.
 */
export async function requestFallbackMail(services: JobServices, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const event = await fallbackEventOf(services, id);
  const state = await loadDelivery(services, id);
  if (event === undefined || state.status === "none") return DONE;
  const { mail, mailRecipient, address, name } = event.data;
  const notification = notificationOfRequest(event.data);
  const about = await loadNotification(services, notification);
  if (about.status === "none" || about.stopRequested) return DONE;
  const request = {
    notification,
    recipient: mailRecipient,
    channel: "email",
    // Null when it was erased meanwhile.
    address: address !== null && "open" in address ? address : null,
    name: name !== null && "open" in name ? name : null,
    fallbackOf: id,
    priority: state.request.priority,
    bulk: state.request.bulk,
    expiresAt: state.expiresAt,
    fallbackAt: null,
  } as const;
  const cause = { correlation: event.meta.correlation, causation: event.id };
  // A throttle has counted the notification already.
  const notified = { ...about, data: { ...about.data, throttle: null } };
  const person = { subject: mailRecipient, address: reveal(request.address), user: state.request.recipient };
  await awaitChoices(services, notification, "email", about.data.priority);
  const scope = { notification: notified, channel: "email", cause } as const;
  const gate = (await gatesOf(services, job, scope, [{ ...person, delivery: mail }])).get(mailRecipient) ?? null;
  const context = contextOf(job.client, cause, deriveUuid("request", mail));
  await executeOnDelivery(services, mail, { type: "Request", at: services.now(), request, gate }, context);
  failpoint("mail-requested/job-done");
  return DONE;
}

/** Ends a delivery that a newer one has replaced, unless it is being sent: then its next attempt ends it. */
export async function replaceDelivery(services: JobServices, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const state = await loadDelivery(services, id);
  // Who is about to request it finds that it was replaced.
  if (state.status === "none" || hasEnded(state.status)) return DONE;
  const command = { type: "Withhold", at: services.now(), gate: { suppress: "collapsed" } } as const;
  await executeOnDelivery(services, id, command, await contextFor(services, job, deliveryStream(id)));
  return DONE;
}

/** Expires a delivery. Runs again when its expiry was moved. */
export async function expireDelivery(services: JobServices, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const state = await loadDelivery(services, id);
  if (state.status === "none" || hasEnded(state.status) || state.status === "sending") return DONE;
  // Read once: a clock that is set back between two readings would end this job without its work.
  const at = services.now();
  if (state.expiresAt > at) return retryLater(state.expiresAt);
  await expire(services, job, id, { at, reason: "expired" });
  failpoint("expired/job-done");
  return DONE;
}

/** Lets a delivery that was held go on. Runs again when it is held for longer. */
export async function endHold(services: JobServices, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const state = await loadDelivery(services, id);
  if (state.status === "none" || hasEnded(state.status) || state.heldUntil === null) return DONE;
  // Read once: a clock that is set back between two readings would end this job without its work.
  const at = services.now();
  if (state.heldUntil > at) return retryLater(state.heldUntil);
  await executeOnDelivery(services, id, { type: "EndHold", at }, await contextFor(services, job, deliveryStream(id)));
  return DONE;
}

/**
 * Ends a user's oldest pending deliveries beyond the limit, as far as the read model has them: one with a fallback falls
 * back, the others expire.
 */
export async function expireOverflow(services: JobServices, job: TakenJob, recipient: Subject): Promise<Verdict> {
  const { readSide, maxOpenDeliveries, now } = services;
  const read = readSide.readAs(job.client);
  let surplus = (await countOpen(read, recipient)) - maxOpenDeliveries;
  for (let cursor: Cursor | undefined; surplus > 0; ) {
    const page: Awaited<ReturnType<typeof openWebsocketDeliveries>> = await openWebsocketDeliveries(read, recipient, {
      ...{ now: now(), limit: OVERFLOW_PAGE },
      ...(cursor === undefined ? {} : { cursor }),
    });
    const oldest = page.rows.filter((row) => row.status === "pending").slice(0, surplus);
    await Promise.all(oldest.map((row) => endEarly(services, job, row.id)));
    surplus -= oldest.length;
    if (page.next === null) break;
    cursor = page.next;
  }
  return DONE;
}

async function endEarly(services: JobServices, job: TakenJob, id: DeliveryId): Promise<void> {
  const state = await loadDelivery(services, id);
  const at = services.now();
  // fence: overflow-falls-back
  if (state.status === "pending" && state.fallbackAt !== null) {
    return requestFallback(services, job, state, { id, at, early: true });
  }
  await expire(services, job, id, { at, reason: "too_many_open" });
}

async function expire(
  services: JobServices,
  job: TakenJob,
  id: DeliveryId,
  why: { readonly at: Instant; readonly reason: "expired" | "too_many_open" },
): Promise<void> {
  const context = await contextFor(services, job, deliveryStream(id));
  await executeOnDelivery(services, id, { type: "Expire", ...why }, context);
}
