// Whatever is asked of a room, in whatever order, what it promises holds.
import { expect, test } from "vitest";
import { type RoomId, seqOfMessage } from "../../src/contract/ids.ts";
import { type Role, RoleSchema, type RoomKind } from "../../src/contract/rooms.ts";
import { type RoomCommand, roomDecider } from "../../src/domain/room.ts";
import type { MemberData, Room, RoomEvent } from "../../src/domain/room-state.ts";
import { actor, pause, person } from "../support/arbitraries.ts";
import fc from "../support/seed.ts";
import { type Decided, holds, type Recorded, type Step } from "./simulation.ts";

const ROOM: RoomId = "room_0123456789abcdefghjkmnpqrs";
type RoomStep = Step<RoomEvent, RoomCommand>;
type Log = readonly Recorded<RoomEvent>[];

const role = fc.constantFrom<Role>(...RoleSchema.options);
const meta = fc.constantFrom({}, { a: 1 }, { a: 1, b: "x" });
const content = fc.constantFrom("", "one", "two");
const memberData = (subject: MemberData["subject"], one: Role, name: string | null): MemberData => ({
  subject,
  user: { open: subject },
  role: one,
  name: name === null ? null : { open: name },
  meta: { open: {} },
});

/** The id of one of the room's messages, sometimes of an event that is none, or damaged. */
const messageIn = (log: Log, pick: number): string => {
  const ids = log.flatMap(({ event }) => (event.type === "MessagePosted" ? [event.data.id] : []));
  return pick % 7 === 6 ? "msg_nothing" : (ids[pick % Math.max(1, ids.length)] ?? "msg_nothing");
};
/** An ETag that is right more often than not. */
const etag = (log: Log, pick: number): number | null => (pick % 4 === 3 ? pick % Math.max(1, log.length) : null);
const create: fc.Arbitrary<RoomStep> = fc
  .record({
    pause: pause(),
    kind: fc.constantFrom<RoomKind>("private", "public", "public", "direct"),
    joinRole: fc.constantFrom("member", "member", "reader"),
    members: fc.uniqueArray(fc.tuple(person(), role), { selector: ([subject]) => subject }),
  })
  .map(({ pause, kind, joinRole, members }) => ({
    pause,
    command: (at) => ({
      type: "Create",
      at,
      settings: {
        name: "Room",
        description: null,
        kind,
        joinRole,
        maxMembers: null,
        posting: "everyone" as const,
        history: "all" as const,
        meta: {},
      },
      externalId: null,
      members: members.map(([subject, one]) => memberData(subject, one, null)),
    }),
  }));

const settingsStep: fc.Arbitrary<RoomStep> = fc
  .record({
    pause: pause(),
    actor: actor(),
    pick: fc.nat({ max: 100 }),
    type: fc.constantFrom("Update", "Activate", "Activate", "Deactivate", "Delete"),
    rare: fc.nat({ max: 9 }),
    changes: fc.record(
      { name: fc.constantFrom("Room", "Hall"), kind: fc.constantFrom<RoomKind>("private", "public", "direct"), meta },
      { requiredKeys: [] },
    ),
  })
  .map(({ pause, actor, pick, type, rare, changes }) => ({
    pause,
    command: (at, log): RoomCommand => {
      const ifMatch = etag(log, pick);
      if (type === "Update") return { type, at, actor, changes, ifMatch };
      return { type: type === "Delete" && rare > 0 ? "Activate" : type, at, actor, ifMatch } as RoomCommand;
    },
  }));

const memberStep: fc.Arbitrary<RoomStep> = fc
  .record({
    pause: pause(),
    actor: actor(),
    subject: person(),
    role: fc.option(role),
    name: fc.constantFrom(null, "Ada"),
    leaves: fc.boolean(),
  })
  .map(({ pause, actor, subject, role, name, leaves }) => ({
    pause,
    command: (at): RoomCommand => {
      if (leaves) return { type: "RemoveMember", at, actor, subject, user: subject };
      const { role: _role, ...member } = memberData(subject, "member", name);
      return { type: "SetMember", at, actor, member, role };
    },
  }));

const messageStep: fc.Arbitrary<RoomStep> = fc
  .record({
    pause: pause(),
    actor: actor(),
    sender: person(),
    pick: fc.nat({ max: 100 }),
    type: fc.constantFrom("Post", "Post", "Edit", "DeleteMessage", "RestoreMessage"),
    messageType: fc.constantFrom("text", "text", "image", "system"),
    content,
    meta,
    replies: fc.boolean(),
    edits: fc.constantFrom("content", "meta", "both"),
  })
  .map(({ pause, actor, sender, pick, type, messageType, content, meta, replies, edits }) => ({
    pause,
    command: (at, log): RoomCommand => {
      const id = messageIn(log, pick);
      const about = { at, room: ROOM, actor, ifMatch: etag(log, pick) };
      if (type === "Edit") {
        const change = edits === "content" ? undefined : meta;
        return { ...about, type, id, content: edits === "meta" ? null : content, meta: change };
      }
      if (type !== "Post") return { ...about, type, id } as RoomCommand;
      const from = actor.type === "user" && pick % 5 > 0 ? actor.id : sender;
      const replyTo = replies ? id : null;
      return {
        ...about,
        type,
        sender: from,
        user: from,
        senderName: null,
        ownName: null,
        messageType,
        content,
        meta,
        replyTo,
        threadOf: null,
        growing: false,
        mentions: { people: [], everyone: null },
      };
    },
  }));

const abandon: fc.Arbitrary<RoomStep> = fc.constant({ pause: 0, command: (at) => ({ type: "Abandon", at }) });

const steps = fc
  .tuple(
    fc.oneof({ weight: 20, arbitrary: create }, abandon),
    fc.array(fc.oneof(settingsStep, memberStep, messageStep, messageStep, create, abandon), {
      maxLength: 60,
      size: "max",
    }),
  )
  .map(([first, rest]) => [first, ...rest]);

/** Members as the events alone say. */
function membersBy(log: Log): Map<string, Role> {
  const members = new Map<string, Role>();
  for (const { event } of log) {
    if (event.type === "RoomCreated") for (const one of event.data.members) members.set(one.subject, one.role);
    if (event.type === "MemberJoined" || event.type === "MemberUpdated")
      members.set(event.data.subject, event.data.role);
    if (event.type === "MemberLeft") members.delete(event.data.subject);
  }
  return members;
}

function messagesAddUp(room: Extract<Room, { status: "live" }>, log: Log): void {
  const deleted = new Set<string>();
  const postings = log.flatMap(({ event, context }) =>
    event.type === "MessagePosted" ? [{ ...event.data, context }] : [],
  );
  for (const { event } of log) {
    if (event.type === "MessageDeleted") deleted.add(event.data.id);
    if (event.type === "MessageRestored") deleted.delete(event.data.id);
  }
  expect(room).toMatchObject({ posted: postings.length, deleted: deleted.size });
  expect(new Set(postings.map((one) => one.id)).size).toBe(postings.length);
  let ordinal = 0;
  for (const one of postings) {
    if (one.type !== "system") ordinal += 1;
    expect(one.ordinal).toBe(ordinal);
    expect(seqOfMessage(ROOM, one.id)).toBe(one.context.seq);
    expect(room.changes.get(one.context.seq)?.deleted ?? false).toBe(deleted.has(one.id));
  }
  expect(room.ordinal).toBe(ordinal);
}

function rightsHold({ before, events, command }: Decided<Room, RoomEvent, RoomCommand>): void {
  if (before.status !== "live") return;
  for (const event of events) {
    if (event.type !== "MessagePosted") continue;
    expect(before.active).toBe(true);
    if (event.data.type !== "system") expect(before.members.get(event.data.sender)?.role).toMatch(/member|admin|owner/);
  }
  if (events.length > 0 && "actor" in command && command.actor.type === "user") {
    const joins = command.type === "SetMember" && before.settings.kind === "public";
    if (!joins) expect(before.members.has(command.actor.id)).toBe(true);
  }
}

test("a room keeps its promises", () => {
  let live = 0;
  let messages = 0;
  // Each posting is another message.
  holds(roomDecider, steps, ["Post"], (done) => {
    const { before, after, log } = done;
    rightsHold(done);
    // Nothing comes after the end.
    expect(log.slice(0, -1).some(({ event }) => event.type === "RoomDeleted")).toBe(false);
    if (after.status !== "live") return;
    live += 1;
    messages += after.posted;
    expect(after.seq).toBe(log.length);
    const members = new Map<string, Role>(
      Array.from(after.members.entries(), ([subject, { role }]) => [subject, role]),
    );
    expect(members).toEqual(membersBy(log));
    expect(after.owners).toBe([...members.values()].filter((one) => one === "owner").length);
    // Nobody takes the last owner from others.
    if (before.status === "live" && before.owners > 0 && after.owners === 0) expect(members.size).toBeLessThan(2);
    // A client key may take one of the two out, and nobody puts a third in.
    const [first] = log;
    if (after.settings.kind === "direct" && first?.event.type === "RoomCreated") {
      const two = first.event.data.members.map(({ subject }) => subject);
      for (const subject of members.keys()) expect(two).toContain(subject);
    }
    expect(after.settingsSeq).toBeLessThanOrEqual(after.seq);
    expect(after.updatedAt).toBeGreaterThanOrEqual(after.createdAt);
    messagesAddUp(after, log);
  });
  // The runs were not all refusals.
  expect(live).toBeGreaterThan(1_000);
  expect(messages).toBeGreaterThan(1_000);
});
