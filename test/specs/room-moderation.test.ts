// Specification of a room: who may post in it, who is kept from it, and how many there may be.
import { describe, test } from "vitest";
import { at, NOW } from "../support/given.ts";
import {
  adminAnna,
  ban,
  banned,
  changeMember,
  createdWith,
  directRoom,
  joined,
  key,
  left,
  memberMax,
  muted,
  ownerOlga,
  post,
  posted,
  privateRoom,
  publicRoom,
  readerRita,
  room,
  STAFF,
  setMember,
  settings,
  strangerStan,
  unban,
  unbanned,
  update,
  updated,
} from "./rooms.ts";

const LATER = NOW + 60_000;

describe("a ban", () => {
  test("removes a member, and says so", () =>
    room(privateRoom)
      .when(ban(adminAnna, "sub_max", LATER, "spam"))
      .then(left("sub_max", "banned"), banned("sub_max", LATER, "spam")));

  test("keeps away who was never there", () => {
    room(publicRoom).when(ban(adminAnna, "sub_stan")).then(banned("sub_stan"));
    room(publicRoom, banned("sub_stan")).when(setMember(strangerStan, "sub_stan")).thenRejected("banned");
  });

  test("holds for who adds others, a client key too", () => {
    for (const actor of [adminAnna, key])
      room(publicRoom, left("sub_max", "banned"), banned("sub_max"))
        .when(setMember(actor, "sub_max"))
        .thenRejected("banned");
  });

  test("of members is the admins', of admins and owners the owners', of the last owner nobody's", () => {
    for (const actor of [memberMax, readerRita])
      room(privateRoom).when(ban(actor, "sub_stan")).thenRejected("role_required");
    room(privateRoom).when(ban(adminAnna, "sub_olga")).thenRejected("role_required");
    room(privateRoom).when(ban(ownerOlga, "sub_anna")).then(left("sub_anna", "banned"), banned("sub_anna"));
    for (const actor of [ownerOlga, key]) room(privateRoom).when(ban(actor, "sub_olga")).thenRejected("last_owner");
    room(directRoom).when(ban(key, "sub_max")).thenRejected("direct_room_fixed");
  });

  test("said twice is one, said differently replaces it", () => {
    const known = banned("sub_stan", LATER, "spam");
    room(publicRoom, known)
      .when(ban(adminAnna, "sub_stan", LATER, "spam"))
      .thenNothing();
    room(publicRoom, known)
      .when(ban(adminAnna, "sub_stan", null, "spam"))
      .then(banned("sub_stan", null, "spam"));
  });

  test("ends by itself", () => {
    const history = [publicRoom, at(NOW - 60_000, banned("sub_stan", NOW))];
    room(...history)
      .when(setMember(strangerStan, "sub_stan"))
      .then(joined("sub_stan"));
    room(...history)
      .when(ban(adminAnna, "sub_stan", LATER))
      .then(banned("sub_stan", LATER));
  });

  test("lifted, lets who was in a public room join it again, and nobody who was removed before", () => {
    const gone = [publicRoom, left("sub_max", "banned"), banned("sub_max")];
    room(...gone)
      .when(unban(adminAnna, "sub_max"))
      .then(unbanned("sub_max"));
    room(...gone)
      .when(unban(memberMax, "sub_max"))
      .thenRejected("not_a_member");
    room(...gone, unbanned("sub_max"))
      .when(setMember(memberMax, "sub_max"))
      .then(joined("sub_max"));
    room(publicRoom, left("sub_max", "removed"), banned("sub_max"), unbanned("sub_max"))
      .when(setMember(memberMax, "sub_max"))
      .thenRejected("removed");
    room(publicRoom).when(unban(adminAnna, "sub_max")).thenNothing();
  });
});

describe("a muted member", () => {
  test("cannot post, nor can a client key for it, until the time is over", () => {
    for (const actor of [memberMax, key])
      room(privateRoom, muted("sub_max", LATER)).when(post(actor)).thenRejected("muted");
    room(privateRoom, muted("sub_max", NOW))
      .when(post(memberMax))
      .then(posted(3, { ordinal: 1 }));
    room(privateRoom, muted("sub_max", LATER), muted("sub_max", null))
      .when(post(memberMax))
      .then(posted(4, { ordinal: 1 }));
  });

  test("stays so when its role, name and meta are replaced", () => {
    room(privateRoom, muted("sub_max", LATER), updated("sub_max", "admin")).when(post(memberMax)).thenRejected("muted");
  });

  test("is muted again when it comes back before the time is over, by itself or not", () => {
    const back = [joined("sub_max"), muted("sub_max", LATER)];
    room(publicRoom, muted("sub_max", LATER), left("sub_max"))
      .when(setMember(memberMax, "sub_max"))
      .then(...back);
    room(privateRoom, muted("sub_max", LATER), left("sub_max", "removed"))
      .when(setMember(adminAnna, "sub_max"))
      .then(...back);
    room(publicRoom, muted("sub_max", LATER), left("sub_max"), ...back, left("sub_max"))
      .when(setMember(memberMax, "sub_max"))
      .then(...back);
    room(publicRoom, at(NOW - 60_000, muted("sub_max", NOW)), at(NOW - 60_000, left("sub_max")))
      .when(setMember(memberMax, "sub_max"))
      .then(joined("sub_max"));
    room(publicRoom, muted("sub_max", LATER), muted("sub_max", null), left("sub_max"))
      .when(setMember(memberMax, "sub_max"))
      .then(joined("sub_max"));
  });

  test("is muted by admins, not by itself, and admins by owners", () => {
    room(privateRoom)
      .when(changeMember(adminAnna, "sub_max", { mutedUntil: LATER }))
      .then(muted("sub_max", LATER));
    room(privateRoom, muted("sub_max", LATER))
      .when(changeMember(memberMax, "sub_max", { mutedUntil: null }))
      .thenRejected("role_required");
    room(privateRoom)
      .when(changeMember(adminAnna, "sub_olga", { mutedUntil: LATER }))
      .thenRejected("role_required");
    room(privateRoom)
      .when(changeMember(ownerOlga, "sub_anna", { mutedUntil: LATER }))
      .then(muted("sub_anna", LATER));
    room(privateRoom)
      .when(changeMember(ownerOlga, "sub_stan", { mutedUntil: LATER }))
      .thenRejected("not_found");
  });
});

describe("changing some of a member", () => {
  test("leaves the rest as it is", () => {
    room(privateRoom)
      .when(changeMember(ownerOlga, "sub_max", { role: "admin", mutedUntil: LATER }))
      .then(updated("sub_max", "admin"), muted("sub_max", LATER));
    room(privateRoom)
      .when(changeMember(memberMax, "sub_max", { meta: null }))
      .thenNothing();
    room(privateRoom)
      .when(changeMember(adminAnna, "sub_max", {}))
      .thenNothing();
  });

  test("keeps to who sets roles", () => {
    room(privateRoom)
      .when(changeMember(adminAnna, "sub_max", { role: "admin" }))
      .thenRejected("role_required");
    room(privateRoom)
      .when(changeMember(ownerOlga, "sub_olga", { role: "member" }))
      .thenRejected("last_owner");
  });
});

describe("a room that is its admins' to post in", () => {
  const announcements = createdWith({ posting: "admins" });

  test("takes posts of admins and owners, also by a client key for them, and of the system", () => {
    room(announcements)
      .when(post(adminAnna))
      .then(posted(2, { sender: "sub_anna", user: { open: "anna" } }));
    room(announcements)
      .when(post(key, { sender: "sub_olga", user: "olga" }))
      .then(posted(2, { sender: "sub_olga", user: { open: "olga" } }));
    room(announcements)
      .when(post(key, { messageType: "system" }))
      .then(posted(2, { type: "system", ordinal: 0 }));
  });

  test("takes none of members, also not by a client key for them", () => {
    for (const actor of [memberMax, key]) room(announcements).when(post(actor)).thenRejected("read_only");
  });

  test("is no direct room", () =>
    room(directRoom)
      .when(update(key, { posting: "admins" }))
      .thenInvalid("posting", "not_allowed"));
});

describe("a room with a limit", () => {
  test("takes nobody beyond it, and keeps those who are there", () => {
    const four = createdWith({ maxMembers: 4 });
    room(four).when(setMember(key, "sub_new")).thenRejected("room_full");
    room(four, left("sub_max")).when(setMember(key, "sub_new")).then(joined("sub_new"));
    room(createdWith({ maxMembers: 2 }))
      .when(setMember(key, "sub_new"))
      .thenRejected("room_full");
  });

  test("is not made with more", () => {
    room()
      .when({ type: "Create", at: NOW, settings: settings({ maxMembers: 3 }), externalId: null, members: STAFF })
      .thenRejected("room_full");
  });
});
