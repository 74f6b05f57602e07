// Specification of a room: threads under its messages, and whom messages mention.
import { describe, test } from "vitest";
import type { Subject } from "../../src/contract/ids.ts";
import {
  adminAnna,
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
  restore,
  restored,
  room,
} from "./rooms.ts";

const underFirst = { thread: { id: idAt(2), seq: 2 } };
const inThread = { to: 2, sender: "sub_max" } as const;

describe("a thread", () => {
  test("is under a message that is in none itself", () => {
    room(privateRoom, posted(2))
      .when(post(memberMax, { threadOf: idAt(2) }))
      .then(posted(3, { ...underFirst }));
    room(privateRoom, posted(2), messageDeleted(2))
      .when(post(memberMax, { threadOf: idAt(2) }))
      .then(posted(4, { ...underFirst, ordinal: 2 }));
    room(privateRoom, posted(2), posted(3, underFirst))
      .when(post(memberMax, { threadOf: idAt(3) }))
      .thenInvalid("thread_of", "not_allowed");
  });

  test("is under no event that is none, and under no message of elsewhere", () => {
    for (const threadOf of [idAt(1), idAt(9), "msg_nothing"])
      room(privateRoom, posted(2)).when(post(memberMax, { threadOf })).thenInvalid("thread_of", "not_allowed");
  });

  test("is named by what becomes of its replies", () => {
    const history = [privateRoom, posted(2), posted(3, underFirst)];
    room(...history)
      .when(deleteMessage(memberMax, 3))
      .then(messageDeleted(3, inThread));
    room(...history, messageDeleted(3, inThread))
      .when(restore(memberMax, 3))
      .then(restored(3, inThread));
    room(...history)
      .when(deleteMessage(memberMax, 2))
      .then(messageDeleted(2));
  });
});

const mention = (...subjects: Subject[]) => ({
  people: subjects.map((subject, at) => ({ subject, user: subject.slice(4), at })),
  everyone: null,
});
const all = { people: [], everyone: 0 };
const mentioned = (...subjects: Subject[]) => ({
  mentions: subjects.map((subject) => ({ subject, user: { open: subject.slice(4) } })),
});

describe("a mention", () => {
  test("is of members", () => {
    room(privateRoom)
      .when(post(memberMax, { mentions: mention("sub_olga", "sub_rita") }))
      .then(posted(2, mentioned("sub_olga", "sub_rita")));
    for (const actor of [memberMax, key])
      room(privateRoom)
        .when(post(actor, { mentions: mention("sub_olga", "sub_stan") }))
        .thenInvalid("mentions.1", "not_allowed");
  });

  test("of everyone is for admins and client keys", () => {
    room(privateRoom)
      .when(post(memberMax, { mentions: all }))
      .thenInvalid("mentions.0", "not_allowed");
    room(directRoom)
      .when(post(ownerOlga, { mentions: all }))
      .thenInvalid("mentions.0", "not_allowed");
    room(privateRoom)
      .when(post(key, { mentions: all }))
      .then(posted(2, { everyone: true }));
    const byAnna = { sender: "sub_anna", user: { open: "anna" }, everyone: true } as const;
    room(privateRoom)
      .when(post(adminAnna, { mentions: all }))
      .then(posted(2, byAnna));
  });

  test("is changed by an edit, and stays where an edit says nothing of it", () => {
    const said = posted(2, mentioned("sub_olga", "sub_rita"));
    const same = { content: null } as const;
    room(privateRoom, said)
      .when(edit(memberMax, 2, { ...same, mentions: mention("sub_rita") }))
      .then(edited(2, "hello", {}, { ...mentioned("sub_rita"), unmentioned: ["sub_olga"] }));
    room(privateRoom, said)
      .when(edit(memberMax, 2))
      .then(edited(2, "better", {}, mentioned("sub_olga", "sub_rita")));
    room(privateRoom, said)
      .when(edit(memberMax, 2, { ...same, mentions: mention("sub_olga", "sub_rita") }))
      .then();
    room(privateRoom, said)
      .when(edit(memberMax, 2, { ...same, mentions: mention("sub_olga", "sub_stan") }))
      .thenInvalid("mentions.1", "not_allowed");
  });

  test("of one who has left meanwhile may stay", () =>
    room(privateRoom, joined("sub_stan"), posted(3, mentioned("sub_stan")), left("sub_stan"))
      .when(edit(memberMax, 3, { mentions: mention("sub_stan") }))
      .then(edited(3, "better", {}, mentioned("sub_stan"))));
});
