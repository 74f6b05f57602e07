// Messages that grow: from their posting to their end, and what may be done to them meanwhile.
import { describe, test } from "vitest";
import { MAX_GROWING_IN_ROOM } from "../../src/domain/growing-message.ts";
import { NOW } from "../support/given.ts";
import {
  adminAnna,
  cancel,
  complete,
  deactivated,
  deleteMessage,
  edit,
  edited,
  grown,
  idAt,
  key,
  left,
  memberMax,
  messageDeleted,
  muted,
  ownerOlga,
  post,
  posted,
  privateRoom,
  restore,
  restored,
  room,
} from "./rooms.ts";

const growing = (seq = 2, content = "") => posted(seq, { growing: true, ordinal: seq - 2, content: { open: content } });
const begun = room(privateRoom, growing());

describe("a growing message", () => {
  test("begins empty, and does not count until its end", () => {
    room(privateRoom)
      .when(post(memberMax, { content: "", growing: true }))
      .then(growing());
    room(privateRoom, growing(), posted(3, { ordinal: 1 }))
      .when(complete(memberMax, 2, "Hello"))
      .then(grown("MessageCompleted", 2, "Hello", { ordinal: 2 }));
  });

  test("is completed by its sender or a client key, and by nobody else", () => {
    begun.when(complete(memberMax, 2, "Hello")).then(grown("MessageCompleted", 2, "Hello"));
    begun.when(complete(key, 2, "Hello")).then(grown("MessageCompleted", 2, "Hello"));
    begun.when(complete(adminAnna, 2, "Hello")).thenRejected("sender_mismatch");
    begun.when(cancel(ownerOlga, 2, "Hel")).thenRejected("sender_mismatch");
  });

  test("is not completed without text, and may be given up without", () => {
    begun.when(complete(memberMax, 2, "")).thenInvalid("content", "too_short");
    begun.when(complete(memberMax, 2, null)).thenInvalid("content", "too_short");
    begun.when(cancel(memberMax, 2, null)).then(grown("MessageCancelled", 2, ""));
  });

  test("keeps what it was posted with where nothing was appended", () => {
    room(privateRoom, growing(2, "Hi"))
      .when(complete(memberMax, 2, null))
      .then(grown("MessageCompleted", 2, "Hi"));
  });

  test("ends once: the same end again changes nothing, another is refused", () => {
    const done = room(privateRoom, growing(), grown("MessageCompleted", 2, "Hello"));
    done.when(complete(memberMax, 2, null)).thenNothing();
    done.when(complete(memberMax, 2, "Hello", true)).thenNothing();
    done.when(complete(memberMax, 2, "Other", true)).thenRejected("not_growing");
    done.when(cancel(memberMax, 2, null)).thenRejected("not_growing");
    const given = room(privateRoom, growing(), grown("MessageCancelled", 2, "Hel"));
    given.when(cancel(memberMax, 2, null)).thenNothing();
    given.when(complete(memberMax, 2, "Hello")).thenRejected("not_growing");
    room(privateRoom, posted(2))
      .when(complete(memberMax, 2, "Hello"))
      .thenRejected("not_growing");
  });

  test("ends only as it was seen: with the seq of its posting until its end, with that of its end after it", () => {
    begun.when(complete(memberMax, 2, "Hello", false, 2)).then(grown("MessageCompleted", 2, "Hello"));
    begun.when(cancel(memberMax, 2, "Hel", 2)).then(grown("MessageCancelled", 2, "Hel"));
    for (const stale of [1, 3]) {
      begun.when(complete(memberMax, 2, "Hello", false, stale)).thenRejected("precondition_failed");
      begun.when(cancel(memberMax, 2, "Hel", stale)).thenRejected("precondition_failed");
      begun.when(complete(adminAnna, 2, "Hello", false, stale)).thenRejected("sender_mismatch");
      begun.when(complete(memberMax, 2, "", false, stale)).thenInvalid("content", "too_short");
      room(privateRoom, growing(), deactivated)
        .when(complete(memberMax, 2, "Hello", false, stale))
        .thenRejected("precondition_failed");
    }
    const done = room(privateRoom, growing(), grown("MessageCompleted", 2, "Hello"));
    done.when(complete(memberMax, 2, null, false, 3)).thenNothing();
    done.when(complete(memberMax, 2, null, false, 2)).thenRejected("precondition_failed");
    done.when(cancel(memberMax, 2, null, 2)).thenRejected("precondition_failed");
  });

  test("takes no edit until its end", () => {
    begun.when(edit(memberMax, 2)).thenRejected("message_growing");
    begun.when(restore(memberMax, 2)).thenRejected("message_growing");
    room(privateRoom, growing(), grown("MessageCompleted", 2, "Hello"))
      .when(edit(memberMax, 2))
      .then(edited(2, "better"));
  });

  test("ends with its deletion, and comes back as it was then", () => {
    begun.when(deleteMessage(adminAnna, 2)).thenRejected("message_growing");
    begun
      .when({ ...deleteMessage(adminAnna, 2), grown: { open: "Hel" } } as never)
      .then(grown("MessageCancelled", 2, "Hel"), messageDeleted(2, null, 3, "moderator"));
    room(privateRoom, growing(), grown("MessageCancelled", 2, "Hel"), messageDeleted(2, null, 3))
      .when(restore(memberMax, 2))
      .then(restored(2, null, 3));
  });

  test("of a sender who may not post any more is given up, not completed", () => {
    room(privateRoom, growing(), muted("sub_max", NOW + 1))
      .when(complete(memberMax, 2, "Hello"))
      .thenRejected("muted");
    room(privateRoom, growing(), left("sub_max", "removed"))
      .when(complete(key, 2, "Hello"))
      .thenRejected("not_a_member");
    room(privateRoom, growing(), left("sub_max", "removed"))
      .when(cancel(key, 2, "Hel"))
      .then(grown("MessageCancelled", 2, "Hel"));
    room(privateRoom, growing(), deactivated)
      .when(complete(memberMax, 2, "Hello"))
      .thenRejected("room_inactive");
  });

  test("is one of so many in a room", () => {
    const many = Array.from({ length: MAX_GROWING_IN_ROOM }, (_, index) =>
      posted(index + 2, { growing: true, id: idAt(index + 2), ordinal: 0 }),
    );
    room(privateRoom, ...many)
      .when(post(memberMax, { growing: true }))
      .thenRejected("too_many_growing");
    room(privateRoom, ...many)
      .when(post(memberMax))
      .then(posted(MAX_GROWING_IN_ROOM + 2, { ordinal: 1 }));
  });
});
