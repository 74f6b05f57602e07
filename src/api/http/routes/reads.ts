// Read markers: how far each member has read, and what is unread.
import { z } from "zod";
import { readMarkerResource } from "../../../app/resources.ts";
import { openAsMember } from "../../../app/rooms/room-access.ts";
import { input, paging, userId } from "../../../contract/fields.ts";
import { listBody, ReadMarkerResource } from "../../../contract/resources.ts";
import { DomainError, InvalidInput } from "../../../domain/errors.ts";
import { readsDecider, readsStream } from "../../../domain/reads.ts";
import { omitUndefined } from "../../../platform/omit-undefined.ts";
import { listReads as queryReads, unreadOf } from "../../../projections/models/reads.ts";
import { Problem } from "../problems.ts";
import { listReply, ok } from "../reply.ts";
import { type Route, route } from "../route.ts";
import { roomParams } from "./room-pieces.ts";

/** How long the answer waits for the read model to count what is unread now. */
const COUNT_WAIT_MS = 5_000;

const putRead = route({
  method: "PUT",
  path: "/rooms/:room_id/reads/:user_id",
  summary: "Moves a member's read marker forward; a lower seq changes nothing.",
  tag: "rooms",
  access: { kind: "keyOrUser", scope: "messages:write" },
  params: roomParams.extend({ user_id: userId }),
  body: input({ seq: z.int().min(0) }),
  responses: { 200: ReadMarkerResource },
  problems: ["not_found", "not_a_member", "forbidden", "read_model_behind"],
  handle: async ({ services, caller, read, params, context, at, body }) => {
    const { id, room, position: head } = await openAsMember(services, caller, params.room_id);
    const user = params.user_id;
    const subject = await services.keyring.subjectOfUser(caller.client, user);
    if (caller.kind === "user" && caller.subject !== subject) {
      throw new DomainError("forbidden", "a user token may only move its own user's marker");
    }
    if (!room.members.has(subject)) throw new DomainError("not_a_member", "the user is not a member of this room");
    if (body.seq > room.seq) {
      throw new InvalidInput([{ path: "seq", code: "too_large", message: `must be at most ${room.seq}` }]);
    }
    // An older floor only means a marker that says nothing new.
    const floor = (await unreadOf(read, id, subject))?.read_seq ?? 0;
    const command = { type: "MarkRead", at, subject, user, seq: body.seq, floor } as const;
    const { position } = await services.commands.execute(readsDecider, readsStream(id), command, context);

    const needed = head !== null && head > position ? head : position;
    if (!(await services.readSide.waitFor(needed, COUNT_WAIT_MS))) throw new Problem("read_model_behind");
    const unread = await unreadOf(read, id, subject);
    if (unread === undefined) throw new DomainError("not_a_member", "the user left the room meanwhile");
    return ok(readMarkerResource({ room_id: id, user_id: user, ...unread }), { position });
  },
});

const listReads = route({
  method: "GET",
  path: "/rooms/:room_id/reads",
  summary: "Lists how far each member has read, newest member first.",
  tag: "rooms",
  access: { kind: "keyOrUser", scope: "messages:read" },
  params: roomParams,
  query: z.strictObject(paging),
  responses: { 200: listBody(ReadMarkerResource) },
  problems: ["not_found", "not_a_member"],
  handle: async (handling) => {
    const { services, caller, read, params, query } = handling;
    const { id } = await openAsMember(services, caller, params.room_id);
    return listReply(handling, await queryReads(read, id, omitUndefined(query)), readMarkerResource);
  },
});

export const readRoutes: readonly Route[] = [putRead, listReads];
