// Messages that grow while they are written: appending, completing and giving up.
import { afterCodePoints } from "../contract/fields.ts";
import { type MessageId, type RoomId, seqOfMessage } from "../contract/ids.ts";
import { MAX_GROWN, type MessageResource } from "../contract/messages.ts";
import { DomainError, type IfMatch, InvalidInput } from "../domain/decider.ts";
import { reveal, type Sealed, seal } from "../domain/event.ts";
import { requireAppending } from "../domain/growing-message.ts";
import { visibleFrom } from "../domain/message-rules.ts";
import { type ExistingRoom, requireRole } from "../domain/room-state.ts";
import type { GrowingMessage } from "../projections/growing-texts.ts";
import { type Changed, eventAt, executeOnRoom, openAsMember, type RoomChange, rehearseOnRoom } from "./rooms.ts";
import type { Call, Services, Written } from "./services.ts";

/** Messages that may grow at once, of a client and of a user. */
const MAX_OF_CLIENT = 10_000;
const MAX_OF_USER = 1_000;

/** A message as a path names it, and the ETag that a change rests on. */
export type NamedMessage = { readonly room: string; readonly message: string; readonly ifMatch: IfMatch };

/** Refuses another growing message of a client or user that has as many as can grow at once. Throws too_many_growing. */
export async function requireRoomToGrow({ services, caller }: Call, user: string): Promise<void> {
  const sender = await services.keyring.subjectOfUser(caller.client, user);
  const { ofClient, ofSender } = await services.growing.count(caller.client, sender);
  // fence: growing-count
  if (ofClient >= MAX_OF_CLIENT || ofSender >= MAX_OF_USER) throw new DomainError("too_many_growing");
}

/** `length`: of the text just after an append under an idempotency key, in code points; null without a key. */
type AppendedText = Pick<GrowingMessage, "room" | "message" | "seq"> & Written & { readonly length: number | null };

/**
 * Adds a text to a growing message, and gives where that is. Sent again it adds nothing. Nothing is written to the log: the
 * position is that of the room, and an idempotency key is remembered beside the text. Throws offset_mismatch with `expected`,
 * not_growing, idempotency_key_reused, and what keeps its sender from posting.
 */
export async function appendText(
  call: Call,
  named: NamedMessage,
  { text, offset }: { readonly text: string; readonly offset: number },
): Promise<AppendedText> {
  const { services, caller, at, context } = call;
  const { commandId: command, fingerprint } = context;
  const key = fingerprint === undefined ? undefined : { command, fingerprint };
  const { id: room, room: state, position } = await openAsMember(services, caller, named.room);
  requireRole(state, caller.actor, "member");
  const seq = seqOfMessage(room, named.message) ?? 0;
  // fence: append-unseen
  if (seq < visibleFrom(state, caller.actor)) throw new DomainError("not_found");
  const answer = async (message: MessageId, { length, replayed }: { length: number; replayed: boolean }) => ({
    ...{ room, message, seq, replayed },
    length: key === undefined ? null : length,
    position: position ?? (await services.store.tail()),
  });
  const earlier = key && (await services.growing.used(key));
  if (earlier !== undefined) return answer(earlier.message, { length: earlier.length, replayed: true });
  const growing = requireAppending(state, { seq, id: named.message, actor: caller.actor, at }, named.ifMatch);
  if (growing === undefined) throw await notGrowing(services, room, state, named.message);
  const about = { client: caller.client, room, message: growing.id, seq, sender: growing.sender };
  let outcome = await services.growing.append(about, offset, text, key);
  if (outcome.kind === "unknown") {
    await services.growing.begin(about, (await beginningOf(services, about)) ?? "");
    outcome = await services.growing.append(about, offset, text, key);
  }
  switch (outcome.kind) {
    case "appended": {
      const grown = { room, message: growing.id, seq };
      const { offset: begins, added, length } = outcome;
      if (added !== "") services.growth.grew({ ...grown, added: { offset: begins, text: added } });
      return answer(growing.id, { length, replayed: false });
    }
    case "repeated":
      return answer(growing.id, { length: outcome.length, replayed: true });
    case "mismatch": {
      const { expected } = outcome;
      throw new DomainError("offset_mismatch", `the message has ${expected} characters`, { expected });
    }
    case "too_long": {
      const message = `must not make the message longer than ${MAX_GROWN} characters`;
      throw new InvalidInput([{ path: "text", code: "too_long", message }]);
    }
    default:
      throw new DomainError("not_growing");
  }
}

/** Why nothing can be appended to a message that does not grow: not_growing, or not_found when there is no such message. */
async function notGrowing(services: Services, room: RoomId, state: ExistingRoom, id: string): Promise<DomainError> {
  const seq = seqOfMessage(room, id);
  const event = seq === undefined || seq > state.seq ? undefined : await eventAt(services, room, seq);
  const exists = event?.type === "MessagePosted" && event.data.id === id;
  return new DomainError(exists ? "not_growing" : "not_found");
}

/** What a message was posted with; null when its sender was erased. */
async function beginningOf(services: Services, { room, seq }: Pick<GrowingMessage, "room" | "seq">) {
  const event = await eventAt(services, room, seq);
  return event?.type === "MessagePosted" ? reveal(event.data.content) : null;
}

/** The text so far of a message that grows, from an offset in code points on; null when its sender was erased. */
export async function textSoFar(
  services: Services,
  about: Pick<GrowingMessage, "room" | "message" | "seq">,
  from = 0,
): Promise<string | null> {
  const part = await services.growing.read(about, from);
  if (part !== undefined) return part.text;
  const text = await beginningOf(services, about);
  return text === null ? null : afterCodePoints(text, from);
}

/** A message with its text so far, where it grows. */
export async function withText({ growing }: Services, message: MessageResource): Promise<MessageResource> {
  if (message.state !== "growing" || message.deleted_at !== null) return message;
  const part = await growing.read({ room: message.room_id as RoomId, message: message.id as MessageId });
  return part === undefined ? message : { ...message, content: part.text };
}

/** The messages with their texts so far, where they grow. */
export const withTexts = (services: Services, messages: readonly MessageResource[]): Promise<MessageResource[]> =>
  Promise.all(messages.map((message) => withText(services, message)));

/** How a message ends: with these commands alone nothing is appended any more. */
type Ending = Extract<RoomChange, { type: "Complete" | "Cancel" | "DeleteMessage" }>;

/** In place of the text, where only who may end it is asked. */
const ANY_TEXT = seal("any");

/** Ends a growing message with its text. What was appended before is in it; what comes later is refused. */
export async function endWithText(
  call: Call,
  { room: named, message }: Pick<NamedMessage, "room" | "message">,
  ending: (text: Sealed<string> | null) => Ending,
): Promise<Changed> {
  const { services, caller } = call;
  const { id: room, room: state } = await openAsMember(services, caller, named);
  const growing = state.growing.get(seqOfMessage(room, message) ?? 0);
  if (growing === undefined || growing.id !== message) return executeOnRoom(call, named, ending(null));
  // Before anything is closed: who may not end it must not stop its writer.
  // fence: growing-rehearsed
  await rehearseOnRoom(call, { room, state }, ending(ANY_TEXT));
  const text = await services.growing.close({ room, message: growing.id });
  try {
    const ended = await executeOnRoom(call, named, ending(text ?? null));
    await services.growing.forget(growing.id);
    return ended;
  } catch (error) {
    await services.growing.reopen(growing.id);
    throw error;
  }
}

/** `content`: the whole text anew; undefined: what was appended. */
export const completeGrowth = (call: Call, named: NamedMessage, content: string | undefined): Promise<Changed> =>
  endWithText(call, named, (text) => ({
    type: "Complete",
    id: named.message,
    content: content === undefined ? text : seal(content),
    rewritten: content !== undefined,
    ifMatch: named.ifMatch,
  }));

export const cancelGrowth = (call: Call, named: NamedMessage): Promise<Changed> =>
  endWithText(call, named, (content) => ({
    type: "Cancel",
    id: named.message,
    content,
    ifMatch: named.ifMatch,
  }));
