// States that are kept as snapshots: their shape, which needs another version when it changes, and their way back.
import { describe, expect, test } from "vitest";
import { type KeyUseEvent, keyUseDecider } from "../../src/domain/client-keys.ts";
import { readsDecider } from "../../src/domain/reads.ts";
import { roomDecider } from "../../src/domain/room.ts";
import { reactionsTo, threadUnder } from "../../src/domain/room-responses.ts";
import { at, NOW, stateAfter } from "../support/given.ts";
import {
  created,
  deactivated,
  deleted,
  edited,
  grown,
  idAt,
  joined,
  left,
  member,
  messageDeleted,
  posted,
  reacted,
  restored,
  unreacted,
  updated,
} from "./rooms.ts";

const HISTORY = [
  created([member("sub_olga", "owner"), member("sub_max")]),
  joined("sub_rita", "reader"),
  posted(3, { ordinal: 1 }),
  posted(4, { ordinal: 2 }),
  posted(5, { ordinal: 2, type: "system" }),
  edited(3, "second"),
  messageDeleted(4),
  messageDeleted(5),
  restored(5),
  updated("sub_max", "admin"),
  left("sub_rita"),
  reacted(3, "sub_olga", ":ok:"),
  reacted(3, "sub_max", ":ok:"),
  reacted(3, "sub_max", ":no:"),
  reacted(5, "sub_max", ":ok:"),
  unreacted(5, "sub_max", ":ok:"),
  posted(17, { thread: { id: idAt(3), seq: 3 }, sender: "sub_olga", ordinal: 3 }),
  posted(18, { thread: { id: idAt(3), seq: 3 }, ordinal: 4 }),
  posted(19, { thread: { id: idAt(3), seq: 3 }, ordinal: 5 }),
  messageDeleted(19, { to: 3, sender: "sub_max" }),
  posted(21, { ordinal: 5, growing: true }),
  posted(22, { ordinal: 5, growing: true }),
  grown("MessageCancelled", 22, "so", { ordinal: 6 }),
  at(NOW + 7, deactivated),
];

/**
 * Snapshots as versions of this code wrote them. When one of these fails, snapshots in databases are of another shape
 * than the code expects: raise the decider's snapshot version, and put the new shape here under that number.
 */
const GOLDEN = {
  room: {
    9: {
      status: "live",
      settings: {
        name: "Team",
        description: null,
        kind: "private",
        joinRole: "member",
        maxMembers: null,
        posting: "everyone",
        history: "all",
        meta: {},
      },
      externalId: null,
      active: false,
      seq: 24,
      members: [
        ["sub_max", { role: "admin", joinedAt: NOW, joinedSeq: 0, described: 10, named: false, mutedUntil: null }],
        ["sub_olga", { role: "owner", joinedAt: NOW, joinedSeq: 0, described: 1, named: false, mutedUntil: null }],
      ],
      formers: [["sub_rita", { left: "reader", mutedUntil: null }]],
      bans: [],
      owners: 1,
      posted: 8,
      deleted: 2,
      ordinal: 6,
      changes: [
        [19, { content: 19, change: 20, deleted: true, end: null }],
        [22, { content: 23, change: 23, deleted: false, end: { seq: 23, cancelled: true } }],
        [3, { content: 6, change: 6, deleted: false, end: null }],
        [4, { content: 4, change: 7, deleted: true, end: null }],
        [5, { content: 5, change: 9, deleted: false, end: null }],
      ],
      growing: [[21, { id: idAt(21), sender: "sub_max" }]],
      createdAt: NOW,
      updatedAt: NOW + 7,
      settingsSeq: 24,
      responses: {
        subjects: ["sub_olga", "sub_max"],
        reactions: [
          [
            3,
            [
              [":ok:", [0, 1]],
              [":no:", [1]],
            ],
          ],
          [5, []],
        ],
        threads: [
          [
            3,
            [17, 18],
            [
              [0, 1],
              [1, 1],
            ],
          ],
        ],
      },
    },
  },
  keyuse: { 1: { hour: 3_600_000 } },
  reads: {
    2: [
      ["sub_a", 5, 8, 9],
      ["sub_b", 3, 0, 3],
    ],
  },
} as const;

const golden = (of: Readonly<Record<number, unknown>>, version: number | undefined): unknown =>
  version === undefined ? undefined : of[version];
const throughJson = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
/** Entries of maps come in no particular order. */
const inOrder = (value: unknown): unknown =>
  Array.isArray(value) && value.every(Array.isArray)
    ? value.toSorted((one, other) => (String(one[0]) < String(other[0]) ? -1 : 1))
    : typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).map(([name, member]) => [name, inOrder(member)]))
      : value;

describe("a room's snapshot", () => {
  const state = stateAfter(roomDecider, HISTORY);
  const snapshot = throughJson(roomDecider.snapshot?.toJson(state));

  test("has the shape of its version", () =>
    expect(inOrder(snapshot)).toEqual(golden(GOLDEN.room, roomDecider.snapshot?.version)));

  test("holds every part of the state", () => expect(Object.keys(Object(snapshot))).toEqual(Object.keys(state)));

  test("gives the state back", () => {
    const back = roomDecider.snapshot?.fromJson(snapshot);
    expect(inOrder(throughJson(roomDecider.snapshot?.toJson(back ?? roomDecider.initial)))).toEqual(inOrder(snapshot));
    if (back?.status !== "live" || state.status !== "live") throw new Error("the room should be live");
    expect(back.members.get("sub_max")).toEqual(state.members.get("sub_max"));
    expect(back.changes.get(4)).toEqual(state.changes.get(4));
    expect(threadUnder(back.responses, 3)).toEqual(threadUnder(state.responses, 3));
    expect(reactionsTo(back.responses, 3)).toEqual(reactionsTo(state.responses, 3));
    expect(back.responses.size).toBe(state.responses.size);
  });

  test("of a room that is not there, or no more, gives that back", () => {
    for (const history of [[], [created(), deleted]]) {
      const gone = stateAfter(roomDecider, history);
      expect(roomDecider.snapshot?.fromJson(throughJson(roomDecider.snapshot.toJson(gone)))).toEqual(gone);
    }
  });

  test("that is damaged is refused", () => {
    for (const bad of [null, {}, { status: "live" }, { ...Object(snapshot), members: [["sub_a", "king"]] }]) {
      expect(() => roomDecider.snapshot?.fromJson(bad)).toThrow();
    }
  });
});

test("the snapshot of a key's use has the shape of its version", () => {
  const event: KeyUseEvent = { type: "KeyUsed", data: { key: "key_a", hour: 3_600_000 } };
  const used = stateAfter(keyUseDecider, [event]);
  const snapshot = throughJson(keyUseDecider.snapshot?.toJson(used));
  expect(snapshot).toEqual(golden(GOLDEN.keyuse, keyUseDecider.snapshot?.version));
  expect(keyUseDecider.snapshot?.fromJson(snapshot)).toEqual(used);
});

describe("the read markers' snapshot", () => {
  const user = { open: "x" };
  const state = stateAfter(readsDecider, [
    { type: "ReadMarked", data: { subject: "sub_a", user, seq: 7, base: null } },
    { type: "ReadMarked", data: { subject: "sub_b", user, seq: 3, base: null } },
    { type: "DeliveredMarked", data: { subject: "sub_a", user, seq: 9 } },
    { type: "ReadMarked", data: { subject: "sub_a", user, seq: 5, base: 8 } },
  ]);

  test("has the shape of its version", () => {
    const snapshot = inOrder(throughJson(readsDecider.snapshot?.toJson(state)));
    expect(snapshot).toEqual(golden(GOLDEN.reads, readsDecider.snapshot?.version));
  });

  test("gives the state back", () => {
    const back = readsDecider.snapshot?.fromJson(throughJson(readsDecider.snapshot.toJson(state)));
    expect(new Map(back?.entries())).toEqual(new Map(state.entries()));
  });
});
