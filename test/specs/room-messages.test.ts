// Messages: posting, editing, deleting, restoring, and who may.
import { describe, test } from "vitest";
import { messageId } from "../../src/contract/ids.ts";
import { NOW } from "../support/given.ts";
import {
  activated,
  adminAnna,
  deactivated,
  deletedBy,
  deleteMessage,
  directRoom,
  edit,
  edited,
  idAt,
  joined,
  key,
  left,
  memberMax,
  messageDeleted,
  ownerOlga,
  post,
  posted,
  privateRoom,
  publicRoom,
  readerRita,
  restore,
  restored,
  room,
  strangerStan,
  updated,
} from "./rooms.ts";

describe("posting", () => {
  test("gives the message the room's next seq in its id, and the next ordinal", () => {
    room(privateRoom).when(post(memberMax)).then(posted(2));
    room(privateRoom, posted(2), joined("sub_new"))
      .when(post(memberMax))
      .then(posted(4, { ordinal: 2 }));
  });

  test("is a member's, an admin's and an owner's, in their own name", () => {
    room(privateRoom)
      .when(post(adminAnna))
      .then(posted(2, { sender: "sub_anna", user: { open: "anna" } }));
    room(privateRoom).when(post(readerRita)).thenRejected("read_only");
    room(privateRoom)
      .when(post(memberMax, { sender: "sub_anna" }))
      .thenRejected("sender_mismatch");
  });

  test("by one who is no member finds no private room, and no membership in a public one", () => {
    room(privateRoom).when(post(strangerStan)).thenRejected("not_found");
    room(publicRoom).when(post(strangerStan)).thenRejected("not_a_member");
    room(privateRoom, left("sub_max")).when(post(memberMax)).thenRejected("not_found");
  });

  test("with the client's key is in the name of a member who may post", () => {
    room(privateRoom).when(post(key)).then(posted(2));
    room(privateRoom)
      .when(post(key, { sender: "sub_stan" }))
      .thenRejected("not_a_member");
    room(privateRoom)
      .when(post(key, { sender: "sub_rita" }))
      .thenRejected("read_only");
  });

  test("of type system is the client's, in anybody's name, and does not count as unread", () => {
    const system = posted(3, { sender: "sub_stan", type: "system", ordinal: 1 });
    room(privateRoom, posted(2))
      .when(post(key, { sender: "sub_stan", user: "max", messageType: "system" }))
      .then(system);
    room(privateRoom, posted(2), system)
      .when(post(memberMax))
      .then(posted(4, { ordinal: 2 }));
    room(privateRoom)
      .when(post(ownerOlga, { messageType: "system" }))
      .thenInvalid("type", "not_allowed");
  });

  test("is refused in an inactive room, until that is active again", () => {
    room(privateRoom, deactivated).when(post(key)).thenRejected("room_inactive");
    room(privateRoom, deactivated, activated)
      .when(post(key))
      .then(posted(4, { ordinal: 1 }));
  });

  test("answers a message of this room", () => {
    const reply = posted(3, { replyTo: idAt(2), ordinal: 2 });
    room(privateRoom, posted(2))
      .when(post(memberMax, { replyTo: idAt(2) }))
      .then(reply);
    room(privateRoom, posted(2), edited(2, "changed"), messageDeleted(2))
      .when(post(memberMax, { replyTo: idAt(2) }))
      .then(posted(5, { replyTo: idAt(2), ordinal: 2 }));
  });

  test.each([
    ["of no message", idAt(1)],
    ["of a seq still to come", idAt(9)],
    ["of another room", messageId("room_other0", 2, NOW)],
    ["with another time", messageId("room_0123456789abcdefghjkmnpqrs", 2, NOW + 1)],
    ["that is damaged", "msg_!"],
  ])("does not answer an id %s", (_which, replyTo) =>
    room(privateRoom, posted(2)).when(post(memberMax, { replyTo })).thenInvalid("reply_to", "not_allowed"),
  );

  test("does without text only for what shows something else, with meta", () => {
    for (const messageType of ["image", "file", "acme.card"]) {
      room(privateRoom)
        .when(post(memberMax, { messageType, content: "", meta: { url: "x" } }))
        .then(posted(2, { type: messageType, content: { open: "" }, meta: { open: { url: "x" } } }));
      room(privateRoom)
        .when(post(memberMax, { messageType, content: "" }))
        .thenInvalid("content", "too_short");
    }
    for (const messageType of ["text", "system"]) {
      room(privateRoom)
        .when(post(key, { messageType, content: "", meta: { url: "x" } }))
        .thenInvalid("content", "too_short");
    }
  });
});

describe("editing", () => {
  test("one's own message is its sender's and the client's, and nobody else's, whatever the role", () => {
    for (const actor of [adminAnna, ownerOlga]) {
      room(privateRoom, posted(2)).when(edit(actor, 2)).thenRejected("role_required");
    }
    for (const actor of [memberMax, key]) {
      room(privateRoom, posted(2)).when(edit(actor, 2)).then(edited(2, "better"));
    }
    room(privateRoom, joined("sub_stan"), posted(3)).when(edit(strangerStan, 3)).thenRejected("role_required");
    room(privateRoom, posted(2)).when(edit(readerRita, 2)).thenRejected("read_only");
    room(privateRoom, posted(2), updated("sub_max", "reader")).when(edit(memberMax, 2)).thenRejected("read_only");
    room(privateRoom, posted(2), left("sub_max")).when(edit(memberMax, 2)).thenRejected("not_found");
  });

  test("keeps what is not named, as it last was", () => {
    room(privateRoom, posted(2), edited(2, "second", { a: 1 }))
      .when(edit(memberMax, 2, { content: null, meta: { b: 2 } }))
      .then(edited(2, "second", { a: 1, b: 2 }));
    room(privateRoom, posted(2), edited(2, "second", { a: 1 }), messageDeleted(2), restored(2))
      .when(edit(memberMax, 2, { content: "third" }))
      .then(edited(2, "third", { a: 1 }));
  });

  test("to what it is changes nothing", () => {
    room(privateRoom, posted(2))
      .when(edit(memberMax, 2, { content: "hello" }))
      .thenNothing();
    room(privateRoom, posted(2), edited(2, "second", { a: 1, b: 2 }))
      .when(edit(memberMax, 2, { content: "second", meta: { b: 2, a: 1 } }))
      .thenNothing();
  });

  test("back to what it first was is a change", () =>
    room(privateRoom, posted(2), edited(2, "second"))
      .when(edit(memberMax, 2, { content: "hello" }))
      .then(edited(2, "hello")));

  test("a deleted message is refused", () =>
    room(privateRoom, posted(2), messageDeleted(2)).when(edit(memberMax, 2)).thenRejected("message_deleted"));

  test("away the text is refused where posting without it is", () => {
    room(privateRoom, posted(2))
      .when(edit(memberMax, 2, { content: "" }))
      .thenInvalid("content", "too_short");
    const image = posted(2, { type: "image", meta: { open: { url: "x" } } });
    room(privateRoom, image)
      .when(edit(memberMax, 2, { content: "" }))
      .then(edited(2, "", { url: "x" }));
    room(privateRoom, image, edited(2, "", { url: "x" }))
      .when(edit(memberMax, 2, { content: null, meta: null }))
      .thenInvalid("content", "too_short");
  });

  test("what was erased keeps it erased, and takes new content", () => {
    const erased = posted(2, { content: { erased: true }, meta: { erased: true } });
    room(privateRoom, erased)
      .when(edit(key, 2, { content: null, meta: { a: 1 } }))
      .then({
        type: "MessageEdited",
        data: {
          ...{ id: idAt(2), messageSeq: 2, sender: "sub_max", content: { erased: true }, meta: { open: { a: 1 } } },
          ...{ mentions: [], everyone: false, unmentioned: [] },
        },
      });
  });
});

describe("deleting and restoring", () => {
  test("are for whom editing is", () => {
    const by = { sender: [memberMax], moderator: [adminAnna, ownerOlga], backend: [key] } as const;
    for (const who of ["sender", "moderator", "backend"] as const)
      for (const actor of by[who]) {
        room(privateRoom, posted(2)).when(deleteMessage(actor, 2)).then(deletedBy(who, 2));
        room(privateRoom, posted(2), messageDeleted(2)).when(restore(actor, 2)).then(restored(2));
      }
    room(privateRoom, joined("sub_stan"), posted(3)).when(deleteMessage(strangerStan, 3)).thenRejected("role_required");
    room(privateRoom, posted(2)).when(deleteMessage(readerRita, 2)).thenRejected("read_only");
    room(publicRoom, posted(2)).when(deleteMessage(strangerStan, 2)).thenRejected("not_a_member");
  });

  test("restore for the sender what it deleted itself, for admins and client keys whatever is deleted", () => {
    for (const by of ["moderator", "backend"] as const) {
      const gone = room(privateRoom, posted(2), deletedBy(by, 2));
      gone.when(restore(memberMax, 2)).thenRejected("role_required");
      gone.when(restore(memberMax, 2, 99)).thenRejected("role_required");
      for (const actor of [adminAnna, ownerOlga, key]) gone.when(restore(actor, 2)).then(restored(2));
    }
    room(directRoom, posted(2), deletedBy("backend", 2)).when(restore(memberMax, 2)).thenRejected("role_required");
    // It was an admin when it deleted its own message, and when another did.
    const admins = [updated("sub_max", "admin"), posted(3)];
    room(privateRoom, ...admins)
      .when(deleteMessage(memberMax, 3))
      .then(deletedBy("sender", 3));
    room(privateRoom, ...admins, deletedBy("moderator", 3))
      .when(restore(memberMax, 3))
      .then(restored(3));
    // The last deletion decides.
    const twice = [deletedBy("moderator", 2), restored(2), deletedBy("sender", 2)];
    room(privateRoom, posted(2), ...twice)
      .when(restore(memberMax, 2))
      .then(restored(2));
    // Nobody knows who it was before events said so.
    room(privateRoom, posted(2), deletedBy(null, 2)).when(restore(memberMax, 2)).then(restored(2));
  });

  test("twice change nothing the second time", () => {
    room(privateRoom, posted(2), messageDeleted(2)).when(deleteMessage(memberMax, 2)).thenNothing();
    room(privateRoom, posted(2)).when(restore(memberMax, 2)).thenNothing();
    room(privateRoom, posted(2), messageDeleted(2), restored(2)).when(restore(memberMax, 2)).thenNothing();
  });

  test("keep count of what is deleted now", () => {
    const history = [privateRoom, posted(2), posted(3), messageDeleted(2), messageDeleted(3), restored(2)];
    room(...history).thenState({ posted: 2, deleted: 1, ordinal: 2, seq: 6 });
  });
});

describe("every change of a message", () => {
  const changes = [edit(memberMax, 2), deleteMessage(memberMax, 2), restore(memberMax, 2)];

  test.each(changes)("finds none where none was posted: $type", (command) => {
    room(privateRoom).when(command).thenRejected("not_found");
    room(privateRoom, joined("sub_new")).when(command).thenRejected("not_found");
    room(privateRoom, posted(2, { id: messageId("room_other0", 2, NOW) }))
      .when(command)
      .thenRejected("not_found");
  });

  test.each(changes)("is refused in an inactive room: $type", (command) =>
    room(privateRoom, posted(2), deactivated).when(command).thenRejected("room_inactive"),
  );

  test("holds to the seq of the message's last change", () => {
    const history = [privateRoom, posted(2), posted(3), edited(2, "second"), messageDeleted(2), restored(2)];
    for (const stale of [1, 2, 3, 4, 5]) {
      room(...history)
        .when(deleteMessage(memberMax, 2, stale))
        .thenRejected("precondition_failed");
      room(...history)
        .when(edit(memberMax, 2, { ifMatch: stale }))
        .thenRejected("precondition_failed");
    }
    room(...history)
      .when(deleteMessage(memberMax, 2, 6))
      .then(messageDeleted(2));
    room(privateRoom, posted(2))
      .when(edit(memberMax, 2, { ifMatch: 2 }))
      .then(edited(2, "better"));
  });

  test("that comes too late says so before the room's activity does", () =>
    room(privateRoom, posted(2), deactivated)
      .when(edit(memberMax, 2, { ifMatch: 9 }))
      .thenRejected("precondition_failed"));
});
