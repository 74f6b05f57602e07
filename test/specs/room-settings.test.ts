// A room's life: creation, settings, activity, deletion.
import { describe, test } from "vitest";
import type { RoomKind } from "../../src/contract/rooms.ts";
import type { RoomCommand } from "../../src/domain/room.ts";
import type { MemberData } from "../../src/domain/room-state.ts";
import { at, NOW } from "../support/given.ts";
import {
  activated,
  adminAnna,
  change,
  created,
  deactivated,
  deleted,
  directRoom,
  joined,
  key,
  member,
  memberMax,
  ownerOlga,
  posted,
  privateRoom,
  publicRoom,
  readerRita,
  room,
  STAFF,
  settings,
  strangerStan,
  update,
} from "./rooms.ts";

const create = (members: readonly MemberData[] = STAFF, kind: RoomKind = "private"): RoomCommand => ({
  type: "Create",
  at: NOW,
  settings: settings({ kind }),
  externalId: null,
  members,
});

describe("creating a room", () => {
  test("makes it with its members", () => room().when(create()).then(privateRoom));
  test("needs neither members nor an owner", () => room().when(create([])).then(created([])));
  test("twice makes one", () => room(privateRoom).when(create()).thenNothing());
  test("again after its deletion makes none", () => room(privateRoom, deleted).when(create()).thenNothing());
  test("with the same person twice is refused", () =>
    room()
      .when(create([member("sub_max"), member("sub_max", "owner")]))
      .thenInvalid("members", "not_allowed"));

  test("for two people in direct takes exactly two", () => {
    const [one, two, three] = [member("sub_olga"), member("sub_max"), member("sub_anna")];
    room()
      .when(create([two, one], "direct"))
      .then(directRoom);
    room()
      .when(create([one], "direct"))
      .thenInvalid("members", "too_short");
    room()
      .when(create([one, two, three], "direct"))
      .thenInvalid("members", "too_long");
  });
});

describe("a room that was never made, or is deleted,", () => {
  const commands = [change("Delete", key), change("Deactivate", key), update(key, { name: "x" })];
  test.each(commands)("is not found: $type", (command) => {
    room().when(command).thenRejected("not_found");
    room(privateRoom, deleted).when(command).thenRejected("not_found");
  });
});

describe("changing the settings", () => {
  test("keeps what is not named", () =>
    room(privateRoom)
      .when(update(key, { name: "New" }))
      .then({ type: "RoomUpdated", data: settings({ name: "New" }) }));

  test("is an admin's and an owner's", () => {
    for (const actor of [ownerOlga, adminAnna]) {
      room(privateRoom)
        .when(update(actor, { kind: "public" }))
        .then({ type: "RoomUpdated", data: settings({ kind: "public" }) });
    }
    for (const actor of [memberMax, readerRita]) {
      room(privateRoom)
        .when(update(actor, { name: "New" }))
        .thenRejected("role_required");
    }
  });

  test("by one who is no member finds no private room, and no membership in a public one", () => {
    room(privateRoom)
      .when(update(strangerStan, { name: "New" }))
      .thenRejected("not_found");
    room(publicRoom)
      .when(update(strangerStan, { name: "New" }))
      .thenRejected("not_a_member");
  });

  test("to what they are changes nothing, in whatever order meta comes", () =>
    room({ type: "RoomCreated", data: { ...settings({ meta: { a: 1, b: 2 } }), externalId: null, members: [] } })
      .when(update(key, { name: "Team", meta: { b: 2, a: 1 } }))
      .thenNothing());

  test("makes meta from what it is at that moment", () =>
    room({ type: "RoomCreated", data: { ...settings({ meta: { a: 1 } }), externalId: null, members: [] } })
      .when(update(key, { meta: { b: 2 } }))
      .then({ type: "RoomUpdated", data: settings({ meta: { a: 1, b: 2 } }) }));

  test("never makes a direct room another kind, nor another kind direct", () => {
    room(directRoom)
      .when(update(key, { kind: "public" }))
      .thenRejected("direct_room_fixed");
    room(privateRoom)
      .when(update(key, { kind: "direct" }))
      .thenRejected("direct_room_fixed");
    room(directRoom)
      .when(update(key, { kind: "direct" }))
      .thenNothing();
  });

  test("goes on in an inactive room", () =>
    room(privateRoom, deactivated)
      .when(update(key, { name: "New" }))
      .then({ type: "RoomUpdated", data: settings({ name: "New" }) }));
});

describe("a room's ETag", () => {
  test("is the seq of its last change of settings or activity, not of what else happens in it", () => {
    const history = [privateRoom, deactivated, activated, joined("sub_new"), posted(5)];
    room(...history)
      .when(update(key, { name: "New" }, 3))
      .then({ type: "RoomUpdated", data: settings({ name: "New" }) });
    for (const stale of [1, 2, 4, 5]) {
      room(...history)
        .when(update(key, { name: "New" }, stale))
        .thenRejected("precondition_failed");
    }
    room(...history).thenState({ seq: 5, settingsSeq: 3 });
  });

  test("that is stale goes before a conflict, and after a missing role", () => {
    room(directRoom)
      .when(update(key, { kind: "public" }, 9))
      .thenRejected("precondition_failed");
    room(privateRoom)
      .when(change("Delete", memberMax, 9))
      .thenRejected("role_required");
    room(privateRoom)
      .when(change("Delete", key, 9))
      .thenRejected("precondition_failed");
    room(privateRoom)
      .when(change("Deactivate", key, 9))
      .thenRejected("precondition_failed");
  });
});

describe("deactivating, activating and deleting", () => {
  test("are an owner's, or the client's", () => {
    for (const actor of [key, ownerOlga]) {
      room(privateRoom).when(change("Deactivate", actor)).then(deactivated);
      room(privateRoom, deactivated).when(change("Activate", actor)).then(activated);
      room(privateRoom).when(change("Delete", actor)).then(deleted);
    }
    for (const actor of [adminAnna, memberMax, readerRita]) {
      for (const type of ["Deactivate", "Activate", "Delete"] as const) {
        room(privateRoom).when(change(type, actor)).thenRejected("role_required");
      }
    }
    room(privateRoom).when(change("Delete", strangerStan)).thenRejected("not_found");
  });

  test("to what already holds change nothing", () => {
    room(privateRoom).when(change("Activate", key)).thenNothing();
    room(privateRoom, deactivated).when(change("Deactivate", key)).thenNothing();
  });

  test("work in an inactive room", () =>
    room(privateRoom, deactivated).when(change("Delete", ownerOlga)).then(deleted));
});

describe("abandoning a room", () => {
  const abandon: RoomCommand = { type: "Abandon", at: NOW };
  test("that was never made settles that it never is", () => {
    room().when(abandon).then(deleted);
    room(deleted).when(create()).thenNothing();
    room(deleted).when(change("Delete", key)).thenRejected("not_found");
  });
  test("that was made, or is abandoned, changes nothing", () => {
    room(privateRoom).when(abandon).thenNothing();
    room(deleted).when(abandon).thenNothing();
    room(privateRoom, deleted).when(abandon).thenNothing();
  });
});

test("a room's times are those of its creation and of its last change of settings", () =>
  room(privateRoom, at(NOW + 5, deactivated), at(NOW + 9, posted(3))).thenState({
    createdAt: NOW,
    updatedAt: NOW + 5,
  }));
