// What of a room's history a member sees.
import { describe, expect, test } from "vitest";
import type { Actor } from "../../src/domain/decider.ts";
import { eventSeenFrom, visibleFrom } from "../../src/domain/message-rules.ts";
import { roomDecider } from "../../src/domain/room.ts";
import type { RoomEvent } from "../../src/domain/room-state.ts";
import { stateAfter } from "../support/given.ts";
import {
  adminAnna,
  createdWith,
  deletedBy,
  deleteMessage,
  edit,
  idAt,
  joined,
  key,
  left,
  memberMax,
  messageDeleted,
  post,
  posted,
  ROOM,
  react,
  restore,
  room,
  settings,
  strangerStan,
  update,
  updated,
} from "./rooms.ts";

const fromJoin = createdWith({ history: "from_join" });
const changedTo = (history: "all" | "from_join"): RoomEvent => ({ type: "RoomUpdated", data: settings({ history }) });
const seenBy = (actor: Actor, ...history: readonly RoomEvent[]) => {
  const state = stateAfter(roomDecider, history);
  if (state.status !== "live") throw new Error("the room should be live");
  return visibleFrom(state, actor);
};

describe("history", () => {
  test("from joining on begins with the last joining, and is all for first members and client keys", () => {
    expect(seenBy(memberMax, fromJoin, posted(2))).toBe(0);
    expect(seenBy(strangerStan, fromJoin, posted(2), joined("sub_stan"))).toBe(3);
    expect(seenBy(memberMax, fromJoin, left("sub_max"), posted(3), joined("sub_max"))).toBe(4);
    expect(seenBy(key, fromJoin, posted(2), joined("sub_stan"))).toBe(0);
  });

  test("from joining on does not move when the member is changed", () => {
    expect(seenBy(strangerStan, fromJoin, joined("sub_stan"), updated("sub_stan", "admin"))).toBe(2);
  });

  test("of all holds for everybody, as soon as the room is changed to it", () => {
    expect(seenBy(strangerStan, createdWith({}), posted(2), joined("sub_stan"))).toBe(0);
    expect(seenBy(strangerStan, fromJoin, posted(2), joined("sub_stan"), changedTo("all"))).toBe(0);
    expect(seenBy(strangerStan, createdWith({}), posted(2), joined("sub_stan"), changedTo("from_join"))).toBe(3);
  });

  test("is an admin's to change, once", () => {
    room(createdWith({}))
      .when(update(adminAnna, { history: "from_join" }))
      .then(changedTo("from_join"));
    room(fromJoin)
      .when(update(adminAnna, { history: "from_join" }))
      .thenNothing();
    room(fromJoin)
      .when(update(memberMax, { history: "all" }))
      .thenRejected("role_required");
  });
});

describe("a message from before one's joining", () => {
  const before = [fromJoin, posted(2, { sender: "sub_stan" }), joined("sub_stan", "admin")] as const;

  test("is not found by whoever changes it or reacts to it", () => {
    for (const command of [
      edit(strangerStan, 2),
      deleteMessage(strangerStan, 2),
      react("React", strangerStan, 2, "👍"),
      react("Unreact", strangerStan, 2, "👍"),
    ]) {
      room(...before)
        .when(command)
        .thenRejected("not_found");
    }
    room(...before, messageDeleted(2))
      .when(restore(strangerStan, 2))
      .thenRejected("not_found");
    room(...before)
      .when(deleteMessage(key, 2))
      .then(deletedBy("backend", 2));
  });

  test("is none that a reply or a thread may name", () => {
    room(...before)
      .when(post(strangerStan, { replyTo: idAt(2) }))
      .thenInvalid("reply_to", "not_allowed");
    room(...before)
      .when(post(strangerStan, { threadOf: idAt(2) }))
      .thenInvalid("thread_of", "not_allowed");
  });
});

describe("an event", () => {
  const event = (seq: number, data: object) => ({ room_id: ROOM, seq, data });

  test("from before is not told", () => {
    expect(eventSeenFrom(event(4, { id: idAt(4) }), 5)).toBeUndefined();
    expect(eventSeenFrom(event(5, { user_id: "max" }), 5)).toEqual(event(5, { user_id: "max" }));
  });

  test("about an older message keeps its seq and says nothing else", () => {
    const hidden = { id: idAt(2), hidden: true };
    expect(eventSeenFrom(event(6, { id: idAt(2), content: "secret" }), 5)).toEqual(event(6, hidden));
    const reaction = { message_id: idAt(2), emoji: "👍", user_id: "max" };
    expect(eventSeenFrom(event(7, reaction), 5)).toEqual(event(7, hidden));
    expect(eventSeenFrom(event(7, reaction), 0)).toEqual(event(7, reaction));
    const own = event(6, { id: idAt(5), content: "seen" });
    expect(eventSeenFrom(own, 5)).toBe(own);
  });

  test("of no room, or of the room itself, is told as it is", () => {
    const other = { room_id: null, seq: null, data: { id: "ntf_1" } };
    expect(eventSeenFrom(other, 5)).toBe(other);
    const settings = event(6, { id: ROOM, name: "Team" });
    expect(eventSeenFrom(settings, 5)).toBe(settings);
  });
});
