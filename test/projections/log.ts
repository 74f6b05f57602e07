// Events for the tests of read models: written to a log, or made up for folding alone.
import { randomUUID } from "node:crypto";
import type { Channel } from "../../src/contract/deliveries.ts";
import {
  type ClientId,
  type DeliveryId,
  messageId,
  type NotificationId,
  type RoomId,
  type Subject,
} from "../../src/contract/ids.ts";
import type { JsonObject } from "../../src/contract/json.ts";
import type { Role } from "../../src/contract/rooms.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { seal } from "../../src/domain/event.ts";
import { type NotificationData, WITHOUT_OPTIONS } from "../../src/domain/notification.ts";
import type { MemberData, RoomSettings } from "../../src/domain/room-state.ts";
import { encode, type StoredEvent } from "../../src/event-store/envelope.ts";
import { type Appended, type EventStore, positionOf } from "../../src/event-store/event-store.ts";
import type { Keyring } from "../../src/event-store/sealing.ts";

export const CLIENT: ClientId = "cli_one";
export const OTHER: ClientId = "cli_two";
export const ROOM: RoomId = "room_general";
export const ANNA: Subject = "sub_anna";
export const BEN: Subject = "sub_ben";
export const EVE: Subject = "sub_eve";

export type Origin = { client?: ClientId; at?: number; command?: string; fingerprint?: string };
export type Writer = (stream: string, events: readonly DomainEvent[], origin?: Origin) => Promise<Appended>;

/** Appends to the end of a stream; it must be the only one that writes there. */
export function writerTo(store: EventStore, keyring: Keyring): Writer {
  const heads = new Map<string, number>();
  return async (stream, events, { client = CLIENT, at = 1_000, command = randomUUID(), fingerprint } = {}) => {
    const context = {
      client,
      actor: { type: "key" as const, id: "key_a" },
      commandId: command,
      ...(fingerprint === undefined ? {} : { fingerprint }),
      correlation: "correlation",
      causation: command,
    };
    const head = heads.get(stream) ?? -1;
    const encoded = await encode(keyring, { stream, events, context, at, firstRevision: head + 1 });
    const appended = await store.append(stream, head, encoded);
    heads.set(stream, appended.revision);
    return appended;
  };
}

/** Makes stored events of one log: positions and revisions count up. */
export function storedEvents() {
  let position = 0;
  const heads = new Map<string, number>();
  return (
    stream: string,
    event: DomainEvent,
    { client = CLIENT, at = 1_000, command = "c", fingerprint }: Origin = {},
  ) => {
    const revision = (heads.get(stream) ?? -1) + 1;
    heads.set(stream, revision);
    position += 1;
    const meta = {
      v: 1,
      at,
      client,
      actor: { type: "key" as const, id: "key_a" },
      command,
      ...(fingerprint === undefined ? {} : { fingerprint }),
      correlation: "correlation",
      causation: command,
      subjects: [],
    };
    const stored: StoredEvent = {
      ...event,
      id: `evt-${position}`,
      stream,
      revision,
      position: positionOf("test", position),
      meta,
    };
    return stored;
  };
}

const userId = (subject: Subject): string => subject.slice("sub_".length);

export const member = (subject: Subject, role: Role = "member", name: string | null = null): MemberData => ({
  subject,
  user: seal(userId(subject)),
  role,
  name: name === null ? null : seal(name),
  meta: seal({}),
});

type Settings = {
  name?: string;
  kind?: "private" | "public" | "direct";
  externalId?: string;
  meta?: JsonObject;
  history?: "all" | "from_join";
};
const settingsOf = ({ name = "General", kind = "private", history = "all", meta = {} }: Settings): RoomSettings => ({
  ...{ name, description: null, kind, joinRole: "member", maxMembers: null, posting: "everyone", history, meta },
});

export const roomCreated = (members: readonly MemberData[] = [], settings: Settings = {}): DomainEvent => ({
  type: "RoomCreated",
  data: { ...settingsOf(settings), externalId: settings.externalId ?? null, members: [...members] },
});

export const roomUpdated = (settings: Settings): DomainEvent => ({ type: "RoomUpdated", data: settingsOf(settings) });

export const joined = (subject: Subject, role: Role = "member"): DomainEvent => ({
  type: "MemberJoined",
  data: member(subject, role),
});

export const muted = (subject: Subject): DomainEvent => ({
  type: "MemberMuted",
  data: { subject, user: seal(userId(subject)), until: 9_000 },
});

export const left = (subject: Subject, reason: "left" | "banned" = "left"): DomainEvent => ({
  type: "MemberLeft",
  data: { subject, user: seal(userId(subject)), reason },
});

export const banned = (subject: Subject): DomainEvent => ({
  type: "MemberBanned",
  data: { subject, user: seal(userId(subject)), until: null, reason: null },
});
export const unbanned = (subject: Subject): DomainEvent => ({
  type: "MemberUnbanned",
  data: { subject, user: seal(userId(subject)) },
});

type Said = {
  readonly content?: string;
  readonly type?: string;
  readonly room?: RoomId;
  /** The seq of the message in whose thread it is. */
  readonly thread?: number | null;
  readonly mentions?: readonly Subject[];
  readonly everyone?: boolean;
  readonly growing?: boolean;
};
const mentionsOf = (subjects: readonly Subject[]) =>
  subjects.map((subject) => ({ subject, user: seal(userId(subject)) }));

export const posted = (
  sender: Subject,
  seq: number,
  ordinal: number,
  {
    content = `message ${seq}`,
    type = "text",
    room = ROOM,
    thread = null,
    mentions = [],
    everyone = false,
    growing = false,
  }: Said = {},
): DomainEvent => ({
  type: "MessagePosted",
  data: {
    id: messageId(room, seq, 1_000),
    sender,
    user: seal(userId(sender)),
    senderName: null,
    type,
    content: seal(content),
    meta: seal({ n: seq }),
    ...{ mentions: mentionsOf(mentions), everyone },
    replyTo: null,
    thread: thread === null ? null : { id: messageId(room, thread, 1_000), seq: thread },
    ordinal,
    growing,
  },
});

type Mentioned = { readonly mentions?: readonly Subject[]; readonly unmentioned?: readonly Subject[] };
export const edited = (
  sender: Subject,
  messageSeq: number,
  content: string,
  { mentions = [], unmentioned = [] }: Mentioned = {},
): DomainEvent => ({
  type: "MessageEdited",
  data: {
    ...{ id: messageId(ROOM, messageSeq, 1_000), messageSeq, sender, content: seal(content), meta: seal({}) },
    ...{ mentions: mentionsOf(mentions), everyone: false, unmentioned: [...unmentioned] },
  },
});

type InThread = { readonly to: number; readonly sender: Subject };
/** `endSeq`: of a message that grew. */
type Changing = [seq: number, room?: RoomId, reply?: InThread | null, endSeq?: number | null];
const changed = (...[seq, room = ROOM, reply = null, endSeq = null]: Changing) => ({
  ...{ id: messageId(room, seq, 1_000), messageSeq: seq, reply, endSeq },
});
export const removed = (...of: Changing): DomainEvent => ({
  type: "MessageDeleted",
  data: { ...changed(...of), by: "sender" },
});
export const restored = (...of: Changing): DomainEvent => ({ type: "MessageRestored", data: changed(...of) });

export const reaction = (
  type: "ReactionAdded" | "ReactionRemoved",
  subject: Subject,
  messageSeq: number,
  emoji: string,
): DomainEvent => ({
  type,
  data: { id: messageId(ROOM, messageSeq, 1_000), messageSeq, emoji, subject, user: seal(userId(subject)) },
});

/** `base`: the marker was set back when the room was there. */
export const marked = (subject: Subject, seq: number, base: number | null = null): DomainEvent => ({
  type: "ReadMarked",
  data: { subject, user: seal(userId(subject)), seq, base },
});

export const delivered = (subject: Subject, seq: number): DomainEvent => ({
  type: "DeliveredMarked",
  data: { subject, user: seal(userId(subject)), seq },
});

export const registered = (subject: Subject, name: string | null = null): DomainEvent => ({
  type: "UserRegistered",
  data: {
    subject,
    user: seal(userId(subject)),
    name: name === null ? null : seal(name),
    email: seal(`${userId(subject)}@example.com`),
    timezone: null,
    meta: seal({}),
  },
});

export const NOTIFICATION: NotificationId = "ntf_welcome";

export const requestedNotification = (
  channel: Channel,
  recipients: readonly Subject[],
  more: Partial<NotificationData> = {},
): DomainEvent => ({
  type: "NotificationRequested",
  data: {
    client: CLIENT,
    channel,
    roomId: null,
    recipients: recipients.map((subject) => ({ subject, address: seal(userId(subject)), name: null, user: null })),
    audience: null,
    contentType: null,
    ...WITHOUT_OPTIONS,
    replyTo: null,
    cc: seal([]),
    bcc: seal([]),
    fallback: null,
    contentKey: NOTIFICATION,
    subject: seal("Welcome"),
    content: seal("Hello"),
    text: null,
    meta: seal({}),
    priority: "normal",
    sendAt: null,
    expiresAt: 1_000_000,
    ...more,
  },
});

export const deliveryRequested = (
  recipient: Subject,
  channel: Channel,
  more: { fallbackOf?: DeliveryId; fallbackAt?: number; notification?: NotificationId; expiresAt?: number } = {},
): DomainEvent => ({
  type: "DeliveryRequested",
  data: {
    notification: more.notification ?? NOTIFICATION,
    source: { notification: more.notification ?? NOTIFICATION },
    recipient,
    from: null,
    to: "pending",
    channel,
    address: seal(userId(recipient)),
    name: null,
    fallbackOf: more.fallbackOf ?? null,
    priority: "normal",
    bulk: false,
    expiresAt: more.expiresAt ?? 1_000_000,
    fallbackAt: more.fallbackAt ?? null,
    withheld: false,
  },
});

/** The end of a message that grew. */
export const grown = (
  type: "MessageCompleted" | "MessageCancelled",
  sender: Subject,
  messageSeq: number,
  content: string,
  { ordinal = messageSeq, mentions = [], everyone = false }: Said & { readonly ordinal?: number } = {},
): DomainEvent => ({
  type,
  data: {
    ...{ id: messageId(ROOM, messageSeq, 1_000), messageSeq, sender, content: seal(content), meta: seal({}) },
    ...{ mentions: mentionsOf(mentions), everyone, ordinal },
  },
});

/** A message for later, or what it was changed to. */
export const scheduled = (type: "MessageScheduled" | "MessageRescheduled", sender: Subject, content: string) => {
  const said = {
    content: seal(content),
    meta: seal({}),
    ...{ mentions: mentionsOf([sender]), everyone: false },
    sendAt: 1,
  };
  const about = { room: ROOM, user: seal(userId(sender)), senderName: null, key: null, type: "text" };
  const data = { sender, ...said };
  const first = { ...about, replyTo: null, threadOf: null, ...data };
  return (type === "MessageScheduled" ? { type, data: first } : { type, data }) satisfies DomainEvent;
};
