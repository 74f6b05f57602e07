// Rooms, their members, and how far each member has read.
import { userIdOf } from "../../../app/authenticate.ts";
import { createRoom } from "../../../app/create-room.ts";
import { AppError } from "../../../app/errors.ts";
import {
  banUser,
  changeMember,
  listBans,
  listMembers,
  listReadMarkers,
  listRoomPresence,
  OTHERS_NAME,
  putReadMarker,
  removeMember,
  setMember,
  unbanUser,
} from "../../../app/members.ts";
import { changeRoom, deleteRoom, getRoom, listRooms, setRoomActive } from "../../../app/rooms.ts";
import type { Caller } from "../../../app/services.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import { listBody, PageQuery } from "../../../contract/fields.ts";
import { isObject } from "../../../contract/json.ts";
import {
  BanResource,
  MemberInput,
  MemberParams,
  MemberPatch,
  MemberResource,
  NewBan,
  NewRoom,
  ReadMarkerInput,
  ReadMarkerResource,
  RoomParams,
  RoomPatch,
  RoomQuery,
  RoomResource,
} from "../../../contract/rooms.ts";
import { PresenceResource } from "../../../contract/users.ts";
import { firstMemberFaults } from "../../../domain/room.ts";
import { created, listReply, noContent, route, routesOf, shown } from "../route.ts";

const readAccess = { kind: "keyOrUser", scope: "rooms:read" } as const;
const writeAccess = { kind: "keyOrUser", scope: "rooms:write" } as const;

/** Nobody is named twice, and a direct room has two members, its creator included. */
function memberFaults(caller: Caller, body: unknown): readonly FieldFault[] {
  const { members = [], kind } = isObject(body) ? body : {};
  if (!Array.isArray(members)) return [];
  // One whose id is no text still counts as one.
  const named = members.map((one, index) =>
    isObject(one) && typeof one.user_id === "string"
      ? { id: one.user_id, role: one.user_id === userIdOf(caller) ? "member" : (one.role ?? "member") }
      : { id: `#${index}`, role: "member" },
  );
  const joins = caller.kind === "user" && named.every(({ id }) => id !== caller.userId);
  return firstMemberFaults(kind, joins ? [...named, { id: caller.userId, role: "member" }] : named);
}

/** A room has a name unless it is direct; external ids and other people's names belong to the backend. */
function roomFaults(caller: Caller, body: unknown): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const { name = null, kind, external_id = null, members } = body;
  const faults: FieldFault[] = [];
  if (name === null && kind !== "direct") faults.push({ path: "name", code: "required", message: "is required" });
  if (caller.kind === "key") return faults;
  // fence: external-id-by-users
  if (external_id !== null)
    faults.push({ path: "external_id", code: "not_allowed", message: "is for a client key to set" });
  const named = Array.isArray(members) ? members.map((one) => (isObject(one) ? one : {})) : [];
  for (const [index, { user_id, name = null }] of named.entries()) {
    if (name !== null && user_id !== caller.userId) faults.push({ ...OTHERS_NAME, path: `members.${index}.name` });
  }
  return faults;
}

const ofOwners = {
  access: writeAccess,
  params: RoomParams,
  problems: ["not_found", "not_a_member", "role_required", "read_only", "precondition_failed"],
  conditional: true,
} as const;

export const roomRoutes = routesOf("rooms", {
  createRoom: route("POST", "/rooms", {
    summary: "Create a room",
    description: "A user's token makes its user the owner. Two people who have a direct room get that one, with 200.",
    access: writeAccess,
    body: NewRoom,
    faultsFor: roomFaults,
    furtherFaults: memberFaults,
    costs: (user, { body }) => ({ rooms: 1, members: body.members.filter((one) => one.user_id !== user).length }),
    responses: { 201: RoomResource, 200: RoomResource },
    problems: ["external_id_taken", "forbidden"],
    handle: async (call) => {
      const made = await createRoom(call, call.body);
      return made.existed ? shown(made, "room") : created(made, "room", `/rooms/${made.room.id}`);
    },
  }),
  listRooms: route("GET", "/rooms", {
    summary: "List rooms",
    description: "With a user's token its own rooms and public ones.",
    access: readAccess,
    query: RoomQuery,
    responses: { 200: listBody(RoomResource) },
    problems: ["forbidden"],
    handle: async (call) => listReply(call, await listRooms(call, call.query)),
  }),
  getRoom: route("GET", "/rooms/:room_id", {
    summary: "Read a room",
    description: "A private room that the user is not in is 404, like one that does not exist.",
    access: readAccess,
    params: RoomParams,
    responses: { 200: RoomResource },
    problems: ["not_found"],
    handle: async (call) => shown(await getRoom(call, call.params.room_id), "room"),
  }),
  changeRoom: route("PATCH", "/rooms/:room_id", {
    summary: "Change a room",
    description: "A JSON Merge Patch (RFC 7396): null clears, `meta` is merged key by key. Needs the role `admin`.",
    access: writeAccess,
    params: RoomParams,
    body: RoomPatch,
    responses: { 200: RoomResource },
    problems: ["not_found", "not_a_member", "role_required", "read_only", "direct_room_fixed", "precondition_failed"],
    conditional: true,
    handle: async (call) => shown(await changeRoom(call, call.params.room_id, call.body, call.ifMatch), "room"),
  }),
  deleteRoom: route("DELETE", "/rooms/:room_id", {
    ...ofOwners,
    summary: "Delete a room",
    description: "It is 404 for everyone from then on, and subscriptions end. Needs the role `owner`.",
    responses: { 204: null },
    handle: async (call) => noContent(await deleteRoom(call, call.params.room_id, call.ifMatch)),
  }),
  deactivateRoom: route("POST", "/rooms/:room_id/deactivate", {
    ...ofOwners,
    summary: "Close a room for posting",
    description: "Posting, edits and deletions are refused; reading goes on. Needs the role `owner`.",
    responses: { 200: RoomResource },
    handle: async (call) => shown(await setRoomActive(call, call.params.room_id, false, call.ifMatch), "room"),
  }),
  activateRoom: route("POST", "/rooms/:room_id/activate", {
    ...ofOwners,
    summary: "Open a room for posting again",
    description: "Needs the role `owner`.",
    responses: { 200: RoomResource },
    handle: async (call) => shown(await setRoomActive(call, call.params.room_id, true, call.ifMatch), "room"),
  }),
  putMember: route("PUT", "/rooms/:room_id/members/:user_id", {
    summary: "Add or replace a member",
    description:
      "201 for who is new. A user joins a public room by naming itself; to add others needs the role `admin`, to set roles `owner`.",
    access: writeAccess,
    params: MemberParams,
    body: MemberInput,
    costs: (user, { params }) => ({ members: params.user_id === user ? 0 : 1 }),
    responses: { 201: MemberResource, 200: MemberResource },
    problems: [
      "not_found",
      "not_a_member",
      "removed",
      "forbidden",
      "role_required",
      "read_only",
      "last_owner",
      "direct_room_fixed",
      "banned",
      "room_full",
      "precondition_failed",
      "read_model_behind",
    ],
    handle: async (call) => {
      const { room_id, user_id } = call.params;
      const set = await setMember(call, room_id, user_id, call.body, call.onlyNew);
      return set.joined ? created(set, "member", set.path) : shown(set, "member");
    },
  }),
  changeMember: route("PATCH", "/rooms/:room_id/members/:user_id", {
    summary: "Change a member",
    description:
      "A JSON Merge Patch (RFC 7396). To mute needs the role `admin`, of admins and owners `owner`; a muted member reads and does not post.",
    access: writeAccess,
    params: MemberParams,
    body: MemberPatch,
    responses: { 200: MemberResource },
    problems: ["not_found", "not_a_member", "role_required", "read_only", "last_owner", "direct_room_fixed"],
    handle: async (call) => {
      const { room_id, user_id } = call.params;
      return shown(await changeMember(call, room_id, user_id, call.body), "member");
    },
  }),
  removeMember: route("DELETE", "/rooms/:room_id/members/:user_id", {
    summary: "Remove a member",
    description:
      "A user leaves by naming itself; to remove others needs the role `admin`. From a direct room only a client key removes.",
    access: writeAccess,
    params: MemberParams,
    responses: { 204: null },
    problems: [
      "not_found",
      "forbidden",
      "not_a_member",
      "role_required",
      "read_only",
      "last_owner",
      "direct_room_fixed",
    ],
    handle: async (call) => noContent(await removeMember(call, call.params.room_id, call.params.user_id)),
  }),
  listMembers: route("GET", "/rooms/:room_id/members", {
    summary: "List a room's members",
    description: "Newest member first.",
    access: readAccess,
    params: RoomParams,
    query: PageQuery,
    responses: { 200: listBody(MemberResource) },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => listReply(call, await listMembers(call, call.params.room_id, call.query)),
  }),
  listPresence: route("GET", "/rooms/:room_id/presence", {
    summary: "List who of a room's members is online",
    description: "Connected to any node of the server. Newest member first.",
    access: readAccess,
    params: RoomParams,
    query: PageQuery,
    responses: { 200: listBody(PresenceResource) },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => listReply(call, await listRoomPresence(call, call.params.room_id, call.query)),
  }),
  banUser: route("POST", "/rooms/:room_id/bans/:user_id", {
    summary: "Ban a user from a room",
    description:
      "Who is a member is removed. Until the ban ends nobody adds the user, and it cannot join. Needs the role `admin`, of admins and owners `owner`.",
    access: writeAccess,
    params: MemberParams,
    body: NewBan,
    responses: { 201: BanResource },
    problems: ["not_found", "not_a_member", "role_required", "read_only", "last_owner", "direct_room_fixed"],
    handle: async (call) => {
      const { room_id, user_id } = call.params;
      return created(
        await banUser(call, room_id, user_id, call.body),
        "ban",
        `/rooms/${encodeURIComponent(room_id)}/bans`,
      );
    },
  }),
  unbanUser: route("DELETE", "/rooms/:room_id/bans/:user_id", {
    summary: "Lift a ban",
    description: "Who was in a public room may join it again.",
    access: writeAccess,
    params: MemberParams,
    responses: { 204: null },
    problems: ["not_found", "not_a_member", "role_required", "read_only", "direct_room_fixed"],
    handle: async (call) => noContent(await unbanUser(call, call.params.room_id, call.params.user_id)),
  }),
  listBans: route("GET", "/rooms/:room_id/bans", {
    summary: "List a room's bans",
    description: "Those that hold now, newest first. Needs the role `admin`.",
    access: readAccess,
    params: RoomParams,
    query: PageQuery,
    responses: { 200: listBody(BanResource) },
    problems: ["not_found", "not_a_member", "role_required", "read_only"],
    handle: async (call) => listReply(call, await listBans(call, call.params.room_id, call.query)),
  }),
  putReadMarker: route("PUT", "/rooms/:room_id/reads/:user_id", {
    summary: "Move a member's read or delivered marker",
    description:
      "Markers move forward: a lower seq changes nothing. With `mark_unread` the read marker is set to `seq`, also back. What is read counts as delivered.",
    access: { kind: "keyOrUser", scope: "messages:read" },
    params: MemberParams,
    body: ReadMarkerInput,
    responses: { 200: ReadMarkerResource },
    problems: ["not_found", "not_a_member", "forbidden", "precondition_failed", "read_model_behind"],
    handle: async (call) => {
      const { room_id, user_id } = call.params;
      // A member has a marker from its joining on.
      if (call.onlyNew) throw new AppError("precondition_failed", { detail: "it exists already" });
      return shown(await putReadMarker(call, room_id, user_id, call.body), "marker");
    },
  }),
  listReadMarkers: route("GET", "/rooms/:room_id/reads", {
    summary: "List how far each member has read",
    description: "Newest member first, with how much each has not read, and what its devices have received.",
    access: { kind: "keyOrUser", scope: "messages:read" },
    params: RoomParams,
    query: PageQuery,
    responses: { 200: listBody(ReadMarkerResource) },
    problems: ["not_found", "not_a_member"],
    handle: async (call) => listReply(call, await listReadMarkers(call, call.params.room_id, call.query)),
  }),
});
