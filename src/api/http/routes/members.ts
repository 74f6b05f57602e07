// Members of rooms.
import { z } from "zod";
import { memberOfEvent, memberResource } from "../../../app/resources.ts";
import { findRoom, openAsMember } from "../../../app/rooms/room-access.ts";
import { setMember } from "../../../app/rooms/set-member.ts";
import { input, meta, name, orNull, paging, userId } from "../../../contract/fields.ts";
import { listBody, MemberResource, RoleSchema } from "../../../contract/resources.ts";
import { roomDecider, roomStream } from "../../../domain/room.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { listMembers as queryMembers } from "../../../projections/models/rooms.ts";
import { created, listReply, noContent, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";
import { roomParams } from "./room-pieces.ts";

const memberParams = roomParams.extend({ user_id: userId });

const putMember = route({
  method: "PUT",
  path: "/rooms/:room_id/members/:user_id",
  summary: "Adds a member, or replaces its role, name and meta; a user joins a public room by naming itself.",
  tag: "rooms",
  access: { kind: "keyOrUser", scope: "rooms:write" },
  params: memberParams,
  body: input({ role: orNull(RoleSchema), name: orNull(name), meta: meta.default({}) }),
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
  handle: async ({ services, caller, read, params, context, at, body }) => {
    const userId = params.user_id;
    const set = await setMember(services, { caller, read, context, at }, params.room_id, { userId, ...body });
    const { room, joined, member, joinedAt, ownName, position } = set;
    const shown = memberOfEvent(member, joinedAt, ownName);
    return joined
      ? created(shown, `/rooms/${room}/members/${encodeURIComponent(userId)}`, { position })
      : ok(shown, { position });
  },
});

const deleteMember = route({
  method: "DELETE",
  path: "/rooms/:room_id/members/:user_id",
  summary: "Removes a member; a user leaves by naming itself.",
  tag: "rooms",
  access: { kind: "keyOrUser", scope: "rooms:write" },
  params: memberParams,
  responses: { 204: null },
  problems: ["not_found", "not_a_member", "role_required", "read_only", "last_owner", "direct_room_fixed"],
  handle: async ({ services, caller, params, context, at }) => {
    const id = await findRoom(services, caller.client, params.room_id);
    const subject = await services.keyring.subjectOfUser(caller.client, params.user_id);
    const command = { type: "RemoveMember", at, actor: caller.actor, subject, user: params.user_id } as const;
    const { position } = await services.commands.execute(roomDecider, roomStream(id), command, context);
    return noContent({ position });
  },
});

const listMembers = route({
  method: "GET",
  path: "/rooms/:room_id/members",
  summary: "Lists a room's members, newest first.",
  tag: "rooms",
  access: { kind: "keyOrUser", scope: "rooms:read" },
  params: roomParams,
  query: z.strictObject(paging),
  responses: { 200: listBody(MemberResource) },
  problems: ["not_found", "not_a_member"],
  handle: async (handling) => {
    const { services, caller, read, params, query } = handling;
    const { id } = await openAsMember(services, caller, params.room_id);
    return listReply(handling, await queryMembers(read, id, omitUndefined(query)), memberResource);
  },
});

export const memberRoutes: readonly Route[] = [putMember, deleteMember, listMembers];
