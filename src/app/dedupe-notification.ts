// Deduplication: of notifications with one key within its window only the first is made.
import { setTimeout as sleep } from "node:timers/promises";
import type { NotificationId } from "../contract/ids.ts";
import { SECOND_MS } from "../contract/time.ts";
import { type Dedupe, dedupeDecider, dedupeStream, heldByAnother } from "../domain/dedupe.ts";
import { type NotificationData, notificationDecider, notificationStream } from "../domain/notification.ts";
import { unkeyed } from "../event-store/envelope.ts";
import { failpoint } from "../platform/failpoint.ts";
import { AppError } from "./errors.ts";
import type { Call } from "./services.ts";

/** How long another request that is making the first notification is waited for. */
const WAIT_MS = 2_000;
const POLL_MS = 50;
/** A notification whose key was taken longer ago than this and that does not exist was given up by whoever was to make it. */
const ABANDONED_AFTER_MS = 10 * SECOND_MS;

type Wanted = Pick<NotificationData, "dedupe">;

/**
 * Takes the deduplication key for a notification that is about to be requested. Gives the notification that has it
 * already; null: there is none, and this one may be made. `dryRun`: takes nothing. Throws unavailable while another request
 * is making it.
 */
export async function takeDedupeKey(
  call: Call,
  id: NotificationId,
  { dedupe }: Wanted,
  dryRun: boolean,
): Promise<NotificationId | null> {
  if (dedupe === null) return null;
  const stream = dedupeStream(dedupe.key);
  let abandoned: NotificationId | null = null;
  for (let waited = 0; waited <= WAIT_MS; waited += POLL_MS) {
    const command = { type: "Take", at: call.at, notification: id, windowMs: dedupe.windowMs, abandoned } as const;
    const state: Dedupe = dryRun
      ? (await call.services.commands.load(dedupeDecider, stream)).state
      : (await call.services.commands.execute(dedupeDecider, stream, command, causedBy(call))).state;
    const other = heldByAnother(state, command);
    if (other === null) {
      failpoint("dedupe-taken/requested");
      return null;
    }
    if (await exists(call, other.notification)) return other.notification;
    // It may only be slow: from here on it can never be made, or it just was.
    if (call.at - other.at > ABANDONED_AFTER_MS && !dryRun) {
      if (!(await abandon(call, other.notification))) return other.notification;
      abandoned = other.notification;
    } else {
      await sleep(POLL_MS);
    }
  }
  throw new AppError("unavailable", { detail: "Another request with this deduplication key is being handled." });
}

async function exists({ services }: Call, id: NotificationId): Promise<boolean> {
  return (await services.commands.load(notificationDecider, notificationStream(id))).state.status !== "none";
}

/** Sees to it that a notification is never made; false: it was made meanwhile. */
async function abandon(call: Call, id: NotificationId): Promise<boolean> {
  const command = { type: "Abandon", at: call.at } as const;
  const stream = notificationStream(id);
  const { state } = await call.services.commands.execute(notificationDecider, stream, command, causedBy(call));
  return state.status === "none";
}

/** A new command each time: who holds a key is decided by what is known now, also when a request comes again. */
const causedBy = ({ services, context }: Call) => ({
  ...unkeyed(context),
  commandId: services.newId(),
  causation: context.commandId,
});
