// Changing, closing, opening and deleting rooms.
import type { z } from "zod";
import { roomOfState } from "../../../app/resources.ts";
import { findRoom } from "../../../app/rooms/room-access.ts";
import { description, input, meta, name, patched } from "../../../contract/fields.ts";
import { RoomKindSchema, RoomResource } from "../../../contract/resources.ts";
import { roomDecider, roomStream } from "../../../domain/room.ts";
import { requireLive } from "../../../domain/room-state.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { noContent, ok } from "../reply.ts";
import { type Handling, type Reply, type Route, route } from "../route.ts";
import { mergingMeta, roomParams } from "./room-pieces.ts";

const write = { kind: "keyOrUser", scope: "rooms:write" } as const;

const RoomPatch = input({
  name: name.optional(),
  description: patched(description),
  kind: RoomKindSchema.optional(),
  meta: patched(meta),
});

const patchRoom = route({
  method: "PATCH",
  path: "/rooms/:room_id",
  summary: "Changes a room by a JSON Merge Patch.",
  tag: "rooms",
  access: write,
  params: roomParams,
  body: RoomPatch,
  responses: { 200: RoomResource },
  problems: ["not_found", "not_a_member", "role_required", "read_only", "direct_room_fixed", "precondition_failed"],
  conditional: true,
  handle: async ({ services, caller, params, context, at, ifMatch, body }) => {
    const id = await findRoom(services, caller.client, params.room_id);
    const { meta, ...settings } = body;
    const changes = omitUndefined({ ...settings, meta: meta === undefined ? undefined : mergingMeta(meta) });
    const command = { type: "Update", at, actor: caller.actor, changes, ifMatch } as const;
    const { state, position } = await services.commands.execute(roomDecider, roomStream(id), command, context);
    const room = requireLive(state);
    return ok(roomOfState(id, room), { position, etag: room.settingsSeq });
  },
});

type Changing = Handling<typeof roomParams, undefined, z.ZodType | undefined>;

/** Carries out a change that needs no body. */
async function change(type: "Deactivate" | "Activate" | "Delete", handling: Changing): Promise<Reply> {
  const { services, caller, params, context, at, ifMatch } = handling;
  const id = await findRoom(services, caller.client, params.room_id);
  const command = { type, at, actor: caller.actor, ifMatch } as const;
  const outcome = await services.commands.execute(roomDecider, roomStream(id), command, context);
  const { position, replayed } = outcome;
  if (type === "Delete") return noContent({ position });
  const room = requireLive(outcome.state);
  return ok(roomOfState(id, room), { position, replayed, etag: room.settingsSeq });
}

const changing = {
  tag: "rooms",
  access: write,
  params: roomParams,
  problems: ["not_found", "not_a_member", "role_required", "read_only", "precondition_failed"],
  conditional: true,
} as const;

const deleteRoom = route({
  ...changing,
  method: "DELETE",
  path: "/rooms/:room_id",
  summary: "Deletes a room for everyone.",
  responses: { 204: null },
  handle: (handling) => change("Delete", handling),
});

const deactivateRoom = route({
  ...changing,
  method: "POST",
  path: "/rooms/:room_id/deactivate",
  summary: "Closes a room for posting; reading goes on.",
  responses: { 200: RoomResource },
  handle: (handling) => change("Deactivate", handling),
});

const activateRoom = route({
  ...changing,
  method: "POST",
  path: "/rooms/:room_id/activate",
  summary: "Opens a room for posting again.",
  responses: { 200: RoomResource },
  handle: (handling) => change("Activate", handling),
});

export const roomChangeRoutes: readonly Route[] = [patchRoom, deleteRoom, deactivateRoom, activateRoom];
