// Specification of rooms that were to be made and were not.
import { expect, test } from "vitest";
import { roomDecider } from "../../src/domain/room.ts";
import { decideAfter, NOW } from "../support/given.ts";
import { deleted, room, STAFF, settings } from "./rooms.ts";

const abandon = { type: "Abandon", at: NOW } as const;
const create = { type: "Create", at: NOW, settings: settings(), externalId: null, members: STAFF } as const;

test("a room that was not made can be given up, and then never is made", () => {
  room().when(abandon).then(deleted);
  room(deleted).when(create).thenNothing();
  room(deleted).when(abandon).thenNothing();
});

test("a room that was made cannot be given up", () => {
  const made = decideAfter(roomDecider, [], create);
  room(...made)
    .when(abandon)
    .thenNothing();
  expect(made).toHaveLength(1);
});
