// What users do over a socket: the use cases of requests, under the same ids of commands and the same limits.

import { requireScope } from "../../app/authenticate.ts";
import { type AppError, toAppError } from "../../app/errors.ts";
import { appendText, cancelGrowth, completeGrowth } from "../../app/growing-messages.ts";
import { moveMarkers } from "../../app/members.ts";
import {
  addReaction,
  deleteMessage,
  editMessage,
  messageFaults,
  postMessage,
  removeReaction,
  restoreMessage,
} from "../../app/messages.ts";
import { acknowledge } from "../../app/notifications.ts";
import { spendRequest } from "../../app/rate-limit.ts";
import { openAsMember } from "../../app/rooms.ts";
import { scheduleMessage } from "../../app/scheduled-messages.ts";
import type { Call, Caller, Services } from "../../app/services.ts";
import type { SocketErrorCode } from "../../contract/errors.ts";
import {
  type ClientFrame,
  type CommandFrame,
  commandPath,
  type FrameOf,
  invalidFrame,
  isCommandType,
  type ParsedFrame,
  parseFrame,
  type Ref,
  type ServerFrame,
  scopeOfFrame,
} from "../../contract/frames.ts";
import { DeliveryIdSchema, type RoomId, seqOfMessage } from "../../contract/ids.ts";
import { DomainError } from "../../domain/decider.ts";
import { requireTyping } from "../../domain/room-messages.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { SharedCommands } from "../http/api.ts";
import { faultsIn } from "../http/body.ts";
import { fingerprintOf, keyedCommandId } from "../http/idempotency.ts";
import { API_PREFIX } from "../http/route.ts";
import type { Typing } from "./typing.ts";

/** What only a user does. */
export type UserFrame = CommandFrame | FrameOf<"read"> | FrameOf<"delivered"> | FrameOf<"ack"> | FrameOf<"typing">;
type UserCaller = Extract<Caller, { kind: "user" }>;
type Ok = Extract<ServerFrame, { type: "ok" }>;
type ErrorFrame = Extract<ServerFrame, { type: "error" }>;

const isCommandFrame = (frame: UserFrame): frame is CommandFrame => isCommandType(frame.type);
const isUserType = (type: string): boolean =>
  isCommandType(type) || ["read", "delivered", "ack", "typing"].includes(type);

export const isUserFrame = (frame: ClientFrame): frame is UserFrame => isUserType(frame.type);

/** Fields that name what is there: a wrong one is not found, as in a path. */
const NAMES: ReadonlySet<string> = new Set(["ref", "room_id", "message_id"]);

/** Reads a message of a client, a command with all that is wrong with it as its request would be told. */
export const readFrame = (text: string): ParsedFrame =>
  parseFrame(text, (type, body) => {
    try {
      const faults = faultsIn(body, text).filter(({ path }) => !NAMES.has(path));
      return type === "post" ? [...faults, ...messageFaults({ kind: "user" }, body)] : faults;
    } catch (error) {
      const known = toAppError(error);
      if (known === undefined) throw error;
      return { code: known.code, message: known.detail };
    }
  });

/** Refuses a frame with a code that only sockets have. */
export class SocketRefusal extends Error {
  override readonly name = "SocketRefusal";
  readonly code: SocketErrorCode;
  constructor(code: SocketErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** What only a user does, on the connection of a key that names none. */
export const userRequired = () => new SocketRefusal("user_required", "the connection names no user");

/** Checks and counts a frame before its fields are looked at. Throws insufficient_scope, SocketRefusal, rate_limited. */
export async function admitFrame({ limits }: Services, caller: Caller, type: string): Promise<void> {
  requireScope(caller, scopeOfFrame(type));
  // fence: observers-only-observe
  if ((isUserType(type) || type === "follow") && caller.kind !== "user") throw userRequired();
  if (isUserType(type) || type === "presence" || type === "follow") await spendRequest(limits, caller);
}

/** Tells a client why a frame was not carried out, with what its request would be told. */
export function errorFrame(
  error: AppError | SocketRefusal,
  { type, ref }: { readonly type: string; readonly ref?: Ref | undefined },
): ErrorFrame {
  if (error instanceof SocketRefusal) return { type: "error", code: error.code, message: error.message, ref };
  const { code, detail, extra, faults, retryAfterSeconds } = error;
  const shown = faults === undefined ? { code, message: detail } : invalidFrame(type, faults);
  return {
    type: "error",
    ...shown,
    max_bytes: extra.max_bytes,
    expected: extra.expected,
    retry_after_seconds: retryAfterSeconds,
    ref,
  };
}

type CommandsOptions = SharedCommands & {
  readonly services: Services;
  readonly connection: string;
  readonly typing: Typing;
};

/** What a socket's user does. */
export class UserCommands {
  readonly #options: CommandsOptions;

  constructor(options: CommandsOptions) {
    this.#options = options;
  }

  /** `body`: of a command under an idempotency key, as it was sent. Throws what the use cases throw. */
  async carryOut(caller: Caller, frame: UserFrame, body: unknown): Promise<Ok> {
    if (caller.kind !== "user") throw userRequired();
    const { services, inFlight } = this.#options;
    const { ref } = frame;
    const run = async (call: Call): Promise<Ok> => ({ type: "ok", ...(await this.#run(call, caller, frame)), ref });
    const key = "idempotency_key" in frame ? frame.idempotency_key : undefined;
    if (key === undefined || !isCommandFrame(frame)) return run(this.call(caller));
    const commandId = keyedCommandId(caller, "POST", API_PREFIX + commandPath(frame), key);
    const fingerprint = fingerprintOf(await services.keyring.pepper(caller.client), body);
    const call = this.call(caller, commandId, fingerprint);
    return inFlight.run(commandId, fingerprint, () => run(call));
  }

  /** The call of a use case. `commandId`: by default a random one. */
  call(caller: Caller, commandId = this.#options.services.newId(), fingerprint?: string): Call {
    const { services, connection } = this.#options;
    const { client, actor } = caller;
    const context = { client, actor, commandId, correlation: connection, causation: commandId };
    return {
      ...{ services, caller, read: services.readSide.readAs(client), at: services.now() },
      context: fingerprint === undefined ? context : { ...context, fingerprint },
    };
  }

  async #run(call: Call, { subject, userId: user }: UserCaller, frame: UserFrame): Promise<Omit<Ok, "type" | "ref">> {
    switch (frame.type) {
      case "read":
        await moveMarkers(call, frame.room_id, { user, subject }, { seq: frame.seq });
        return {};
      case "delivered":
        await moveMarkers(call, frame.room_id, { user, subject }, { delivered_seq: frame.seq });
        return {};
      case "typing": {
        const { services, connection, typing } = this.#options;
        const { active } = frame;
        const { id: room, room: state } = await openAsMember(services, call.caller, frame.room_id);
        if (active) requireTyping(state, subject, call.at);
        typing.set({ connection, room, subject, userId: user, active });
        return {};
      }
      case "ack": {
        const { data: id } = DeliveryIdSchema.safeParse(frame.delivery_id);
        if (id === undefined) throw new DomainError("not_found");
        await acknowledge(call, id, subject);
        return {};
      }
      case "post": {
        const { type: _frame, message_type: type, ...fields } = frame;
        const wanted = { ...fields, type };
        const later = await scheduleMessage(call, frame.room_id, wanted);
        if (later !== undefined) {
          const { room_id, id: scheduled_id } = later.scheduled;
          return this.#done(call, { room_id, scheduled_id }, later.position);
        }
        const { message, position } = await postMessage(call, frame.room_id, wanted);
        return this.#done(call, { room_id: message.room_id, seq: message.seq, message_id: message.id }, position);
      }
      case "edit":
      case "restore": {
        const named = namedIn(frame);
        const { message, position } =
          frame.type === "edit" ? await editMessage(call, named, frame) : await restoreMessage(call, named);
        return this.#done(call, { room_id: message.room_id, seq: message.seq, message_id: message.id }, position);
      }
      case "append": {
        const { room, message, seq, position } = await appendText(call, namedIn(frame), frame);
        return this.#done(call, { room_id: room, seq, message_id: message }, position);
      }
      case "complete":
      case "cancel": {
        const named = namedIn(frame);
        const ended =
          frame.type === "complete" ? completeGrowth(call, named, frame.content) : cancelGrowth(call, named);
        const { room, position } = await ended;
        return this.#done(call, messageOf(room, frame.message_id), position);
      }
      case "delete": {
        const { room, position } = await deleteMessage(call, namedIn(frame));
        return this.#done(call, messageOf(room, frame.message_id), position);
      }
      case "react":
      case "unreact": {
        const { room_id: named, message_id: message, emoji } = frame;
        const wanted = { room: named, message, emoji, user: frame.user_id ?? user };
        const { room, position } =
          frame.type === "react"
            ? await addReaction(call, { ...wanted, onlyNew: false })
            : await removeReaction(call, wanted);
        return this.#done(call, messageOf(room, message), position);
      }
    }
  }

  #done({ caller }: Call, about: Omit<Ok, "type" | "ref" | "position">, position: Position) {
    const { services, writes } = this.#options;
    writes.record(caller, position);
    return { ...about, position: services.positions.ofRequest(caller.client, position) };
  }
}

const namedIn = ({ room_id: room, message_id: message }: Exclude<CommandFrame, { type: "post" }>) => ({
  ...{ room, message },
  ifMatch: null,
});

const messageOf = (room: RoomId, id: string) => ({ room_id: room, seq: seqOfMessage(room, id) ?? 0, message_id: id });
