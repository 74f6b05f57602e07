// Rooms: making, listing and reading them.
import { z } from "zod";
import type { Caller } from "../../../app/authenticate.ts";
import { roomOfState, roomResource } from "../../../app/resources.ts";
import { MAX_FIRST_MEMBERS, createRoom as makeRoom } from "../../../app/rooms/create-room.ts";
import { openRoom } from "../../../app/rooms/room-access.ts";
import type { FieldFault } from "../../../contract/errors.ts";
import {
  commaSeparated,
  created,
  description,
  input,
  meta,
  name,
  orNull,
  paging,
  queryBoolean,
  text,
  userId,
} from "../../../contract/fields.ts";
import { isObject } from "../../../contract/json.ts";
import { listBody, RoleSchema, RoomKindSchema, RoomResource } from "../../../contract/resources.ts";
import { DomainError } from "../../../domain/errors.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { listRooms as queryRooms } from "../../../projections/models/rooms.ts";
import { created as createdReply, listReply, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";
import { roomChangeRoutes } from "./room-changes.ts";
import { roomParams } from "./room-pieces.ts";

const read = { kind: "keyOrUser", scope: "rooms:read" } as const;
const write = { kind: "keyOrUser", scope: "rooms:write" } as const;
const externalId = text(1, 255);

const NewMember = input({ user_id: userId, role: RoleSchema.default("member"), name: orNull(name) });
const NewRoom = input({
  name,
  description: orNull(description),
  kind: RoomKindSchema.default("private"),
  external_id: orNull(externalId),
  meta: meta.default({}),
  members: z.array(NewMember).max(MAX_FIRST_MEMBERS).default([]),
});

/** Nobody is named twice, and a direct room has two members, its creator included. */
function memberFaults(caller: Caller, body: unknown): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const { members = [], kind } = body;
  if (!Array.isArray(members)) return [];
  const ids = members.flatMap((one) => (isObject(one) && typeof one.user_id === "string" ? [one.user_id] : []));
  if (new Set(ids).size < ids.length) {
    return [{ path: "members", code: "not_allowed", message: "name the same user twice" }];
  }
  const count = members.length + (caller.kind === "user" && !ids.includes(caller.userId) ? 1 : 0);
  if (kind !== "direct" || count === 2) return [];
  return [
    { path: "members", code: count < 2 ? "too_short" : "too_long", message: "must be exactly two in a direct room" },
  ];
}

const createRoom = route({
  method: "POST",
  path: "/rooms",
  summary: "Makes a room; for two people who have a direct room it answers 200 with that one.",
  tag: "rooms",
  access: write,
  body: NewRoom,
  furtherFaults: memberFaults,
  responses: { 201: RoomResource, 200: RoomResource },
  problems: ["external_id_taken"],
  handle: async ({ services, caller, context, at, body }) => {
    const { name, description, kind, meta, external_id, members } = body;
    const made = await makeRoom(
      services,
      { caller, context, at },
      {
        settings: { name, description, kind, meta },
        externalId: external_id,
        members: members.map(({ user_id, role, name }) => ({ userId: user_id, role, name })),
      },
    );
    const { id, room, position, replayed } = made;
    const about = { position, replayed, etag: room.settingsSeq };
    return made.existed ? ok(roomOfState(id, room), about) : createdReply(roomOfState(id, room), `/rooms/${id}`, about);
  },
});

const RoomQuery = z.strictObject({
  ...paging,
  ...created,
  search: text(1, 200).optional().meta({ description: "Part of the name or description, in any case" }),
  member: commaSeparated(userId).optional(),
  active: queryBoolean.optional(),
  external_id: commaSeparated(externalId).optional(),
  sort: z.enum(["-created_at", "created_at", "name"]).default("-created_at"),
});

const listRooms = route({
  method: "GET",
  path: "/rooms",
  summary: "Lists rooms; to a user its own and public ones.",
  tag: "rooms",
  access: read,
  query: RoomQuery,
  responses: { 200: listBody(RoomResource) },
  problems: ["forbidden"],
  handle: async (handling) => {
    const { services, caller, read, query } = handling;
    const { external_id, member, ...rest } = query;
    const named = member?.map((user) => services.keyring.subjectOfUser(caller.client, user));
    const members = named === undefined ? undefined : await Promise.all(named);
    const visibleTo = caller.kind === "user" ? caller.subject : undefined;
    // It would tell of public rooms who is in them, which only their members may know.
    if (visibleTo !== undefined && members?.some((one) => one !== visibleTo) === true) {
      throw new DomainError("forbidden", "a user token may only ask for its own user's rooms");
    }
    const page = await queryRooms(read, omitUndefined({ ...rest, members, visibleTo, externalIds: external_id }));
    return listReply(handling, page, roomResource);
  },
});

const getRoom = route({
  method: "GET",
  path: "/rooms/:room_id",
  summary: "Reads a room.",
  tag: "rooms",
  access: read,
  params: roomParams,
  responses: { 200: RoomResource },
  problems: ["not_found"],
  handle: async ({ services, caller, params }) => {
    const { id, room } = await openRoom(services, caller, params.room_id);
    return ok(roomOfState(id, room), { etag: room.settingsSeq });
  },
});

export const roomRoutes: readonly Route[] = [createRoom, listRooms, getRoom, ...roomChangeRoutes];
