// Specification of a room: reactions to its messages.
import { describe, expect, test } from "vitest";
import { emoji, MAX_EMOJI } from "../../src/contract/messages.ts";
import {
  deactivated,
  key,
  left,
  memberMax,
  messageDeleted,
  ownerOlga,
  posted,
  privateRoom,
  publicRoom,
  react,
  reacted,
  readerRita,
  restored,
  room,
  strangerStan,
  unreacted,
} from "./rooms.ts";

const canonicalEmoji = (text: string) => emoji.safeParse(text).data;
const THUMB = "👍";
const said = [privateRoom, posted(2)];

describe("a reaction", () => {
  test("is a member's, once, until it takes it back", () => {
    room(...said)
      .when(react("React", memberMax, 2, THUMB))
      .then(reacted(2, "sub_max", THUMB));
    room(...said, reacted(2, "sub_max", THUMB))
      .when(react("React", memberMax, 2, THUMB))
      .then();
    room(...said, reacted(2, "sub_max", THUMB))
      .when(react("Unreact", memberMax, 2, THUMB))
      .then(unreacted(2, "sub_max", THUMB));
    room(...said)
      .when(react("Unreact", memberMax, 2, THUMB))
      .then();
    room(...said, reacted(2, "sub_max", THUMB), unreacted(2, "sub_max", THUMB))
      .when(react("React", memberMax, 2, THUMB))
      .then(reacted(2, "sub_max", THUMB));
  });

  test("is made by a client key for a member, and by nobody for another", () => {
    room(...said)
      .when(react("React", key, 2, THUMB, "sub_olga"))
      .then(reacted(2, "sub_olga", THUMB));
    for (const type of ["React", "Unreact"] as const) {
      room(...said)
        .when(react(type, key, 2, THUMB, "sub_stan"))
        .thenRejected("not_a_member");
      room(...said)
        .when(react(type, ownerOlga, 2, THUMB, "sub_max"))
        .thenRejected("sender_mismatch");
    }
  });

  test("is refused to readers, strangers and who has left", () => {
    room(...said)
      .when(react("React", readerRita, 2, THUMB))
      .thenRejected("read_only");
    room(...said)
      .when(react("React", key, 2, THUMB, "sub_rita"))
      .thenRejected("read_only");
    room(...said)
      .when(react("React", strangerStan, 2, THUMB))
      .thenRejected("not_found");
    room(publicRoom, posted(2))
      .when(react("React", strangerStan, 2, THUMB))
      .thenRejected("not_a_member");
    room(...said, left("sub_max", "removed"))
      .when(react("React", memberMax, 2, THUMB))
      .thenRejected("not_found");
    room(...said, left("sub_max", "banned"))
      .when(react("Unreact", key, 2, THUMB))
      .thenRejected("not_a_member");
  });

  test("needs a message that is there, in a room that is in use", () => {
    room(privateRoom, left("sub_anna"))
      .when(react("React", memberMax, 2, THUMB))
      .thenRejected("not_found");
    for (const type of ["React", "Unreact"] as const) {
      room(...said, messageDeleted(2))
        .when(react(type, memberMax, 2, THUMB))
        .thenRejected("message_deleted");
      room(...said, deactivated)
        .when(react(type, memberMax, 2, THUMB))
        .thenRejected("room_inactive");
    }
    room(...said, reacted(2, "sub_max", THUMB), messageDeleted(2), restored(2))
      .when(react("React", memberMax, 2, THUMB))
      .then();
  });

  test("is one of at most fifty emoji on a message, and others may join those", () => {
    const full = Array.from({ length: MAX_EMOJI }, (_, nth) => reacted(2, "sub_olga", `:e${nth}:`));
    room(...said, ...full)
      .when(react("React", memberMax, 2, THUMB))
      .thenRejected("too_many_reactions");
    room(...said, ...full)
      .when(react("React", memberMax, 2, ":e7:"))
      .then(reacted(2, "sub_max", ":e7:"));
    room(...said, ...full, unreacted(2, "sub_olga", ":e7:"))
      .when(react("React", memberMax, 2, THUMB))
      .then(reacted(2, "sub_max", THUMB));
  });
});

describe("an emoji", () => {
  test("has one form, whatever selectors it came with", () => {
    const forms = {
      "❤️": ["❤", "❤️", "❤\ufe0f\ufe0f"],
      "❤️‍🔥": ["❤‍🔥", "❤️‍🔥"],
      "👁️‍🗨️": ["👁‍🗨", "👁️‍🗨", "👁‍🗨️"],
      "👨🏻‍❤️‍💋‍👨🏿": ["👨🏻‍❤‍💋‍👨🏿"],
      "⛹🏽‍♂️": ["⛹🏽‍♂", "⛹🏽️‍♂️"],
      "☝🏽": ["☝🏽", "☝️🏽"],
      "5️⃣": ["5⃣", "5️⃣"],
      "🏴󠁧󠁢󠁷󠁬󠁳󠁿": ["🏴󠁧󠁢󠁷󠁬󠁳󠁿"],
      "🇩🇪": ["🇩🇪"],
      ":party_parrot:": [":party_parrot:"],
    };
    for (const [canonical, sent] of Object.entries(forms)) {
      expect(sent.map(canonicalEmoji)).toEqual(sent.map(() => canonical));
    }
  });

  test("with another skin tone is another", () =>
    expect(new Set(["👍", "👍🏻", "👍🏿"].map(canonicalEmoji)).size).toBe(3));

  test("is exactly one, and no other text", () => {
    const others = [
      "",
      "a",
      "5",
      "👍👍",
      "👍a",
      "🇩",
      "❤︎",
      "\u200d",
      "\ufe0f",
      "::",
      ":a",
      ":a b:",
      ":é:",
      "👍".repeat(99),
    ];
    expect(others.filter((text) => canonicalEmoji(text) !== undefined)).toEqual([]);
  });
});
