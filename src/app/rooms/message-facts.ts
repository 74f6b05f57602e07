// What a message is at a state of its room, from the events that say so.

import { type RoomId, seqOfMessage } from "../../contract/ids.ts";
import { DomainError } from "../../domain/errors.ts";
import { roomStream } from "../../domain/room.ts";
import type { RoomEvent } from "../../domain/room-events.ts";
import { contentSeq, type LiveRoom } from "../../domain/room-state.ts";
import type { StoredEvent } from "../../event-store/envelope.ts";
import { readDecoded } from "../../event-store/handle-command.ts";
import type { MessageHistory } from "../resources.ts";
import type { Services } from "../services.ts";

type Parts = Pick<Services, "store" | "keyring">;

/** The message as of the state, from at most three events. Throws `not_found`. */
export async function messageFacts(parts: Parts, room: RoomId, state: LiveRoom, id: string): Promise<MessageHistory> {
  const seq = seqOfMessage(room, id);
  if (seq === undefined || seq > state.seq) throw new DomainError("not_found");
  const change = state.changes.get(seq);
  const content = contentSeq(state, seq);
  const [posting, edit, deletion] = await Promise.all([
    eventAt(parts, room, seq),
    content === seq ? undefined : eventAt(parts, room, content),
    change?.deleted === true ? eventAt(parts, room, change.change) : undefined,
  ]);
  if (posting?.type !== "MessagePosted" || posting.data.id !== id) throw new DomainError("not_found");
  return {
    room,
    seq,
    posting: posting.data,
    postedAt: posting.meta.at,
    edit: edit?.type === "MessageEdited" ? { data: edit.data, at: edit.meta.at } : null,
    deletedAt: deletion?.meta.at ?? null,
  };
}

async function eventAt(parts: Parts, room: RoomId, seq: number): Promise<StoredEvent<RoomEvent> | undefined> {
  const [event] = await readDecoded(parts, roomStream(room), { from: seq - 1, limit: 1 });
  return event as StoredEvent<RoomEvent> | undefined;
}
