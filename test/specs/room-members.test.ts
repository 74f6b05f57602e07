// Who belongs to a room, and who decides that.
import { describe, expect, test } from "vitest";
import type { Subject } from "../../src/contract/ids.ts";
import type { Actor } from "../../src/domain/decider.ts";
import { roomDecider } from "../../src/domain/room.ts";
import { stateAfter } from "../support/given.ts";
import {
  adminAnna,
  change,
  created,
  createdWith,
  deactivated,
  deleteMessage,
  directRoom,
  edit,
  joined,
  key,
  left,
  member,
  memberMax,
  messageDeleted,
  ownerOlga,
  person,
  post,
  posted,
  privateRoom,
  publicRoom,
  readerRita,
  removeMember,
  room,
  setMember,
  strangerStan,
  update,
  updated,
} from "./rooms.ts";

/** Someone who was given a name. */
const renamed = (subject: Subject) => ({ ...person(subject), name: { open: "New" } });

const marked = (subject: Subject) => ({ ...person(subject), meta: { open: { seat: 3 } } });

describe("adding a person", () => {
  test("makes a member, unless it says otherwise", () => {
    room(privateRoom).when(setMember(key, "sub_new")).then(joined("sub_new"));
    room(privateRoom)
      .when(setMember(key, "sub_new", "owner"))
      .then(joined("sub_new", "owner"));
  });

  test("as member or reader is an admin's; with a higher role an owner's", () => {
    for (const role of ["member", "reader"] as const) {
      room(privateRoom)
        .when(setMember(adminAnna, "sub_new", role))
        .then(joined("sub_new", role));
    }
    for (const role of ["admin", "owner"] as const) {
      room(privateRoom)
        .when(setMember(adminAnna, "sub_new", role))
        .thenRejected("role_required");
      room(privateRoom)
        .when(setMember(ownerOlga, "sub_new", role))
        .then(joined("sub_new", role));
    }
  });

  test("is nobody else's", () => {
    for (const actor of [memberMax, readerRita]) {
      room(privateRoom).when(setMember(actor, "sub_new")).thenRejected("role_required");
    }
    room(privateRoom).when(setMember(strangerStan, "sub_new")).thenRejected("not_found");
    room(publicRoom).when(setMember(strangerStan, "sub_new")).thenRejected("not_a_member");
  });

  test("to a direct room is refused", () =>
    room(directRoom).when(setMember(key, "sub_new")).thenRejected("direct_room_fixed"));

  test(`is refused when 50,000 are there, but those can still be changed`, () => {
    const full = created(Array.from({ length: 50_000 }, (_, index) => member(`sub_${index}`)));
    room(full).when(setMember(key, "sub_new")).thenRejected("room_full");
    room(full)
      .when(setMember(key, "sub_7", "admin"))
      .then(updated("sub_7", "admin"));
  });

  test("goes on in an inactive room", () =>
    room(privateRoom, deactivated).when(setMember(key, "sub_new")).then(joined("sub_new")));
});

describe("joining by oneself", () => {
  test("makes a member of a public room", () => {
    room(publicRoom).when(setMember(strangerStan, "sub_stan")).then(joined("sub_stan"));
    room(publicRoom)
      .when(setMember(strangerStan, "sub_stan", "member"))
      .then(joined("sub_stan"));
  });

  test("gives the role that the room says", () => {
    const readers = createdWith({ kind: "public", joinRole: "reader" });
    room(readers).when(setMember(strangerStan, "sub_stan")).then(joined("sub_stan", "reader"));
    room(readers)
      .when(setMember(strangerStan, "sub_stan", "member"))
      .thenRejected("role_required");
    room(readers).when(setMember(adminAnna, "sub_stan")).then(joined("sub_stan"));
  });

  test("gives back no more than what one left with", () => {
    room(publicRoom, left("sub_rita")).when(setMember(readerRita, "sub_rita")).then(joined("sub_rita", "reader"));
    room(publicRoom, left("sub_rita"))
      .when(setMember(readerRita, "sub_rita", "member"))
      .thenRejected("role_required");
    room(publicRoom, left("sub_anna")).when(setMember(adminAnna, "sub_anna")).then(joined("sub_anna"));
    room(publicRoom, left("sub_rita"), joined("sub_rita"), left("sub_rita"))
      .when(setMember(readerRita, "sub_rita"))
      .then(joined("sub_rita"));
  });

  test("is over for who was removed, until somebody else adds them", () => {
    const removed = left("sub_max", "removed");
    room(publicRoom, removed).when(setMember(memberMax, "sub_max")).thenRejected("removed");
    room(publicRoom, removed).when(setMember(adminAnna, "sub_max")).then(joined("sub_max"));
    room(publicRoom, removed, joined("sub_max"), left("sub_max"))
      .when(setMember(memberMax, "sub_max"))
      .then(joined("sub_max"));
  });

  test("never with another role", () => {
    for (const role of ["reader", "admin", "owner"] as const) {
      room(publicRoom)
        .when(setMember(strangerStan, "sub_stan", role))
        .thenRejected("role_required");
    }
  });

  test("finds no private or direct room", () => {
    room(privateRoom).when(setMember(strangerStan, "sub_stan")).thenRejected("not_found");
    room(directRoom).when(setMember(strangerStan, "sub_stan")).thenRejected("not_found");
  });

  test("who left a private room does not come back alone", () =>
    room(privateRoom, left("sub_max")).when(setMember(memberMax, "sub_max")).thenRejected("not_found"));
});

describe("changing a member", () => {
  test("who already is what is asked changes nothing", () => {
    room(privateRoom)
      .when(setMember(key, "sub_max", "member"))
      .thenNothing();
    room(privateRoom).when(setMember(key, "sub_anna")).thenNothing();
  });

  test("keeps the role when none is given", () => {
    const named = { ...person("sub_anna"), name: { open: "Anna" } };
    room(privateRoom)
      .when(setMember(key, "sub_anna", null, { member: named }))
      .then({ type: "MemberUpdated", data: { ...named, role: "admin" } });
  });

  test("by name and meta is the member's own affair, whatever the role", () => {
    for (const actor of [ownerOlga, adminAnna, memberMax, readerRita]) {
      const subject = actor.type === "user" ? actor.id : "sub_max";
      const role =
        subject === "sub_olga"
          ? "owner"
          : subject === "sub_anna"
            ? "admin"
            : subject === "sub_max"
              ? "member"
              : "reader";
      room(privateRoom)
        .when(setMember(actor, subject, null, { member: renamed(subject) }))
        .then({ type: "MemberUpdated", data: { ...renamed(subject), role } });
    }
  });

  test("of members and readers is an admin's; of admins and owners an owner's", () => {
    const mark = (actor: Actor, subject: Subject) =>
      room(privateRoom).when(setMember(actor, subject, null, { member: marked(subject) }));
    mark(adminAnna, "sub_max").then({ type: "MemberUpdated", data: { ...marked("sub_max"), role: "member" } });
    mark(adminAnna, "sub_olga").thenRejected("role_required");
    mark(ownerOlga, "sub_anna").then({ type: "MemberUpdated", data: { ...marked("sub_anna"), role: "admin" } });
    mark(memberMax, "sub_rita").thenRejected("role_required");
  });

  test("by another user leaves the member's name as it is", () => {
    const named = joined("sub_nora", "member", { open: "Nora" });
    for (const given of [null, { open: "Not Nora" }]) {
      room(privateRoom, named)
        .when(setMember(ownerOlga, "sub_nora", "admin", { member: { ...person("sub_nora"), name: given } }))
        .then({ type: "MemberUpdated", data: { ...person("sub_nora"), name: { open: "Nora" }, role: "admin" } });
    }
    room(privateRoom, named).when(setMember(key, "sub_nora")).then(updated("sub_nora", "member"));
  });

  test("to another role is an owner's", () => {
    for (const role of ["reader", "admin", "owner"] as const) {
      room(privateRoom)
        .when(setMember(ownerOlga, "sub_max", role))
        .then(updated("sub_max", role));
      room(privateRoom)
        .when(setMember(adminAnna, "sub_max", role))
        .thenRejected("role_required");
      room(privateRoom)
        .when(setMember(memberMax, "sub_max", role))
        .thenRejected("role_required");
    }
    room(privateRoom)
      .when(setMember(adminAnna, "sub_anna", "member"))
      .thenRejected("role_required");
  });
});

describe("removing a person", () => {
  test("of members and readers is an admin's; of admins and owners an owner's", () => {
    room(privateRoom).when(removeMember(adminAnna, "sub_max")).then(left("sub_max", "removed"));
    room(privateRoom).when(removeMember(adminAnna, "sub_rita")).then(left("sub_rita", "removed"));
    room(privateRoom).when(removeMember(adminAnna, "sub_olga")).thenRejected("role_required");
    room(privateRoom, updated("sub_max", "admin"))
      .when(removeMember(adminAnna, "sub_max"))
      .thenRejected("role_required");
    room(privateRoom).when(removeMember(ownerOlga, "sub_anna")).then(left("sub_anna", "removed"));
    room(privateRoom).when(removeMember(memberMax, "sub_rita")).thenRejected("role_required");
    room(privateRoom).when(removeMember(key, "sub_anna")).then(left("sub_anna", "removed"));
  });

  test("who is not there changes nothing, for those who may", () => {
    room(privateRoom).when(removeMember(adminAnna, "sub_stan")).thenNothing();
    room(privateRoom).when(removeMember(memberMax, "sub_stan")).thenRejected("role_required");
    room(privateRoom).when(removeMember(strangerStan, "sub_max")).thenRejected("not_found");
    room(publicRoom).when(removeMember(strangerStan, "sub_max")).thenRejected("not_a_member");
  });

  test("from a direct room is a client key's alone, which may add the same person again", () => {
    room(directRoom).when(removeMember(key, "sub_max")).then(left("sub_max", "removed"));
    room(directRoom, left("sub_max", "removed")).when(setMember(key, "sub_max")).then(joined("sub_max"));
    room(directRoom, left("sub_max", "removed")).when(setMember(key, "sub_new")).thenRejected("direct_room_fixed");
    room(directRoom).when(removeMember(memberMax, "sub_max")).thenRejected("forbidden");
    room(directRoom).when(removeMember(memberMax, "sub_olga")).thenRejected("role_required");
  });
});

describe("leaving", () => {
  test("is open to every member, also of an inactive room", () => {
    for (const actor of [adminAnna, memberMax, readerRita] as const) {
      if (actor.type !== "user") continue;
      room(privateRoom, deactivated).when(removeMember(actor, actor.id)).then(left(actor.id));
    }
  });

  test("a room that one is not in changes nothing when it is public, else there is none", () => {
    room(publicRoom).when(removeMember(strangerStan, "sub_stan")).thenNothing();
    room(privateRoom).when(removeMember(strangerStan, "sub_stan")).thenRejected("not_found");
  });
});

describe("the last owner", () => {
  test("of others neither leaves, nor is removed, nor demoted, by whomever", () => {
    room(privateRoom).when(removeMember(ownerOlga, "sub_olga")).thenRejected("last_owner");
    room(privateRoom).when(removeMember(key, "sub_olga")).thenRejected("last_owner");
    room(privateRoom)
      .when(setMember(ownerOlga, "sub_olga", "admin"))
      .thenRejected("last_owner");
    room(privateRoom)
      .when(setMember(key, "sub_olga", "reader"))
      .thenRejected("last_owner");
  });

  test("alone in the room may", () => {
    const alone = created([member("sub_olga", "owner")]);
    room(alone).when(removeMember(ownerOlga, "sub_olga")).then(left("sub_olga"));
    room(alone)
      .when(setMember(key, "sub_olga", "member"))
      .then(updated("sub_olga", "member"));
  });

  test("is not the last when there is another", () => {
    room(privateRoom, updated("sub_anna", "owner")).when(removeMember(ownerOlga, "sub_olga")).then(left("sub_olga"));
    room(privateRoom, joined("sub_new", "owner"), left("sub_new"))
      .when(removeMember(ownerOlga, "sub_olga"))
      .thenRejected("last_owner");
  });
});

describe("in a direct room", () => {
  // As rooms were made once: by one of the two, as its owner.
  const old = created([member("sub_olga", "owner"), member("sub_max", "reader")], "direct");

  test("both are members, whatever they were made as", () => {
    room(old).when(post(memberMax)).then(posted(2));
    for (const type of ["Deactivate", "Delete"] as const) {
      room(old).when(change(type, ownerOlga)).thenRejected("role_required");
      room(old)
        .when(change(type, key))
        .then({ type: type === "Delete" ? "RoomDeleted" : "RoomDeactivated", data: {} });
    }
    room(old)
      .when(update(ownerOlga, { name: "Mine" }))
      .thenRejected("role_required");
    room(old)
      .when(setMember(ownerOlga, "sub_max", "reader"))
      .thenRejected("role_required");
    room(old)
      .when(setMember(key, "sub_max", "reader"))
      .thenInvalid("role", "not_allowed");
  });

  test("nobody changes or deletes what the other said", () => {
    room(old, posted(2)).when(edit(ownerOlga, 2)).thenRejected("role_required");
    room(old, posted(2)).when(deleteMessage(ownerOlga, 2)).thenRejected("role_required");
    room(old, posted(2)).when(deleteMessage(memberMax, 2)).then(messageDeleted(2));
  });
});

test("a room knows its members and how many of them are owners", () => {
  const state = stateAfter(roomDecider, [
    privateRoom,
    joined("sub_new", "owner"),
    updated("sub_anna", "owner"),
    left("sub_olga"),
  ]);
  if (state.status !== "live") throw new Error("the room should be live");
  expect(new Map(Array.from(state.members.entries(), ([subject, { role }]) => [subject, role]))).toEqual(
    new Map([
      ["sub_anna", "owner"],
      ["sub_max", "member"],
      ["sub_rita", "reader"],
      ["sub_new", "owner"],
    ]),
  );
  expect(state.owners).toBe(2);
});
