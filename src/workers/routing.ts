// From a notification to its deliveries: released at its time, routed in pages, stopped on request.

import type { ClientId, DeliveryId, NotificationId, RoomId, Subject } from "../contract/ids.ts";
import { SECOND_MS } from "../contract/time.ts";
import { DomainError } from "../domain/decider.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import { deliveryStream } from "../domain/delivery-state.ts";
import { reveal, type Sealed, seal } from "../domain/event.ts";
import {
  type KnownNotification,
  type NotificationData,
  notificationDecider,
  notificationStream,
  type Recipient,
} from "../domain/notification.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { deliveryId, deriveUuid } from "../event-store/derived-ids.ts";
import { decode } from "../event-store/envelope.ts";
import { failpoint } from "../platform/failpoint.ts";
import { userIdsOf } from "../projections/models/users.ts";
import { wasRedriven } from "./attempts.ts";
import { fallbackEventOf } from "./fallback.ts";
import { awaitChoices, gatesOf } from "./gates.ts";
import {
  causeOf,
  contextFor,
  contextOf,
  executeOnDelivery,
  type JobServices,
  loadNotification,
} from "./job-services.ts";
import { type Cause, DONE, retryLater, type TakenJob, type Verdict } from "./jobs.ts";

/** How many deliveries are requested at once. */
const PAGE = 100;
const ROOM_READ_PAGE = 1_000;

/** Releases a scheduled notification. Runs again at the new time when it was rescheduled. */
export async function releaseNotification(services: JobServices, job: TakenJob, id: NotificationId): Promise<Verdict> {
  const stream = notificationStream(id);
  const context = await contextFor(services, job, stream);
  const release = { type: "Release", at: services.now() } as const;
  const { state } = await services.commands.execute(notificationDecider, stream, release, context);
  failpoint("released/job-done");
  const due = state.status === "scheduled" ? state.data.sendAt : null;
  return due === null ? DONE : retryLater(due);
}

/**
 * Requests every delivery, then marks the notification as routed. Starts over after a crash: what was requested stays as
 * it is. After a stop it requests no more and cancels what it requested: the stop's own job may have run before.
 */
export async function routeNotification(
  services: JobServices,
  job: TakenJob,
  id: NotificationId,
  signal: AbortSignal,
): Promise<Verdict> {
  const { commands, now } = services;
  const stream = notificationStream(id);
  let state = await loadNotification(services, id);
  if (state.status !== "released" || state.routed) return DONE;
  const cause = await causeOf(services, job, stream);
  await awaitChoices(services, id, state.data.channel, state.data.priority);
  const requested: DeliveryId[] = [];
  for await (const page of audienceOf(services, job.client, state.data)) {
    if (signal.aborted) return retryLater(now());
    if (state.stopRequested) break;
    const common = requestOf(id, state);
    const deliveryTo = (subject: Subject) => deliveryId(id, subject, common.channel);
    const candidates = page.map(({ subject, address, user }) => ({
      ...{ delivery: deliveryTo(subject), subject, address: reveal(address), user },
    }));
    const gates = await gatesOf(services, job, { notification: state, channel: common.channel, cause }, candidates);
    const request = async ({ subject, address, name }: Recipient) => {
      const delivery = deliveryTo(subject);
      const to = { recipient: subject, address: "open" in address ? address : null, name };
      const gate = gates.get(subject) ?? null;
      const command = { type: "Request", at: now(), request: { ...common, ...to }, gate } as const;
      const context = contextOf(job.client, cause, deriveUuid("request", delivery));
      await commands.execute(deliveryDecider, deliveryStream(delivery), command, context, { newStream: true });
      return delivery;
    };
    requested.push(...(await Promise.all(page.map(request))));
    failpoint("page-requested/next-page");
    state = await loadNotification(services, id);
    if (state.status !== "released") return DONE;
  }
  if (state.stopRequested) await cancelAll(services, job.client, cause, requested);
  failpoint("all-requested/routed");
  const routed = { type: "MarkRouted", at: now(), deliveries: requested.length } as const;
  await commands.execute(notificationDecider, stream, routed, contextOf(job.client, cause, deriveUuid("routed", id)));
  failpoint("routed/job-done");
  return DONE;
}

/** What all deliveries of a notification have in common. */
function requestOf(notification: NotificationId, { data, releasedAt, updatedAt }: KnownNotification) {
  const { channel, priority, expiresAt, fallback } = data;
  const bulk = data.audience !== null || data.recipients.length > 1;
  const acceptedAt = releasedAt ?? updatedAt;
  const fallbackAt = channel === "websocket" && fallback !== null ? acceptedAt + fallback.afterMs : null;
  return { notification, channel, fallbackOf: null, priority, bulk, expiresAt, fallbackAt };
}

/**
 * Passes a stop to every delivery, and to the mails that they fell back to. In a job of the sweep, deliveries that were
 * redriven after the stop go on.
 */
export async function stopNotification(
  services: JobServices,
  job: TakenJob,
  id: NotificationId,
  signal: AbortSignal,
): Promise<Verdict> {
  const state = await loadNotification(services, id);
  if (state.status !== "released" || !state.stopRequested) return DONE;
  const cause = await causeOf(services, job, notificationStream(id));
  const cancel = async (ids: readonly DeliveryId[]) => {
    const redriven = job.cause === null ? await Promise.all(ids.map((one) => wasRedriven(services, one))) : [];
    const stopped = ids.filter((_, index) => redriven[index] !== true);
    await cancelAll(services, job.client, cause, stopped);
  };
  for await (const deliveries of deliveryPagesOf(services, id, state.data)) {
    if (signal.aborted) return retryLater(services.now());
    await cancel(deliveries);
    failpoint("page-stopped/next-page");
    await cancel(await mailsOf(services, state.data, deliveries));
  }
  return DONE;
}

/** The ids of a notification's deliveries in pages, the mails of fallbacks apart. */
async function* deliveryPagesOf(
  services: JobServices,
  id: NotificationId,
  { channel, recipients, audience }: NotificationData,
): AsyncGenerator<readonly DeliveryId[]> {
  const subjects =
    audience === null
      ? recipients.map(({ subject }) => subject)
      : await membersAt(services, audience.roomId, audience.atSeq);
  for (const page of pagesOf(subjects)) yield page.map((subject) => deliveryId(id, subject, channel));
}

/** The mails that these deliveries fell back to. */
async function mailsOf(services: JobServices, { channel, fallback }: NotificationData, ids: readonly DeliveryId[]) {
  if (channel !== "websocket" || fallback === null) return [];
  const events = await Promise.all(ids.map((id) => fallbackEventOf(services, id)));
  return [...new Set(events.flatMap((event) => (event === undefined ? [] : [event.data.mail])))];
}

/** How soon deliveries are looked at again that have not ended, or are not all made. */
const ERASE_AGAIN_MS = SECOND_MS;

/** Erases what each delivery of a deleted notification says of its recipient, once it has ended; the mails of fallbacks too. */
export async function eraseDeliveries(
  services: JobServices,
  job: TakenJob,
  id: NotificationId,
  signal: AbortSignal,
): Promise<Verdict> {
  const state = await loadNotification(services, id);
  if (state.status === "none" || !state.deleted) return DONE;
  const cause = await causeOf(services, job, notificationStream(id));
  let complete = state.status === "cancelled" || state.routed;
  const erase = async (delivery: DeliveryId) => {
    const context = contextOf(job.client, cause, deriveUuid("erase", delivery));
    const command = { type: "Erase", at: services.now() } as const;
    const outcome = await executeOnDelivery(services, delivery, command, context).catch(neverRequested);
    complete &&= outcome === undefined || outcome.state.status === "none" || outcome.state.erased;
  };
  for await (const deliveries of deliveryPagesOf(services, id, state.data)) {
    if (signal.aborted) return retryLater(services.now());
    await Promise.all(deliveries.map(erase));
    await Promise.all((await mailsOf(services, state.data, deliveries)).map(erase));
  }
  return complete ? DONE : retryLater(services.now() + ERASE_AGAIN_MS);
}

/** Nothing of a delivery that was never requested. Whoever is requesting it sees the stop. */
function neverRequested(error: unknown): undefined {
  if (!(error instanceof DomainError && error.code === "not_found")) throw error;
}

async function cancelAll(services: JobServices, client: ClientId, cause: Cause, ids: readonly DeliveryId[]) {
  const cancel = async (id: DeliveryId) => {
    const context = contextOf(client, cause, services.newId());
    await executeOnDelivery(services, id, { type: "Cancel", at: services.now() }, context).catch(neverRequested);
  };
  for (const page of pagesOf(ids)) await Promise.all(page.map(cancel));
}

function* pagesOf<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let from = 0; from < items.length; from += PAGE) yield items.slice(from, from + PAGE);
}

/** The recipients of a notification in pages: its own, or the members that a room had at a seq. The order is stable. */
async function* audienceOf(
  services: JobServices,
  client: ClientId,
  { recipients, audience }: NotificationData,
): AsyncGenerator<readonly Recipient[]> {
  if (audience === null) return yield* pagesOf(recipients);
  const { roomId, atSeq } = audience;
  let fromRoom: Promise<ReadonlyMap<Subject, Sealed<string>>> | undefined;
  for (const page of pagesOf(await membersAt(services, roomId, atSeq))) {
    yield withAddresses(services, client, page, () => {
      fromRoom ??= userIdsOfRoom(services, roomId, atSeq);
      return fromRoom;
    });
  }
}

async function membersAt({ commands }: JobServices, room: RoomId, seq: number): Promise<readonly Subject[]> {
  const state = await commands.loadAt(roomDecider, roomStream(room), seq - 1);
  return state.status === "live" ? Array.from(state.members.keys()).toSorted() : [];
}

/**
 * The user ids of members. A subject is derived from its user id, so any source is right, however old: the read model for
 * nearly all, the users' own streams for those that it does not have yet, the room's log for the others.
 */
async function withAddresses(
  { readSide, commands }: JobServices,
  client: ClientId,
  subjects: readonly Subject[],
  fromRoom: () => Promise<ReadonlyMap<Subject, Sealed<string>>>,
): Promise<readonly Recipient[]> {
  const known = await userIdsOf(readSide.readAs(client), subjects);
  const addressOf = async (subject: Subject): Promise<Sealed<string>> => {
    const id = known.get(subject);
    if (id !== undefined) return seal(id);
    const { state } = await commands.load(userDecider, userStream(subject));
    if (state.status === "registered") return state.user;
    return (await fromRoom()).get(subject) ?? { erased: true };
  };
  return Promise.all(
    subjects.map(async (subject) => ({ subject, address: await addressOf(subject), name: null, user: null })),
  );
}

/** Every user id in the room's log, up to a seq. */
async function userIdsOfRoom({ store, keyring }: JobServices, room: RoomId, seq: number) {
  const ids = new Map<Subject, Sealed<string>>();
  for (let from = 0; from < seq; from += ROOM_READ_PAGE) {
    const page = await store.readStream(roomStream(room), { from, limit: Math.min(ROOM_READ_PAGE, seq - from) });
    const joins = page.filter(({ type }) => type === "RoomCreated" || type === "MemberJoined");
    for (const event of await decode(keyring, joins)) {
      const members = event.type === "RoomCreated" ? event.data.members : [];
      for (const member of event.type === "MemberJoined" ? [event.data] : members) ids.set(member.subject, member.user);
    }
    if (page.length === 0) break;
  }
  return ids;
}
