// Who holds a name that must be unique.
import { test } from "vitest";
import type { RoomId } from "../../src/contract/ids.ts";
import { type ClaimCommand, type ClaimEvent, claimDecider } from "../../src/domain/claim.ts";
import { given, NOW } from "../support/given.ts";

const claimed = (room: RoomId): ClaimEvent => ({ type: "Claimed", data: { room } });
const claim = (room: RoomId, abandoned: RoomId | null = null): ClaimCommand => ({
  type: "Claim",
  at: NOW,
  room,
  abandoned,
});

test("the first to claim a name holds it", () => given(claimDecider).when(claim("room_a")).then(claimed("room_a")));

test("claiming again for the same room changes nothing", () =>
  given(claimDecider, claimed("room_a")).when(claim("room_a")).thenNothing());

test("another room is refused and told who holds the name", () =>
  given(claimDecider, claimed("room_a"))
    .when(claim("room_b"))
    .thenRejected("external_id_taken", { existing_id: "room_a" }));

test("a claim whose room was never created, or is deleted, is taken over", () =>
  given(claimDecider, claimed("room_a")).when(claim("room_b", "room_a")).then(claimed("room_b")));

test("who takes over an abandoned claim too late is refused: another did first", () =>
  given(claimDecider, claimed("room_a"), claimed("room_b"))
    .when(claim("room_c", "room_a"))
    .thenRejected("external_id_taken", { existing_id: "room_b" }));
