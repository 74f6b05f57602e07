// Editing, deleting and restoring messages.
import type { z } from "zod";
import { messageOfEvents } from "../../../app/resources.ts";
import { messageFacts } from "../../../app/rooms/message-facts.ts";
import { findRoom } from "../../../app/rooms/room-access.ts";
import { input, meta, patched } from "../../../contract/fields.ts";
import { MessageResource } from "../../../contract/resources.ts";
import { roomDecider, roomStream } from "../../../domain/room.ts";
import { messageEtag, requireLive } from "../../../domain/room-state.ts";
import { noContent, ok } from "../reply.ts";
import { type Handling, type Reply, type Route, route } from "../route.ts";
import { content, messageParams } from "./message-pieces.ts";
import { mergingMeta } from "./room-pieces.ts";

const write = { kind: "keyOrUser", scope: "messages:write" } as const;
const changing = {
  tag: "messages",
  access: write,
  params: messageParams,
  conditional: true,
} as const;
const refusals = [
  "not_found",
  "not_a_member",
  "read_only",
  "role_required",
  "precondition_failed",
  "room_inactive",
] as const;

type Changing = Handling<typeof messageParams, undefined, z.ZodType | undefined>;
type Change =
  | { type: "DeleteMessage" | "RestoreMessage" }
  | { type: "Edit"; content: string | null; meta: ReturnType<typeof mergingMeta> | null };

/** Carries out a change; answers with the message as it is just after it. */
async function change(handling: Changing, what: Change): Promise<Reply> {
  const { services, caller, params, context, at, ifMatch } = handling;
  const room = await findRoom(services, caller.client, params.room_id);
  const command = { ...what, at, room, actor: caller.actor, id: params.message_id, ifMatch };
  const outcome = await services.commands.execute(roomDecider, roomStream(room), command, context);
  const { position, replayed } = outcome;
  if (what.type === "DeleteMessage") return noContent({ position });
  const state = requireLive(outcome.state);
  const facts = await messageFacts(services, room, state, params.message_id);
  return ok(messageOfEvents(facts), { position, replayed, etag: messageEtag(state, facts.seq) });
}

const patchMessage = route({
  ...changing,
  method: "PATCH",
  path: "/rooms/:room_id/messages/:message_id",
  summary: "Edits a message by a JSON Merge Patch.",
  body: input({ content: content.optional(), meta: patched(meta) }),
  responses: { 200: MessageResource },
  problems: [...refusals, "message_deleted"],
  handle: (handling) => {
    const { content = null, meta } = handling.body;
    return change(handling, { type: "Edit", content, meta: meta === undefined ? null : mergingMeta(meta) });
  },
});

const deleteMessage = route({
  ...changing,
  method: "DELETE",
  path: "/rooms/:room_id/messages/:message_id",
  summary: "Deletes a message; it keeps its id and seq and can be restored.",
  responses: { 204: null },
  problems: refusals,
  handle: (handling) => change(handling, { type: "DeleteMessage" }),
});

const restoreMessage = route({
  ...changing,
  method: "POST",
  path: "/rooms/:room_id/messages/:message_id/restore",
  summary: "Brings a deleted message back.",
  responses: { 200: MessageResource },
  problems: refusals,
  handle: (handling) => change(handling, { type: "RestoreMessage" }),
});

export const messageChangeRoutes: readonly Route[] = [patchMessage, deleteMessage, restoreMessage];
