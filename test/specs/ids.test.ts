// Message ids: they carry time, room and seq, and nothing that is damaged or of another room passes.
import { describe, expect, test } from "vitest";
import {
  ClientIdSchema,
  KeyRefSchema,
  MessageIdSchema,
  messageId,
  type RoomId,
  SubjectSchema,
  seqOfMessage,
} from "../../src/contract/ids.ts";
import { NOW } from "../support/given.ts";
import fc from "../support/seed.ts";

const ROOM: RoomId = "room_0123456789abcdefghjkmnpqrs";
const digits = [..."0123456789abcdefghjkmnpqrstvwxyz"];
const rooms = fc
  .array(fc.constantFrom(...digits), { minLength: 26, maxLength: 26 })
  .map((tail): RoomId => `room_${tail.join("")}`);
const seqs = fc.integer({ min: 1, max: 2 ** 35 - 1 });
const times = fc.integer({ min: 0, max: 2 ** 45 - 1 });

describe("a message id", () => {
  test("gives back its seq in its room", () => {
    fc.assert(
      fc.property(rooms, seqs, times, (room, seq, at) => {
        const id = messageId(room, seq, at);
        expect(MessageIdSchema.safeParse(id).success).toBe(true);
        expect(id).toHaveLength(26);
        expect(seqOfMessage(room, id)).toBe(seq);
      }),
    );
  });

  test("is a storage format: time, the end of the room's id, seq", () =>
    expect(messageId(ROOM, 17, NOW)).toBe("msg_1kdvdna00mnpqrs000000h"));

  test("sorts by time, then by seq, within its room", () => {
    fc.assert(
      fc.property(seqs, seqs, times, times, (one, two, early, late) => {
        const [a, b] = [messageId(ROOM, one, early), messageId(ROOM, two, late)];
        const order = Math.sign(early - late) || Math.sign(one - two);
        expect(a < b ? -1 : a > b ? 1 : 0).toBe(order);
      }),
    );
  });

  test.each([
    ["of another room", messageId("room_zzzzzzzzzzzzzzzzzzzzzzzzzz", 17, NOW)],
    ["cut short", messageId(ROOM, 17, NOW).slice(0, -1)],
    ["drawn out", `${messageId(ROOM, 17, NOW)}0`],
    ["with a letter that is no digit", messageId(ROOM, 17, NOW).replace(/.$/, "u")],
    ["in capitals", messageId(ROOM, 17, NOW).replace(/.$/, "H")],
    ["of seq 0", messageId(ROOM, 0, NOW)],
    ["of another kind", messageId(ROOM, 17, NOW).replace("msg_", "evt_")],
    ["that is empty", ""],
  ])("%s is none", (_how, id) => expect(seqOfMessage(ROOM, id)).toBeUndefined());

  test("of whatever text never throws", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(seqOfMessage(ROOM, text)).toBeUndefined();
      }),
    );
  });
});

test("message ids of one room sort by time", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), (one, two) => {
      expect(messageId(ROOM, 1, one) < messageId(ROOM, 1, two)).toBe(one < two);
    }),
  );
});

describe("an id's schema", () => {
  test("takes its own prefix and a tail of digits and small letters", () => {
    expect(ClientIdSchema.safeParse("cli_0a").success).toBe(true);
    for (const bad of ["cli_", "cli_A", "cli_a-b", "room_a", "cli_a\n", ` cli_a`, `cli_${"a".repeat(65)}`, 7, null]) {
      expect(ClientIdSchema.safeParse(bad).success).toBe(false);
      expect(SubjectSchema.safeParse(bad).success).toBe(false);
    }
  });

  test("of a key reference takes a person's, a client's and a notification's", () => {
    for (const ref of ["sub_a", "cli_a", "ntf_a"]) expect(KeyRefSchema.safeParse(ref).success).toBe(true);
    for (const bad of ["room_a", "pepper:cli_a", "server:tokens", "sub_a\n"]) {
      expect(KeyRefSchema.safeParse(bad).success).toBe(false);
    }
  });
});
