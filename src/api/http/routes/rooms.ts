// Rooms, their members, and how far each member has read.
import { createRoom } from "../../../app/create-room.ts";
import { listMembers, listReadMarkers, putReadMarker, removeMember, setMember } from "../../../app/members.ts";
import { changeRoom, deleteRoom, getRoom, listRooms, setRoomActive } from "../../../app/rooms.ts";
import type { Caller } from "../../../app/services.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import { isObject } from "../../../contract/json.ts";
import {
  MemberInput,
  MemberParams,
  NewRoom,
  PageQuery,
  ReadMarkerInput,
  RoomParams,
  RoomPatch,
  RoomQuery,
} from "../../../contract/requests.ts";
import { listBody, MemberResource, ReadMarkerResource, RoomResource } from "../../../contract/resources.ts";
import { firstMemberFaults } from "../../../domain/room.ts";
import { created, listReply, noContent, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";

const tag = "rooms";
const readAccess = { kind: "keyOrUser", scope: "rooms:read" } as const;
const writeAccess = { kind: "keyOrUser", scope: "rooms:write" } as const;

/** Nobody is named twice, and a direct room has two members, its creator included. */
function memberFaults(caller: Caller, body: unknown): readonly FieldFault[] {
  const { members = [], kind } = isObject(body) ? body : {};
  if (!Array.isArray(members)) return [];
  // One whose id is no text still counts as one.
  const named = members.map((one, index) =>
    isObject(one) && typeof one.user_id === "string" ? one.user_id : `#${index}`,
  );
  const joins = caller.kind === "user" && !named.includes(caller.userId);
  return firstMemberFaults(kind, joins ? [...named, caller.userId] : named);
}

const create = route({
  method: "POST",
  path: "/rooms",
  summary: "Create a room; two people who have a direct room get that one, with 200",
  tag,
  access: writeAccess,
  body: NewRoom,
  furtherFaults: memberFaults,
  responses: { 201: RoomResource, 200: RoomResource },
  problems: ["external_id_taken"],
  handle: async (call) => {
    const { room, existed, ...about } = await createRoom(call, call.body);
    return existed ? ok(room, about) : created(room, `/rooms/${room.id}`, about);
  },
});

const list = route({
  method: "GET",
  path: "/rooms",
  summary: "List rooms; a user's own and public ones with its token",
  tag,
  access: readAccess,
  query: RoomQuery,
  responses: { 200: listBody(RoomResource) },
  problems: ["forbidden"],
  handle: async (call) => listReply(call, await listRooms(call, call.query)),
});

const get = route({
  method: "GET",
  path: "/rooms/:room_id",
  summary: "Read a room",
  tag,
  access: readAccess,
  params: RoomParams,
  responses: { 200: RoomResource },
  problems: ["not_found"],
  handle: async (call) => {
    const { room, ...about } = await getRoom(call, call.params.room_id);
    return ok(room, about);
  },
});

const patch = route({
  method: "PATCH",
  path: "/rooms/:room_id",
  summary: "Change a room by a JSON Merge Patch",
  tag,
  access: writeAccess,
  params: RoomParams,
  body: RoomPatch,
  responses: { 200: RoomResource },
  problems: ["not_found", "not_a_member", "role_required", "read_only", "direct_room_fixed", "precondition_failed"],
  conditional: true,
  handle: async (call) => {
    const { room, position, etag } = await changeRoom(call, call.params.room_id, call.body, call.ifMatch);
    return ok(room, { position, etag });
  },
});

const ofOwners = {
  tag,
  access: writeAccess,
  params: RoomParams,
  problems: ["not_found", "not_a_member", "role_required", "read_only", "precondition_failed"],
  conditional: true,
} as const;

const remove = route({
  ...ofOwners,
  method: "DELETE",
  path: "/rooms/:room_id",
  summary: "Delete a room for everyone",
  responses: { 204: null },
  handle: async (call) => {
    const { position } = await deleteRoom(call, call.params.room_id, call.ifMatch);
    return noContent({ position });
  },
});

const deactivate = route({
  ...ofOwners,
  method: "POST",
  path: "/rooms/:room_id/deactivate",
  summary: "Close a room for posting; reading goes on",
  responses: { 200: RoomResource },
  handle: async (call) => {
    const { room, ...about } = await setRoomActive(call, call.params.room_id, false, call.ifMatch);
    return ok(room, about);
  },
});

const activate = route({
  ...ofOwners,
  method: "POST",
  path: "/rooms/:room_id/activate",
  summary: "Open a room for posting again",
  responses: { 200: RoomResource },
  handle: async (call) => {
    const { room, ...about } = await setRoomActive(call, call.params.room_id, true, call.ifMatch);
    return ok(room, about);
  },
});

const putMember = route({
  method: "PUT",
  path: "/rooms/:room_id/members/:user_id",
  summary: "Add a member or replace its role, name and meta; a user joins a public room by naming itself",
  tag,
  access: writeAccess,
  params: MemberParams,
  body: MemberInput,
  responses: { 201: MemberResource, 200: MemberResource },
  problems: [
    "not_found",
    "not_a_member",
    "role_required",
    "read_only",
    "last_owner",
    "direct_room_fixed",
    "too_many_members",
    "read_model_behind",
  ],
  handle: async (call) => {
    const { room_id, user_id } = call.params;
    const { member, joined, path, position } = await setMember(call, room_id, user_id, call.body);
    return joined ? created(member, path, { position }) : ok(member, { position });
  },
});

const deleteMember = route({
  method: "DELETE",
  path: "/rooms/:room_id/members/:user_id",
  summary: "Remove a member; a user leaves by naming itself",
  tag,
  access: writeAccess,
  params: MemberParams,
  responses: { 204: null },
  problems: ["not_found", "not_a_member", "role_required", "read_only", "last_owner", "direct_room_fixed"],
  handle: async (call) => {
    const { position } = await removeMember(call, call.params.room_id, call.params.user_id);
    return noContent({ position });
  },
});

const getMembers = route({
  method: "GET",
  path: "/rooms/:room_id/members",
  summary: "List a room's members, newest first",
  tag,
  access: readAccess,
  params: RoomParams,
  query: PageQuery,
  responses: { 200: listBody(MemberResource) },
  problems: ["not_found", "not_a_member"],
  handle: async (call) => listReply(call, await listMembers(call, call.params.room_id, call.query)),
});

const putRead = route({
  method: "PUT",
  path: "/rooms/:room_id/reads/:user_id",
  summary: "Move a member's read marker forward; a lower seq changes nothing",
  tag,
  access: { kind: "keyOrUser", scope: "messages:write" },
  params: MemberParams,
  body: ReadMarkerInput,
  responses: { 200: ReadMarkerResource },
  problems: ["not_found", "not_a_member", "forbidden", "read_model_behind"],
  handle: async (call) => {
    const { room_id, user_id } = call.params;
    const { marker, position } = await putReadMarker(call, room_id, user_id, call.body.seq);
    return ok(marker, { position });
  },
});

const getReads = route({
  method: "GET",
  path: "/rooms/:room_id/reads",
  summary: "List how far each member has read, newest member first",
  tag,
  access: { kind: "keyOrUser", scope: "messages:read" },
  params: RoomParams,
  query: PageQuery,
  responses: { 200: listBody(ReadMarkerResource) },
  problems: ["not_found", "not_a_member"],
  handle: async (call) => listReply(call, await listReadMarkers(call, call.params.room_id, call.query)),
});

export const roomRoutes: readonly Route[] = [
  ...[create, list, get, patch, remove, deactivate, activate],
  ...[putMember, deleteMember, getMembers],
  ...[putRead, getReads],
];
