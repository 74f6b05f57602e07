// Messages for later: scheduling, changing and cancelling them, and handing them to the room when their time has come.
import {
  type ClientId,
  type KeyId,
  type ScheduledMessageId,
  ScheduledMessageIdSchema,
  type Subject,
} from "../contract/ids.ts";
import type {
  NewMessage,
  ScheduledMessagePatch,
  ScheduledMessageQuery,
  ScheduledMessageResource,
} from "../contract/messages.ts";
import type { PersonalEvent, PersonalEventType } from "../contract/public-events.ts";
import { type Instant, rfc3339 } from "../contract/time.ts";
import { DomainError, InvalidInput, refuse } from "../domain/decider.ts";
import { reveal, seal, sealOrNull } from "../domain/event.ts";
import { mentionedIn } from "../domain/message-rules.ts";
import { banAt, roomDecider, roomStream } from "../domain/room.ts";
import { mentionFaults, sealedMentions } from "../domain/room-messages.ts";
import { RANK, type Room, roleOf } from "../domain/room-state.ts";
import {
  isOwn,
  type KnownScheduled,
  posterOf,
  SCHEDULED_STREAMS,
  type ScheduledData,
  type ScheduledMessage,
  type ScheduledMessageCommand,
  scheduledMessageDecider,
  scheduledStream,
  timeFaults,
} from "../domain/scheduled-message.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { deriveTail, deriveUuid, publicEventId } from "../event-store/derived-ids.ts";
import { decodeMetadata, decodeRaw } from "../event-store/envelope.ts";
import type { Position, RecordedEvent } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import { failpoint } from "../platform/failpoint.ts";
import { omitUndefined } from "../platform/omit-undefined.ts";
import { countScheduled, listScheduled, type ScheduledMessageRow } from "../projections/models/scheduled-messages.ts";
import type { Page } from "../projections/page.ts";
import { scheduledOf } from "../projections/projection.ts";
import { mentionsOf } from "./messages.ts";
import { openAsMember, rehearseOnRoom, withRoom } from "./rooms.ts";
import type { Call, Services, Written } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

/** Messages that may wait, of a client and of a user. */
const MAX_OF_CLIENT = 100_000;
const MAX_OF_USER = 1_000;

type Shown = { readonly scheduled: ScheduledMessageResource };

/** Throws what the room would refuse now, too_many_scheduled. Undefined: its time is now, and it is to be posted. */
export async function scheduleMessage(
  call: Call,
  named: string,
  wanted: NewMessage,
): Promise<(Shown & Written) | undefined> {
  const { services, at, context } = call;
  const { send_at: sendAt } = wanted;
  if (sendAt === null) return undefined;
  const id: ScheduledMessageId = `sch_${deriveTail("scheduled", context.commandId)}`;
  const stream = scheduledStream(id);
  // What was scheduled before under this key is answered again, also when its time is over.
  const known =
    context.fingerprint !== undefined && (await services.commands.load(scheduledMessageDecider, stream)).revision >= 0;
  if (!known && sendAt <= at) return undefined;
  refuse(timeFaults(sendAt, at));
  const data = await dataOf(call, named, wanted, sendAt, known);
  const { state, position, replayed } = await services.commands.execute(
    scheduledMessageDecider,
    stream,
    { type: "Schedule", at, data },
    context,
  );
  const ensured = await services.people.ensure(
    call,
    [{ subject: data.sender, userId: reveal(data.user) ?? "" }],
    position,
  );
  return { scheduled: resourceOf(id, requireKnown(state)), position: ensured, replayed };
}

async function dataOf(
  call: Call,
  named: string,
  wanted: NewMessage,
  sendAt: Instant,
  known: boolean,
): Promise<ScheduledData> {
  const { services, caller, read } = call;
  const user = wanted.sender_id ?? (caller.kind === "user" ? caller.userId : "");
  const sender = await services.keyring.subjectOfUser(caller.client, user);
  const mentions = await mentionsOf(call, wanted.mentions);
  const { id: room, room: state } = await openAsMember(services, caller, named);
  const { type: messageType, content, meta, reply_to: replyTo, thread_of: threadOf, sender_name: senderName } = wanted;
  if (!known) {
    const said = { messageType, content, meta, replyTo, threadOf, mentions, growing: false } as const;
    const post = { type: "Post", sender, user, senderName, ownName: null, ...said } as const;
    await rehearseOnRoom(call, { room, state }, post);
    const { ofClient, ofSender } = await countScheduled(read, sender);
    if (ofClient >= MAX_OF_CLIENT || ofSender >= MAX_OF_USER) throw new DomainError("too_many_scheduled");
  }
  return {
    ...{ room, sender, user: seal(user), senderName: sealOrNull(senderName) },
    key: caller.kind === "key" ? (caller.keyId satisfies KeyId) : null,
    ...{ type: messageType, replyTo, threadOf, sendAt },
    ...{ content: seal(content), meta: seal(meta), ...sealedMentions(mentions) },
  };
}

function requireKnown(state: ScheduledMessage): KnownScheduled {
  if (state.status === "none") throw new DomainError("not_found");
  return state;
}

/** A message for later as a path names it. */
type Named = { readonly room: string; readonly scheduled: string };

/** Also for a sender who is no member of the room any more: it may still see what became of its message. */
const find = ({ services, caller }: Call, named: Named) =>
  withRoom(services, caller, named.room, async (room) => {
    const { data: id } = ScheduledMessageIdSchema.safeParse(named.scheduled);
    if (id === undefined) throw new DomainError("not_found");
    const stream = scheduledStream(id);
    if ((await streamOwner(services.store, stream)) !== caller.client) throw new DomainError("not_found");
    const state = requireKnown((await services.commands.load(scheduledMessageDecider, stream)).state);
    if (state.data.room !== room) throw new DomainError("not_found");
    const roomNow = (await services.commands.load(roomDecider, roomStream(room))).state;
    const admin = caller.kind === "key" || isAdmin(roomNow, caller.subject);
    // fence: scheduled-seen
    if (!admin && !isOwn(state, caller.actor)) throw new DomainError("not_found");
    return { id, stream, state, room: roomNow, admin };
  });
type Found = Awaited<ReturnType<typeof find>>;

function isAdmin(room: Room, subject: Subject): boolean {
  const role = room.status === "live" ? roleOf(room, subject) : undefined;
  return role !== undefined && RANK[role] >= RANK.admin;
}

/** Throws not_found. */
export async function getScheduled(call: Call, named: Named): Promise<Shown> {
  const { id, state } = await find(call, named);
  return { scheduled: resourceOf(id, state) };
}

/** To its admins all of a room, to others their own. Throws not_found, not_a_member, InvalidCursor. */
export async function listScheduledMessages(
  { services, caller, read }: Call,
  named: string,
  { status: statuses, limit, cursor }: ScheduledMessageQuery,
): Promise<Page<ScheduledMessageResource>> {
  const { id: room, room: state } = await openAsMember(services, caller, named);
  const sender = caller.kind === "key" || isAdmin(state, caller.subject) ? undefined : caller.subject;
  const { rows, next } = await listScheduled(read, { room, limit, ...omitUndefined({ sender, statuses, cursor }) });
  return { rows: rows.map(resourceOfRow), next };
}

/** Carries out a command on one, and posts it when that made it due. */
async function change(
  call: Call,
  named: Named,
  commandOf: (found: Found) => ScheduledMessageCommand,
): Promise<Shown & Written> {
  const { services, caller, context } = call;
  const found = await find(call, named);
  const { id, stream } = found;
  const outcome = await services.commands.execute(scheduledMessageDecider, stream, commandOf(found), context);
  const { correlation } = context;
  const cause = { correlation, causation: context.commandId };
  const posted =
    requireKnown(outcome.state).status === "due"
      ? await postScheduled(services, { id, client: caller.client, ...cause })
      : { state: requireKnown(outcome.state), position: null };
  const position = posted.position ?? outcome.position;
  return { scheduled: resourceOf(id, posted.state), position, replayed: outcome.replayed };
}

/** Throws not_found, not_scheduled, InvalidInput. */
export async function changeScheduled(call: Call, named: Named, patch: ScheduledMessagePatch) {
  const { at, caller } = call;
  const { actor } = caller;
  const { content, meta, mentions: users, send_at } = patch;
  const mentioned = users === undefined ? undefined : await mentionsOf(call, users ?? []);
  const mentions = mentioned && sealedMentions(mentioned);
  const changes = { content, meta, mentions, sendAt: send_at === null ? at : send_at };
  return change(call, named, ({ state: { data }, room }) => {
    // fence: scheduled-mentions
    const checked = mentioned !== undefined && room.status === "live";
    const faults = checked ? mentionFaults(room, posterOf(data), mentioned, data) : [];
    return { type: "Change", at, actor, changes, faults };
  });
}

/** Throws not_found, not_scheduled. */
export const unschedule = (call: Call, named: Named) =>
  change(call, named, ({ admin }) => ({ type: "Unschedule", at: call.at, actor: call.caller.actor, admin }));

/** Throws not_found, not_scheduled. */
export const sendScheduledNow = (call: Call, named: Named) =>
  change(call, named, () => ({ type: "SendNow", at: call.at, actor: call.caller.actor }));

type Posting = {
  readonly id: ScheduledMessageId;
  readonly client: ClientId;
  readonly correlation: string;
  readonly causation: string;
};
type PostingServices = { readonly commands: Commands; readonly now: () => Instant };

/**
 * Hands one that is due to its room. Done again after a crash, the room finds the command under its id: it is posted once,
 * whatever node does it how often.
 */
export async function postScheduled(
  services: PostingServices,
  { id, client, correlation, causation }: Posting,
): Promise<{ readonly state: KnownScheduled; readonly position: Position | null }> {
  const { commands, now } = services;
  const stream = scheduledStream(id);
  const loaded = await commands.load(scheduledMessageDecider, stream);
  const state = requireKnown(loaded.state);
  if (state.status !== "due") return { state, position: loaded.position };
  const context = { client, correlation, causation } as const;
  const posted = await postToRoom(services, id, state.data, context);
  failpoint("scheduled-posted/recorded");
  const command = { ...posted, at: now() } as const;
  const commandId = deriveUuid("scheduled message ended", id);
  const actor = { type: "system", id: "worker" } as const;
  const outcome = await commands.execute(scheduledMessageDecider, stream, command, { ...context, actor, commandId });
  return { state: requireKnown(outcome.state), position: outcome.position };
}

type Decided =
  | { readonly type: "Finish"; readonly message: string }
  | { readonly type: "Refuse"; readonly reason: string };

async function postToRoom(
  { commands, now }: PostingServices,
  id: ScheduledMessageId,
  data: ScheduledData,
  context: { readonly client: ClientId; readonly correlation: string; readonly causation: string },
): Promise<Decided> {
  const { room, sender } = data;
  const [user, content, meta] = [reveal(data.user), reveal(data.content), reveal(data.meta)];
  if (user === null || content === null || meta === null) return { type: "Refuse", reason: "erased" };
  const { state } = await commands.load(roomDecider, roomStream(room));
  const members = state.status === "live" ? state.members : undefined;
  const profile = (await commands.load(userDecider, userStream(sender))).state;
  // Whoever left meanwhile is not mentioned; that is no reason to refuse it.
  const people = data.mentions.flatMap(({ subject, user: mentioned }, at) => {
    const name = reveal(mentioned);
    return name !== null && members?.has(subject) === true ? [{ subject, user: name, at }] : [];
  });
  const actor = posterOf(data);
  const command = {
    ...{ type: "Post" as const, at: now(), room, actor, sender, user, senderName: reveal(data.senderName) },
    ownName: profile.status === "none" ? null : reveal(profile.profile.name),
    ...{ messageType: data.type, content, meta, replyTo: data.replyTo, threadOf: data.threadOf, growing: false },
    mentions: { people, everyone: data.everyone ? 0 : null },
  } as const;
  const commandId = deriveUuid("scheduled message", id);
  try {
    const once = { ...context, actor, commandId, /* fence: scheduled-posted-once */ fingerprint: id };
    const { events } = await commands.execute(roomDecider, roomStream(room), command, once);
    const [event] = events;
    if (event?.type !== "MessagePosted") throw new Error("a message was neither posted nor refused");
    return { type: "Finish", message: event.data.id };
  } catch (error) {
    if (!(error instanceof DomainError) && !(error instanceof InvalidInput)) throw error;
    return { type: "Refuse", reason: reasonOf(error, state, data, now()) };
  }
}

/** Why a room does not take a message, as its sender is told. */
function reasonOf(error: DomainError | InvalidInput, state: Room, { sender }: ScheduledData, at: Instant): string {
  if (state.status !== "live") return "room_deleted";
  if (banAt(state, sender, at) !== undefined) return "banned";
  if (!state.members.has(sender)) return "not_a_member";
  return error instanceof DomainError ? error.code : "validation_failed";
}

/** While it is due and not decided, it is shown as scheduled. */
const resourceOf = (
  id: ScheduledMessageId,
  { status, data, message, reason, createdAt }: KnownScheduled,
): ScheduledMessageResource => ({
  ...{ id, room_id: data.room, sender_id: reveal(data.user), type: data.type },
  ...{ content: reveal(data.content), meta: reveal(data.meta) ?? {}, reply_to: data.replyTo, thread_of: data.threadOf },
  mentions: mentionedIn(data),
  ...{ send_at: rfc3339(data.sendAt), status: status === "due" ? "scheduled" : status },
  ...{ message_id: message, reason, created_at: rfc3339(createdAt) },
});

const resourceOfRow = (row: ScheduledMessageRow): ScheduledMessageResource => ({
  ...{ id: row.id, room_id: row.room_id, sender_id: row.user_id, type: row.type, content: row.content, meta: row.meta },
  ...{ reply_to: row.reply_to, thread_of: row.thread_of, mentions: row.mentions, send_at: rfc3339(row.send_at) },
  ...{ status: row.status, message_id: row.message_id, reason: row.reason, created_at: rfc3339(row.created_at) },
});

const PERSONAL_NAMES: Readonly<Record<string, PersonalEventType>> = {
  MessageScheduled: "message.scheduled",
  MessageRescheduled: "message.rescheduled",
  MessageUnscheduled: "message.unscheduled",
  MessageRefused: "message.refused",
};

/** Whom an event of a message for later concerns, and nobody else; undefined: it is told to nobody. */
export const concernsAlone = (event: RecordedEvent): Subject | undefined =>
  event.stream.startsWith(SCHEDULED_STREAMS) && Object.hasOwn(PERSONAL_NAMES, event.type)
    ? (decodeRaw(event).sender as Subject)
    : undefined;

/** What its sender is told of such an event: the message just after it. */
export async function personalEvent(services: Services, event: RecordedEvent): Promise<PersonalEvent | undefined> {
  const { commands, people, positions } = services;
  const { id, type, stream, revision, position } = event;
  const name = PERSONAL_NAMES[type];
  const { client, at, actor } = decodeMetadata(event);
  const state = await commands.loadAt(scheduledMessageDecider, stream, revision);
  if (name === undefined || client === null || state.status === "none") return undefined;
  return {
    ...{ id: publicEventId(id), type: name, room_id: state.data.room, seq: null, at: rfc3339(at) },
    ...{ position: positions.ofEvent(client, position), actor: await people.actor(actor) },
    data: resourceOf(scheduledOf(stream), state),
  };
}
