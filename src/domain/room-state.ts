// A room's events and state, and the checks that every command on a room shares.
import { z } from "zod";
import { MessageIdSchema, type Subject, SubjectSchema } from "../contract/ids.ts";
import { type JsonObject, JsonObjectSchema } from "../contract/json.ts";
import {
  HistorySchema,
  JoinRoleSchema,
  PostingSchema,
  type Role,
  RoleSchema,
  RoomKindSchema,
} from "../contract/rooms.ts";
import type { Instant } from "../contract/time.ts";
import { type Actor, DomainError, type EventContext } from "./decider.ts";
import { type EventsOf, event, sealed } from "./event.ts";
import { messageEvents, type Reply, replyOf } from "./message-events.ts";
import { PersistentMap } from "./persistent-map.ts";
import {
  NO_RESPONSES,
  type Responses,
  ResponsesSnapshot,
  responsesFromJson,
  responsesToJson,
  withoutReaction,
  withoutReply,
  withReaction,
  withReply,
} from "./room-responses.ts";

const member = z.object({
  subject: SubjectSchema,
  /** The client's own id of the user. */
  user: sealed(z.string()),
  role: RoleSchema,
  name: sealed(z.string()).nullable(),
  meta: sealed(JsonObjectSchema),
});
const settings = z.object({
  /** Null in direct rooms that were given none. */
  name: z.string().nullable(),
  description: z.string().nullable(),
  kind: RoomKindSchema,
  /** What a user who joins by itself becomes. */
  joinRole: JoinRoleSchema,
  /** Null: as many as any room may have. */
  maxMembers: z.number().nullable(),
  posting: PostingSchema,
  history: HistorySchema,
  meta: JsonObjectSchema,
});
const settingsUpcasts = {
  // Version 1 knew no other role on joining.
  1: (data: JsonObject) => ({ ...data, joinRole: "member" }),
  // Until version 2 every member could post, and no room had a limit of its own.
  2: (data: JsonObject) => ({ ...data, maxMembers: null, posting: "everyone" }),
  // Until version 3 every member saw everything.
  3: (data: JsonObject) => ({ ...data, history: "all" }),
};
const forSubject = { user: "subject", name: "subject", meta: "subject" };

// Events. A storage format.
export const roomEvents = {
  RoomCreated: event({
    v: 4,
    data: settings.extend({ externalId: z.string().nullable(), members: z.array(member) }),
    seals: {
      "members.*.user": "members.*.subject",
      "members.*.name": "members.*.subject",
      "members.*.meta": "members.*.subject",
    },
    upcasts: settingsUpcasts,
  }),
  /** The settings as they are from now on, all of them. */
  RoomUpdated: event({ v: 4, data: settings, upcasts: settingsUpcasts }),
  RoomDeactivated: event({ data: z.object({}) }),
  RoomActivated: event({ data: z.object({}) }),
  RoomDeleted: event({ data: z.object({}) }),
  MemberJoined: event({ data: member, seals: forSubject }),
  MemberUpdated: event({ data: member, seals: forSubject }),
  MemberLeft: event({
    data: z.object({ subject: SubjectSchema, user: sealed(z.string()), reason: z.enum(["left", "removed", "banned"]) }),
    seals: { user: "subject" },
  }),
  /** May not post until then; null: may post again. */
  MemberMuted: event({
    data: z.object({ subject: SubjectSchema, user: sealed(z.string()), until: z.number().nullable() }),
    seals: { user: "subject" },
  }),
  /** Whoever is banned is no member and becomes none until then; null: until the ban is lifted. */
  MemberBanned: event({
    data: z.object({
      subject: SubjectSchema,
      user: sealed(z.string()),
      until: z.number().nullable(),
      reason: sealed(z.string()).nullable(),
    }),
    seals: { user: "subject", reason: "subject" },
  }),
  MemberUnbanned: event({
    data: z.object({ subject: SubjectSchema, user: sealed(z.string()) }),
    seals: { user: "subject" },
  }),
  ...messageEvents,
} as const;

export type RoomEvent = EventsOf<typeof roomEvents>;
export type MemberData = z.infer<typeof member>;
export type RoomSettings = z.infer<typeof settings>;

// State: only what decisions need; never a message, never a name.
const Member = z.object({
  role: RoleSchema,
  joinedAt: z.number(),
  /** The seq of joining; 0 for members named at the room's creation. */
  joinedSeq: z.number(),
  /** The seq of the event that describes the member now: its name and meta are read there. */
  described: z.number(),
  /** Whether that event gives it a name in this room. */
  named: z.boolean(),
  mutedUntil: z.number().nullable(),
});
export type Member = Readonly<z.infer<typeof Member>>;

/** What became of a message after its posting: the seqs of its last content and of its last change. */
const Change = z.object({
  content: z.number(),
  change: z.number(),
  deleted: z.boolean(),
  /** How one that grew ended; null for all others. */
  end: z.object({ seq: z.number(), cancelled: z.boolean() }).nullable(),
});
type Change = Readonly<z.infer<typeof Change>>;

/** A message that grows: its text is not in the log yet. */
const Growing = z.object({ id: MessageIdSchema, sender: SubjectSchema });
export type Growing = Readonly<z.infer<typeof Growing>>;

/** What stays of a member who is gone, where that says more than the room does: it was removed, left as reader, or is muted. */
const Former = z.object({ left: z.enum(["removed", "reader"]).nullable(), mutedUntil: z.number().nullable() });
type Former = Readonly<z.infer<typeof Former>>;

/** A ban that may have ended, and the seq of its event. */
const Ban = z.object({ until: z.number().nullable(), seq: z.number() });
export type Ban = Readonly<z.infer<typeof Ban>>;

/** All that is kept but for the large maps. */
const plain = z.object({
  status: z.literal("live"),
  settings,
  externalId: z.string().nullable(),
  active: z.boolean(),
  seq: z.number(),
  owners: z.number(),
  /** All messages ever posted, those deleted now, and those that count as unread. */
  posted: z.number(),
  deleted: z.number(),
  ordinal: z.number(),
  createdAt: z.number(),
  updatedAt: z.number(),
  /** The seq of the last change to name, description, kind, meta or state: the room's ETag. */
  settingsSeq: z.number(),
});

export type ExistingRoom = Readonly<z.infer<typeof plain>> & {
  readonly members: PersistentMap<Subject, Member>;
  readonly formers: PersistentMap<Subject, Former>;
  readonly bans: PersistentMap<Subject, Ban>;
  readonly changes: PersistentMap<number, Change>;
  /** By the seq of the posting, those that have not ended. */
  readonly growing: PersistentMap<number, Growing>;
  readonly responses: Responses;
};
export type Room = { readonly status: "none" } | ExistingRoom | { readonly status: "deleted" };

export function evolve(state: Room, event: RoomEvent, context: EventContext): Room {
  if (event.type === "RoomCreated") return created(event.data, context);
  if (event.type === "RoomDeleted") return { status: "deleted" };
  if (state.status !== "live") return state;
  const { seq, at } = context;
  const room = { ...state, seq };
  const changed = { ...room, settingsSeq: seq, updatedAt: at };
  switch (event.type) {
    case "RoomUpdated":
      return { ...changed, settings: event.data };
    case "RoomDeactivated":
      return { ...changed, active: false };
    case "RoomActivated":
      return { ...changed, active: true };
    case "MemberJoined":
    case "MemberUpdated": {
      const { subject } = event.data;
      const { mutedUntil = null } = room.members.get(subject) ?? {};
      return withMember(room, subject, { ...memberOf(event.data, seq, { joinedAt: at, joinedSeq: seq }), mutedUntil });
    }
    case "MemberLeft": {
      const { subject, reason } = event.data;
      const gone = withMember(room, subject, undefined);
      const former = formerOf(room.members.get(subject), reason, at);
      return former === undefined ? gone : { ...gone, formers: room.formers.set(subject, former) };
    }
    case "MemberMuted": {
      const { subject, until } = event.data;
      const member = room.members.get(subject);
      return member === undefined ? room : withMember(room, subject, { ...member, mutedUntil: until });
    }
    case "MemberBanned": {
      const { subject, until } = event.data;
      return { ...room, bans: room.bans.set(subject, { until, seq }) };
    }
    case "MemberUnbanned":
      return { ...room, bans: room.bans.delete(event.data.subject) };
    case "MessagePosted": {
      const { id, sender, ordinal } = event.data;
      const growing = event.data.growing ? room.growing.set(seq, { id, sender }) : room.growing;
      const more = { ...room, posted: room.posted + 1, ordinal, growing };
      return withThread(more, withReply, replyOf(event.data), seq);
    }
    case "MessageCompleted":
    case "MessageCancelled": {
      const { messageSeq, ordinal } = event.data;
      const end = { seq, cancelled: event.type === "MessageCancelled" };
      const grown = { ...room, growing: room.growing.delete(messageSeq), ordinal };
      return withChange(grown, messageSeq, { content: seq, change: seq, deleted: false, end });
    }
    case "MessageEdited":
      return withChange(room, event.data.messageSeq, { content: seq, change: seq, deleted: false });
    case "MessageDeleted": {
      const content = contentSeq(room, event.data.messageSeq);
      const gone = withChange(room, event.data.messageSeq, { content, change: seq, deleted: true });
      return withThread({ ...gone, deleted: room.deleted + 1 }, withoutReply, event.data.reply, event.data.messageSeq);
    }
    case "MessageRestored": {
      const content = contentSeq(room, event.data.messageSeq);
      const back = withChange(room, event.data.messageSeq, { content, change: seq, deleted: false });
      return withThread({ ...back, deleted: room.deleted - 1 }, withReply, event.data.reply, event.data.messageSeq);
    }
    case "ReactionAdded":
      return { ...room, responses: withReaction(room.responses, event.data) };
    case "ReactionRemoved":
      return { ...room, responses: withoutReaction(room.responses, event.data) };
  }
}

function created(data: Extract<RoomEvent, { type: "RoomCreated" }>["data"], { seq, at }: EventContext): Room {
  const { externalId, members, ...settings } = data;
  return {
    status: "live",
    settings,
    externalId,
    active: true,
    seq,
    members: PersistentMap.of(members.map((one) => [one.subject, memberOf(one, seq, { joinedAt: at, joinedSeq: 0 })])),
    formers: PersistentMap.empty(),
    bans: PersistentMap.empty(),
    owners: members.filter(({ role }) => role === "owner").length,
    posted: 0,
    deleted: 0,
    ordinal: 0,
    changes: PersistentMap.empty(),
    growing: PersistentMap.empty(),
    responses: NO_RESPONSES,
    createdAt: at,
    updatedAt: at,
    settingsSeq: seq,
  };
}

type Joining = Pick<Member, "joinedAt" | "joinedSeq">;
const memberOf = ({ role, name }: MemberData, seq: number, joining: Joining): Member => ({
  role,
  ...joining,
  described: seq,
  named: name !== null,
  mutedUntil: null,
});

function formerOf(member: Member | undefined, reason: string, at: Instant): Former | undefined {
  const { role, mutedUntil: until = null } = member ?? {};
  const left = reason === "removed" ? reason : role === "reader" ? role : null;
  const mutedUntil = until !== null && until > at ? until : null;
  return left === null && mutedUntil === null ? undefined : { left, mutedUntil };
}

function withMember(room: ExistingRoom, subject: Subject, now: Member | undefined): ExistingRoom {
  const before = room.members.get(subject);
  const owners = room.owners - (before?.role === "owner" ? 1 : 0) + (now?.role === "owner" ? 1 : 0);
  if (now === undefined) return { ...room, members: room.members.delete(subject), owners };
  const { joinedAt, joinedSeq } = before ?? now;
  const formers = room.formers.delete(subject);
  return { ...room, members: room.members.set(subject, { ...now, joinedAt, joinedSeq }), formers, owners };
}

/** `reply`: null when the message is in no thread. */
const withThread = (room: ExistingRoom, change: typeof withReply, reply: Reply | null, seq: number): ExistingRoom =>
  reply === null ? room : { ...room, responses: change(room.responses, reply, seq) };

/** How a message that grew has ended stays as it is. */
const withChange = (
  room: ExistingRoom,
  messageSeq: number,
  change: Omit<Change, "end"> & Partial<Change>,
): ExistingRoom => {
  const end = room.changes.get(messageSeq)?.end ?? null;
  return { ...room, changes: room.changes.set(messageSeq, { end, ...change }) };
};

/** The seq of the event that holds a message's content now. */
export const contentSeq = (room: ExistingRoom, messageSeq: number): number =>
  room.changes.get(messageSeq)?.content ?? messageSeq;

/** The seq of a message's last posting, edit, deletion or restoring: its ETag. */
export const messageEtag = (room: ExistingRoom, messageSeq: number): number =>
  room.changes.get(messageSeq)?.change ?? messageSeq;

/** How an event describes a member; undefined for one that describes it not. */
export function descriptionIn(event: RoomEvent | undefined, subject: Subject): MemberData | undefined {
  if (event?.type === "RoomCreated") return event.data.members.find((one) => one.subject === subject);
  const describes = event?.type === "MemberJoined" || event?.type === "MemberUpdated";
  return describes && event.data.subject === subject ? event.data : undefined;
}

// The state as JSON, for snapshots. Raise the version with every change of shape.
const Snapshot = z.discriminatedUnion("status", [
  z.object({ status: z.literal("none") }),
  z.object({ status: z.literal("deleted") }),
  plain.extend({
    members: z.array(z.tuple([SubjectSchema, Member])),
    formers: z.array(z.tuple([SubjectSchema, Former])),
    bans: z.array(z.tuple([SubjectSchema, Ban])),
    changes: z.array(z.tuple([z.number(), Change])),
    growing: z.array(z.tuple([z.number(), Growing])),
    responses: ResponsesSnapshot,
  }),
]);

export const roomSnapshot = {
  version: 9,
  toJson(room: Room): unknown {
    if (room.status !== "live") return room;
    const { members, formers, bans, changes, growing, responses } = room;
    return {
      ...room,
      members: [...members.entries()],
      formers: [...formers.entries()],
      bans: [...bans.entries()],
      changes: [...changes.entries()],
      growing: [...growing.entries()],
      responses: responsesToJson(responses),
    };
  },
  fromJson(json: unknown): Room {
    const room = Snapshot.parse(json);
    if (room.status !== "live") return room;
    const { members, formers, bans, changes, growing, responses } = room;
    const people = {
      members: PersistentMap.of(members),
      formers: PersistentMap.of(formers),
      bans: PersistentMap.of(bans),
    };
    const messages = { changes: PersistentMap.of(changes), growing: PersistentMap.of(growing) };
    return { ...room, ...people, ...messages, responses: responsesFromJson(responses) };
  },
};

// Checks.
export const RANK: Record<Role, number> = { reader: 0, member: 1, admin: 2, owner: 3 };

/** The role that a member has: in a direct room both have the same. */
export const roleOf = (room: ExistingRoom, subject: Subject): Role | undefined => {
  const role = room.members.get(subject)?.role;
  return role !== undefined && /* fence: direct-equal */ room.settings.kind === "direct" ? "member" : role;
};

/** Refuses as the interface says: an invisible room is not found, a public one needs membership. Gives the role. */
export function requireRole(room: ExistingRoom, actor: Actor, least: Role): Role {
  if (actor.type !== "user") return "owner";
  const role = roleOf(room, actor.id);
  if (role === undefined) throw new DomainError(room.settings.kind === "public" ? "not_a_member" : "not_found");
  if (RANK[role] < RANK[least]) throw new DomainError(role === "reader" ? "read_only" : "role_required");
  return role;
}

/** As `requireRole`, for what admins or owners do. */
export function requireAdmin(room: ExistingRoom, actor: Actor, least: "admin" | "owner"): void {
  const role = requireRole(room, actor, "reader");
  if (RANK[role] < RANK[least]) throw new DomainError("role_required", `needs the role ${least}`);
}

/** The room, unless it was never made or is deleted. Throws not_found. */
export function requireExisting(state: Room): ExistingRoom {
  if (state.status !== "live") throw new DomainError("not_found");
  return state;
}
