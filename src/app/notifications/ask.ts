// Asking for a notification: one stream, whose id follows from the request, so that asking twice is asking once.
import type { NotificationId } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import {
  type NotificationCommand,
  type NotificationEvent,
  notificationDecider,
  notificationStream,
} from "../../domain/notification.ts";
import { deriveTail } from "../../event-store/derived-ids.ts";
import type { CommandContext, StoredEvent } from "../../event-store/envelope.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { OwnEvent } from "../../event-store/stream-writer.ts";
import type { ReadAs } from "../../projections/read-side.ts";
import type { NotificationView } from "../bodies/notification.ts";
import type { Services } from "../services.ts";
import { foldedNotification } from "./as-of.ts";
import type { NotificationInput } from "./input.ts";
import { requestedData } from "./request.ts";
import { plannedFor } from "./view.ts";

type Asked = {
  readonly view: NotificationView;
  readonly position: Position;
  readonly replayed: boolean;
};

/** Asks. The answer follows from the command's own events. Throws Problem, and what commands throw. */
export async function askFor(
  services: Services,
  read: ReadAs,
  { context, at }: { readonly context: CommandContext; readonly at: Instant },
  asked: NotificationInput,
): Promise<Asked> {
  const id: NotificationId = `ntf_${deriveTail("notification", context.commandId)}`;
  const stream = notificationStream(id);
  const command = await commandFor(services, read, { id, context, at }, asked);
  const outcome = await services.commands.execute(notificationDecider, stream, command, context, { newStream: true });
  const { position, replayed } = outcome;
  const row = foldedNotification(outcome.events.map((own) => storedEvent(own, stream, context, position)));
  if (row === undefined) throw new Error(`${stream} was asked for without an event`);
  return { view: { row, made: [], attempts: [], planned: await plannedFor(services, read, row) }, position, replayed };
}

/** What was asked for before is not checked again: its time may be over, its room gone, its provider removed. */
async function commandFor(
  services: Services,
  read: ReadAs,
  { id, context, at }: { readonly id: NotificationId; readonly context: CommandContext; readonly at: Instant },
  asked: NotificationInput,
): Promise<NotificationCommand> {
  if (context.fingerprint !== undefined) {
    const { state } = await services.commands.load(notificationDecider, notificationStream(id));
    if (state.status !== "none") return { type: "Request", at, data: state.data };
  }
  return { type: "Request", at, data: await requestedData(services, read.client, id, asked, at) };
}

/** An own event as folds take it. */
const storedEvent = (
  { type, data, id, revision, at }: OwnEvent<NotificationEvent>,
  stream: string,
  { client, actor, commandId, correlation, causation }: CommandContext,
  position: Position,
): StoredEvent =>
  ({
    ...{ type, data, id, stream, revision, position },
    meta: { v: 1, at, client, actor, command: commandId, correlation, causation, subjects: [] },
  }) as StoredEvent;
