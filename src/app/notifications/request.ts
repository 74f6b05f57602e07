// From a request to the notification that it asks for: what only the log, the clock or the network can check.

import type { FieldFault } from "../../contract/errors.ts";
import { canonicalMailAddress } from "../../contract/fields.ts";
import { type ClientId, type NotificationId, type RoomId, RoomIdSchema } from "../../contract/ids.ts";
import { type Instant, SECOND_MS } from "../../contract/time.ts";
import { clientDecider, clientStream } from "../../domain/client.ts";
import { seal } from "../../domain/event.ts";
import type { Fallback, NotificationData, Recipient } from "../../domain/notification.ts";
import { roomDecider, roomStream } from "../../domain/room.ts";
import { AppError, invalid } from "../errors.ts";
import type { Services } from "../services.ts";
import { streamOwner } from "../stream-owner.ts";
import {
  contentBytes,
  DEFAULT_FALLBACK_SECONDS,
  MAX_CONTENT_BYTES,
  type NotificationInput,
  TOO_LONG,
} from "./input.ts";
import { forbiddenUrls, recipientsOf, type Target, targetsOf } from "./targets.ts";
import { settleTimes } from "./times.ts";

type Parts = Pick<Services, "config" | "store" | "keyring" | "commands" | "guard">;
type Audience = NotificationData["audience"];

/** The notification. Throws AppError with every fault that is left after the schema. */
export async function requestedData(
  parts: Parts,
  client: ClientId,
  id: NotificationId,
  asked: NotificationInput,
  at: Instant,
): Promise<NotificationData> {
  const targets = targetsOf(asked);
  const faults: FieldFault[] = [];
  const times = settleTimes({ sendAt: asked.send_at, expiresAt: asked.expires_at }, at, faults);
  checkSize(asked, faults);
  checkCopies(asked, targets, faults);
  const room = await contextRoom(parts, client, asked.room_id, faults);
  if (asked.type === "webhook") faults.push(...(await forbiddenUrls(parts.guard, targets ?? [])));
  if (faults.length > 0) throw invalid(faults);
  const audience = targets === null && room !== null ? audienceOf(room) : null;
  const recipients = targets === null ? [] : await recipientsOf(parts, client, asked.type, targets);
  const fallback = asked.type === "websocket" ? await fallbackOf(parts, client, asked.email_fallback) : null;
  if (asked.type === "email" || fallback !== null) {
    await requireProvider(parts, client, audience !== null || recipients.length > 1);
  }
  return {
    client,
    ...contentOf(asked, recipients, id),
    ...times,
    roomId: room?.id ?? null,
    recipients: [...recipients],
    audience,
    fallback,
  };
}

/** What the type has, sealed for its only recipient, else for the notification itself. */
function contentOf(asked: NotificationInput, recipients: readonly Recipient[], id: NotificationId) {
  const [first] = recipients;
  const sealOrNull = <T>(value: T | null) => (value === null ? null : seal(value));
  const mail = asked.type === "email" ? asked : { text: null, reply_to: null, cc: null, bcc: null };
  return {
    channel: asked.type,
    contentKey: recipients.length === 1 && first !== undefined ? first.subject : id,
    subject: sealOrNull(asked.subject),
    content: seal(asked.content),
    text: sealOrNull(mail.text),
    meta: seal(asked.meta ?? {}),
    priority: asked.priority ?? "normal",
    replyTo: sealOrNull(mail.reply_to),
    cc: seal(manyOf(mail.cc)),
    bcc: seal(manyOf(mail.bcc)),
  } as const;
}

const manyOf = (given: string | readonly string[] | null): string[] =>
  given === null ? [] : typeof given === "string" ? [given] : [...given];

function checkSize(asked: NotificationInput, faults: FieldFault[]): void {
  const text = asked.type === "email" ? asked.text : null;
  if (contentBytes(asked.content, text) <= MAX_CONTENT_BYTES) return;
  faults.push({ path: "content", code: "too_long", message: TOO_LONG });
}

function checkCopies(asked: NotificationInput, targets: readonly Target[] | null, faults: FieldFault[]): void {
  if (asked.type !== "email" || targets?.length === 1) return;
  for (const path of ["cc", "bcc"] as const) {
    if (manyOf(asked[path]).length === 0) continue;
    faults.push({ path, code: "not_allowed", message: "is only possible with exactly one recipient" });
  }
}

type ContextRoom = { readonly id: RoomId; readonly seq: number; readonly members: number };

/** The room that is named; one of another client answers as one that does not exist. */
async function contextRoom(
  { store, commands }: Parts,
  client: ClientId,
  named: string | null,
  faults: FieldFault[],
): Promise<ContextRoom | null> {
  if (named === null) return null;
  const { data: id } = RoomIdSchema.safeParse(named);
  if (id !== undefined && (await streamOwner(store, roomStream(id))) === client) {
    const { state } = await commands.load(roomDecider, roomStream(id));
    if (state.status === "live") return { id, seq: state.seq, members: state.members.size };
  }
  faults.push({ path: "room_id", code: "not_allowed", message: "there is no such room" });
  return null;
}

function audienceOf({ id, seq, members }: ContextRoom): Audience {
  if (members === 0) throw new AppError("no_recipients", { detail: "the room has no members" });
  return { roomId: id, atSeq: seq, count: members };
}

async function fallbackOf(
  { keyring }: Parts,
  client: ClientId,
  asked: NotificationInput["email_fallback"],
): Promise<Fallback | null> {
  if (asked === null || asked === false) return null;
  if (asked === true) return { to: null, subject: null, content: null, afterMs: DEFAULT_FALLBACK_SECONDS * SECOND_MS };
  if (!asked.enabled) return null;
  const { to_email: to, subject, content, after_seconds } = asked;
  return {
    to:
      to === null
        ? null
        : { subject: await keyring.subjectOfAddress(client, canonicalMailAddress(to) ?? to), address: seal(to) },
    subject: subject === null ? null : seal(subject),
    content: content === null ? null : seal(content),
    afterMs: after_seconds * SECOND_MS,
  };
}

/** Development mode has its mailbox; elsewhere mail needs a provider for its kind. */
async function requireProvider({ config, commands }: Parts, client: ClientId, bulk: boolean): Promise<void> {
  if (config.development) return;
  const { state } = await commands.load(clientDecider, clientStream(client));
  const kind = bulk ? "bulk" : "single";
  if (state.status === "live" && state.providers.some((provider) => provider.useFor.includes(kind))) return;
  throw new AppError("email_provider_not_configured");
}
