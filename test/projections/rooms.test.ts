// What happens in a room, folded without a database.
import { describe, expect, test } from "vitest";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { foldRows } from "../../src/projections/fold.ts";
import { messages } from "../../src/projections/models/messages.ts";
import { reads } from "../../src/projections/models/reads.ts";
import { members, rooms } from "../../src/projections/models/rooms.ts";
import {
  ANNA,
  BEN,
  delivered,
  edited,
  joined,
  left,
  marked,
  member,
  posted,
  ROOM,
  removed,
  restored,
  roomCreated,
  storedEvents,
} from "./log.ts";

const STREAM = `room-${ROOM}`;

describe("rooms", () => {
  test("every event moves the head; only settings move the ETag and the time of change", () => {
    const at = storedEvents();
    const events = [
      at(STREAM, roomCreated([member(ANNA, "owner")], { name: "Übung", externalId: "x" })),
      at(STREAM, joined(BEN), { at: 2_000 }),
      at(STREAM, posted(ANNA, 3, 1), { at: 3_000 }),
    ];
    expect(foldRows(rooms, events)).toMatchObject([
      {
        room_id: ROOM,
        client: "cli_one",
        name: "Übung",
        name_key: "übung",
        external_id: "x",
        seq: 3,
        ordinal: 1,
        member_count: 2,
        message_count: 1,
        settings_seq: 1,
        created_at: 1_000,
        updated_at: 1_000,
        position: events[0]?.position,
        activity_position: events[2]?.position,
      },
    ]);
    const about = { name: "New", description: "d", kind: "public" as const, meta: { a: 1 } };
    const settings = {
      ...about,
      joinRole: "reader" as const,
      maxMembers: 9,
      posting: "admins" as const,
      history: "from_join" as const,
    };
    events.push(at(STREAM, { type: "RoomUpdated", data: settings }, { at: 4_000 }));
    expect(foldRows(rooms, events)).toMatchObject([
      { ...about, join_role: "reader", name_key: "new", settings_seq: 4, updated_at: 4_000, seq: 4 },
    ]);
  });

  test("deactivating, activating and deleting change the state", () => {
    const at = storedEvents();
    const events = [at(STREAM, roomCreated()), at(STREAM, { type: "RoomDeactivated", data: {} })];
    expect(foldRows(rooms, events)).toMatchObject([{ active: false, settings_seq: 2 }]);
    events.push(at(STREAM, { type: "RoomActivated", data: {} }));
    expect(foldRows(rooms, events)).toMatchObject([{ active: true, deleted: false }]);
    events.push(at(STREAM, { type: "RoomDeleted", data: {} }));
    expect(foldRows(rooms, events)).toMatchObject([{ deleted: true, seq: 4 }]);
  });

  test("counts members and the messages that are not deleted now", () => {
    const at = storedEvents();
    const events = [
      roomCreated([member(ANNA), member(BEN)]),
      posted(ANNA, 2, 1),
      posted(ANNA, 3, 2),
      removed(2),
      left(BEN),
    ].map((event) => at(STREAM, event));
    expect(foldRows(rooms, events)).toMatchObject([{ member_count: 1, message_count: 1, ordinal: 2 }]);
    events.push(at(STREAM, restored(2)));
    expect(foldRows(rooms, events)).toMatchObject([{ message_count: 2 }]);
  });
});

describe("members", () => {
  test("those named at creation have read nothing, who joins has read what was said before", () => {
    const at = storedEvents();
    const events = [
      at(STREAM, roomCreated([member(ANNA, "owner", "Anna"), member(BEN)])),
      at(STREAM, left(BEN)),
      at(STREAM, joined(BEN, "reader"), { at: 2_000 }),
    ];
    expect(foldRows(members, events)).toMatchObject([
      { room_id: ROOM, subject: ANNA, user_id: "anna", name: "Anna", role: "owner", joined_seq: 0, join_index: 0 },
      { subject: BEN, name: null, role: "reader", joined_seq: 3, joined_at: 2_000, position: events[2]?.position },
    ]);
  });

  test("a changed member keeps when it joined; one who left is gone", () => {
    const at = storedEvents();
    const events = [
      at(STREAM, roomCreated([member(ANNA)])),
      at(STREAM, { type: "MemberUpdated", data: member(ANNA, "admin", "A.") }, { at: 9_000 }),
    ];
    expect(foldRows(members, events)).toMatchObject([{ role: "admin", name: "A.", joined_at: 1_000 }]);
    events.push(at(STREAM, left(ANNA)));
    expect(foldRows(members, events)).toEqual([]);
  });
});

describe("messages", () => {
  test("editing changes content and ETag, and keeps id, seq and times of posting", () => {
    const at = storedEvents();
    const events = [
      at(STREAM, roomCreated([member(ANNA)])),
      at(STREAM, posted(ANNA, 2, 1)),
      at(STREAM, edited(ANNA, 2, "better"), { at: 5_000 }),
    ];
    expect(foldRows(messages, events)).toMatchObject([
      {
        ...{
          seq: 2,
          user_id: "anna",
          content: "better",
          meta: {},
          created_at: 1_000,
          edited_at: 5_000,
          content_seq: 3,
        },
        ...{ editor_type: events[2]?.meta.actor.type, editor: events[2]?.meta.actor.id },
      },
    ]);
  });

  test("a deleted message keeps its content in the row, so that restoring brings it back", () => {
    const at = storedEvents();
    const events = [roomCreated([member(ANNA)]), posted(ANNA, 2, 1), removed(2)].map((event) => at(STREAM, event));
    expect(foldRows(messages, events)).toMatchObject([{ deleted_at: 1_000, change_seq: 3, content: "message 2" }]);
    events.push(at(STREAM, restored(2)));
    expect(foldRows(messages, events)).toMatchObject([
      { deleted_at: null, change_seq: 4, content_seq: 2, content: "message 2" },
    ]);
  });

  test("erased fields read as absent", () => {
    const at = storedEvents();
    const event = posted(ANNA, 2, 1);
    if (event.type !== "MessagePosted") throw new Error("not a posting");
    const erased = { erased: true as const };
    const data = { ...event.data, user: erased, content: erased, meta: erased };
    expect(foldRows(messages, [at(STREAM, roomCreated()), at(STREAM, { ...event, data })])).toMatchObject([
      { user_id: null, content: null, meta: {} },
    ]);
  });
});

describe("markers", () => {
  const of = (...events: readonly DomainEvent[]) => {
    const at = storedEvents();
    return foldRows(
      reads,
      events.map((event) => at(`reads-${ROOM}`, event)),
    );
  };

  test("move forward, and what is read is delivered", () => {
    expect(of(marked(ANNA, 5), marked(ANNA, 3))).toMatchObject([
      { room_id: ROOM, subject: ANNA, user_id: "anna", seq: 5, base: 0, delivered_seq: 5, at: 1_000 },
    ]);
    expect(of(delivered(ANNA, 4))).toMatchObject([{ seq: 0, delivered_seq: 4, at: null }]);
    expect(of(delivered(ANNA, 4), marked(ANNA, 2))).toMatchObject([{ seq: 2, delivered_seq: 4 }]);
  });

  test("go back when they are set back, and remember what was delivered", () => {
    expect(of(marked(ANNA, 5), marked(ANNA, 3, 8))).toMatchObject([{ seq: 3, base: 8, delivered_seq: 5 }]);
    expect(of(marked(ANNA, 3, 8), marked(ANNA, 4))).toMatchObject([{ seq: 4, base: 8, delivered_seq: 4 }]);
  });
});
