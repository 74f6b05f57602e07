// Messages that grow and whose writer is silent: they end as cancelled, with what there is of them.
import type { Logger } from "pino";
import type { ClientId, MessageId, RoomId } from "../contract/ids.ts";
import { DAY_MS, type Instant, MINUTE_MS, SECOND_MS } from "../contract/time.ts";
import { DomainError } from "../domain/decider.ts";
import type { Sealed } from "../domain/event.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import type { Commands } from "../event-store/handle-command.ts";
import type { GrowingTexts } from "../projections/growing-texts.ts";
import { growingMessages } from "../projections/models/due-work.ts";
import type { ReadSide } from "../projections/read-side.ts";

/** A writer that is silent for so long is gone. */
const SILENCE_MS = MINUTE_MS;
/** How often silent ones are looked for while any grow. What begins to grow later is silent after SILENCE_MS at the earliest. */
export const GROWING_SWEEP_MS = 2 * SECOND_MS;
const PAGE = 100;
/** How long the idempotency key of an append is remembered, whatever became of the message. */
const KEYS_KEPT_MS = DAY_MS;

type SweepOptions = {
  readonly growing: GrowingTexts;
  readonly commands: Commands;
  readonly readSide: ReadSide;
  readonly logger: Logger;
  readonly now: () => Instant;
  readonly newId: () => string;
};
type Silent = { readonly client: ClientId; readonly room: RoomId; readonly message: MessageId };

/**
 * Ends the messages whose writers are silent, forgets old keys of appends, and returns how long to rest. Done twice it is done once: the room decides.
 */
export async function endSilent(options: SweepOptions, signal: AbortSignal): Promise<number> {
  const { growing, readSide, logger, now } = options;
  // fence: growing-silence
  const since = now() - SILENCE_MS;
  const silent: Silent[] = [...(await growing.silent(since, PAGE))];
  const posted = await growingMessages(readSide.operator(), since, PAGE);
  const known = await growing.among(posted.map(({ id }) => id));
  // Of those whose text is lost, with the schema `jobs`, there is what they were posted with.
  for (const { id, client, room_id: room } of posted) if (!known.has(id)) silent.push({ client, room, message: id });
  for (const one of silent) {
    if (signal.aborted) return 0;
    try {
      const text = await growing.close(one, since);
      if (text === undefined && known.has(one.message)) continue; // its writer is back
      await cancel(options, one, text ?? null);
    } catch (error) {
      logger.warn({ err: error, message: one.message }, "growing message not ended; retrying");
    }
  }
  await growing.forgetKeys(now() - KEYS_KEPT_MS);
  const grows =
    (await growing.silent(now(), 1)).length > 0 || (await growingMessages(readSide.operator(), now(), 1)).length > 0;
  return grows ? GROWING_SWEEP_MS : SILENCE_MS;
}

async function cancel(options: SweepOptions, { client, room, message }: Silent, content: Sealed<string> | null) {
  const { commands, growing, now, newId } = options;
  const commandId = newId();
  const actor = { type: "system", id: "worker" } as const;
  const context = { client, actor, commandId, correlation: commandId, causation: commandId };
  const command = { type: "Cancel", at: now(), actor, room, id: message, content, ifMatch: null } as const;
  try {
    await commands.execute(roomDecider, roomStream(room), command, context);
  } catch (error) {
    // It has ended, or its room has: nothing is left to be kept.
    if (!(error instanceof DomainError)) throw error;
  }
  await growing.forget(message);
}
