// Creating a notification: whom it is for, and what only the log, the clock or the network can check.
import type { AddressGuard } from "../channels/guard.ts";
import type { FieldFault } from "../contract/errors.ts";
import { canonicalOrSame, parseWebhookUrl } from "../contract/fields.ts";
import { type ClientId, type NotificationId, type RoomId, RoomIdSchema, type Subject } from "../contract/ids.ts";
import { isObject } from "../contract/json.ts";
import { optionFaults } from "../contract/notification-options.ts";
import { contentSizeFaults, DEFAULT_FALLBACK_SECONDS, type NewNotification } from "../contract/notifications.ts";
import { type Instant, parseInstant, SECOND_MS } from "../contract/time.ts";
import { clientDecider, clientStream } from "../domain/client.ts";
import { DomainError } from "../domain/decider.ts";
import { reveal, seal, sealOrNull } from "../domain/event.ts";
import {
  type Fallback,
  type Notification,
  type NotificationCommand,
  type NotificationData,
  notificationDecider,
  notificationStream,
  type Recipient,
  WITHOUT_OPTIONS,
} from "../domain/notification.ts";
import { checkTimes } from "../domain/notification-times.ts";
import { hasProviderFor } from "../domain/provider-choice.ts";
import { roomDecider, roomStream } from "../domain/room.ts";
import { deriveSecretTail, deriveTail } from "../event-store/derived-ids.ts";
import type { Keyring } from "../event-store/sealing.ts";
import { describeAttachments, storeAttachments } from "./attachments.ts";
import { takeDedupeKey } from "./dedupe-notification.ts";
import { AppError, invalid } from "./errors.ts";
import { type Changed, shownAfter, viewAsOf, viewOfState, withKeyedGates } from "./notification-views.ts";
import { spend } from "./rate-limit.ts";
import type { Call, Services } from "./services.ts";
import { streamOwner } from "./stream-owner.ts";

/** `made`: a new one was accepted; else nothing was written: it was there already, or is only shown. */
type Created = Changed & { readonly made: boolean };

/**
 * Creates a notification in a stream whose id follows from the command's. The answer follows from the command's own
 * events. A dry run shows what would be made; where another has the deduplication key, that one is the answer. Throws
 * validation_failed, ambiguous_recipients, no_recipients, email_provider_not_configured, unavailable.
 */
export async function createNotification(call: Call, wanted: NewNotification): Promise<Created> {
  const { services, read, context } = call;
  const id: NotificationId = `ntf_${deriveTail("notification", context.commandId)}`;
  const stream = notificationStream(id);
  const { command, known } = await commandFor(call, id, wanted);
  const first = known ? null : await takeDedupeKey(call, id, command.data, wanted.dry_run);
  if (first !== null) return { ...(await stateNow(call, first)), made: false };
  if (wanted.dry_run) return { ...(await wouldBe(call, id, command)), made: false };
  const { data } = command;
  const files = wanted.type === "email" ? (wanted.attachments ?? []) : [];
  // They are durable before the notification names them.
  if (files.length > 0) await storeAttachments(call, data, reveal(data.attachments) ?? [], files);
  const options = { newStream: true };
  const { state, ...written } = await services.commands.execute(notificationDecider, stream, command, context, options);
  if (state.status === "none") throw new Error(`${stream} was requested without an event`);
  return { ...shownAfter(await viewOfState(services, read, id, state), written), made: true };
}

/** A notification as it is now. Throws read_model_behind. */
async function stateNow({ services, read }: Call, id: NotificationId): Promise<Changed> {
  const { state, position } = await services.commands.load(notificationDecider, notificationStream(id));
  if (state.status === "none" || position === null) throw new DomainError("not_found");
  const upTo = await services.store.tail();
  return shownAfter(await viewAsOf(services, read, id, state, upTo), { position: upTo, replayed: false });
}

/** A notification as it would be, with what would stand against its first deliveries. Nothing is written. */
async function wouldBe({ services, read, at }: Call, id: NotificationId, command: RequestCommand): Promise<Changed> {
  let state: Notification = notificationDecider.initial;
  for (const [index, event] of notificationDecider.decide(state, command, new Map()).entries()) {
    state = notificationDecider.evolve(state, event, { seq: index + 1, at });
  }
  if (state.status === "none") throw new Error("a dry run came to nothing");
  const view = await viewOfState(services, read, id, state);
  const shown = shownAfter(await withKeyedGates(services, view, state, at), {
    position: await services.store.tail(),
    replayed: false,
  });
  return { ...shown, notification: { ...shown.notification, status: "dry_run" } };
}

type RequestCommand = Extract<NotificationCommand, { type: "Request" }>;

/** What was requested before is not checked again: its time may be over, its room gone, its provider removed. */
async function commandFor(
  call: Call,
  id: NotificationId,
  wanted: NewNotification,
): Promise<{ readonly command: RequestCommand; readonly known: boolean }> {
  const { services, caller, at, context } = call;
  if (context.fingerprint !== undefined) {
    const { state } = await services.commands.load(notificationDecider, notificationStream(id));
    if (state.status !== "none") return { command: { type: "Request", at, data: state.data }, known: true };
  }
  const data = await notificationData(services, caller.client, id, wanted, at);
  if (wanted.dry_run) return { command: { type: "Request", at, data }, known: false };
  const count = data.audience?.count ?? data.recipients.length;
  // fence: rate-notifications
  await spend(services.limits.notifications, { policy: "notifications", key: caller.client, count }, call.onRate);
  return { command: { type: "Request", at, data }, known: false };
}

async function notificationData(
  services: Services,
  client: ClientId,
  id: NotificationId,
  wanted: NewNotification,
  at: Instant,
): Promise<NotificationData> {
  const targets = targetsOf(wanted);
  const { times, faults: timeFaults } = checkTimes({ sendAt: wanted.send_at, expiresAt: wanted.expires_at }, at);
  const text = wanted.type === "email" ? wanted.text : null;
  const faults = [...timeFaults, ...contentSizeFaults(wanted.content, text), ...copyFaults(wanted, targets)];
  if (wanted.type === "email") faults.push(...optionFaults(wanted));
  const room = await roomNamed(services, client, wanted.room_id, faults);
  if (wanted.type === "webhook") faults.push(...forbiddenUrls(services.guard, targets ?? []));
  const { development, publicUrl } = services.config;
  if (wanted.type === "email" && wanted.unsubscribe && publicUrl === undefined && !development)
    faults.push({ path: "unsubscribe", code: "not_allowed", message: "needs PUBLIC_URL, where its link leads" });
  if (faults.length > 0) throw invalid(faults);
  const audience = targets === null && room !== null ? audienceOf(room) : null;
  const recipients = targets === null ? [] : await recipientsOf(services.keyring, client, wanted.type, targets);
  const fallback =
    wanted.type === "websocket" ? await fallbackOf(services.keyring, client, wanted.email_fallback) : null;
  if (wanted.type === "email" || fallback !== null) {
    await requireProvider(services, client, audience !== null || recipients.length > 1);
  }
  return {
    client,
    ...contentOf(wanted, recipients, id),
    ...(await optionsOf(services.keyring, client, wanted)),
    ...times,
    roomId: room?.id ?? null,
    recipients: [...recipients],
    audience,
    fallback,
  };
}

/** What the channel has, sealed for its only recipient, else for the notification itself. */
function contentOf(wanted: NewNotification, recipients: readonly Recipient[], id: NotificationId) {
  const [first] = recipients;
  const mail =
    wanted.type === "email"
      ? wanted
      : { content_type: null, text: null, reply_to: null, cc: null, bcc: null, attachments: null };
  return {
    channel: wanted.type,
    contentKey: recipients.length === 1 && first !== undefined ? first.subject : id,
    subject: sealOrNull(wanted.subject),
    content: seal(wanted.content),
    contentType: mail.content_type,
    text: sealOrNull(mail.text),
    meta: seal(wanted.meta ?? {}),
    priority: wanted.priority ?? "normal",
    replyTo: sealOrNull(mail.reply_to),
    attachments: seal([...describeAttachments(id, mail.attachments ?? [])]),
    cc: seal(listOf(mail.cc)),
    bcc: seal(listOf(mail.bcc)),
  } as const;
}

/** How it is grouped, sent and held back. Keys become HMACs: streams are named after them. */
async function optionsOf(keyring: Keyring, client: ClientId, wanted: NewNotification) {
  const { category, dedupe, collapse_key, throttle } = wanted;
  const pepper = await keyring.pepper(client);
  const keyed = (purpose: string, key: string) => deriveSecretTail(pepper, purpose, key);
  const mail = wanted.type === "email" ? wanted : { tag: null, from: null, provider: null, unsubscribe: false };
  const given = Object.entries((wanted.type === "websocket" ? null : wanted.headers) ?? {});
  const headers = given.map(([name, value]) => ({ name, value }));
  const isSecret = ({ name }: { name: string }) => wanted.type === "webhook" && name.toLowerCase() === "authorization";
  return {
    category,
    tag: mail.tag,
    sender: sealOrNull(mail.from),
    provider: mail.provider,
    headers: seal(headers.filter((one) => !isSecret(one))),
    authorization: sealOrNull(headers.find(isSecret)?.value ?? null),
    eventType: (wanted.type === "webhook" ? wanted.event_type : null) ?? WITHOUT_OPTIONS.eventType,
    unsubscribe: mail.unsubscribe,
    dedupe: dedupe && { key: keyed("dedupe", dedupe.key), windowMs: dedupe.window_seconds * SECOND_MS },
    collapse: collapse_key === null ? null : { key: keyed("collapse", collapse_key) },
    throttle: throttle && {
      ...{ key: keyed("throttle", throttle.key), limit: throttle.limit },
      perMs: throttle.per_seconds * SECOND_MS,
    },
  };
}

const listOf = (given: string | readonly string[] | null): string[] =>
  given === null ? [] : typeof given === "string" ? [given] : [...given];

function copyFaults(wanted: NewNotification, targets: readonly Target[] | null): readonly FieldFault[] {
  if (wanted.type !== "email" || targets?.length === 1) return [];
  const copied = (["cc", "bcc"] as const).filter((path) => listOf(wanted[path]).length > 0);
  return copied.map((path) => ({ path, code: "not_allowed", message: "is only possible with exactly one recipient" }));
}

/** The faults of fields that rest on each other or on the time, in a body as it was sent. */
export function furtherFaults(body: unknown, at: Instant): readonly FieldFault[] {
  if (!isObject(body)) return [];
  const time = (value: unknown) => (typeof value === "string" ? (parseInstant(value) ?? null) : null);
  const { faults } = checkTimes({ sendAt: time(body.send_at), expiresAt: time(body.expires_at) }, at);
  return [...faults, ...(body.type === "email" ? optionFaults(body) : [])];
}

// Whom it is for.

/** One whom a request names; `canonical` tells whether two are the same. */
type Target = {
  readonly address: string;
  readonly canonical: string;
  readonly name: string | null;
  /** The user whom a mail's recipient names. */
  readonly userId: string | null;
  /** Where in the body. */
  readonly path: string;
};

/** The alternative fields, of which exactly one must be given. */
function alternatives(wanted: NewNotification): Readonly<Record<string, unknown>> {
  switch (wanted.type) {
    case "email":
      return { to_email: wanted.to_email, to: wanted.to, recipients: wanted.recipients };
    case "websocket":
      return { user_ids: wanted.user_ids, recipients: wanted.recipients };
    case "webhook":
      return { url: wanted.url, urls: wanted.urls, recipients: wanted.recipients };
  }
}

/** Whom the request names, each once, the first mention wins; null: the members of its room. */
function targetsOf(wanted: NewNotification): readonly Target[] | null {
  const fields = alternatives(wanted);
  const named = Object.entries(fields).filter(([, value]) => value !== null);
  const [only] = named;
  const ofRoom = wanted.type === "websocket" && wanted.room_id !== null;
  if (named.length === 0 && ofRoom) return null;
  if (only === undefined || named.length > 1) {
    const names = [...Object.keys(fields), ...(wanted.type === "websocket" ? ["room_id"] : [])];
    throw new AppError("ambiguous_recipients", { detail: `give exactly one of ${names.join(", ")}` });
  }
  const [field, value] = only;
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  const seen = new Map<string, Target>();
  for (const [index, item] of items.entries()) {
    const target = targetOf(wanted.type, item, Array.isArray(value) ? `${field}.${index}` : field);
    if (!seen.has(target.canonical)) seen.set(target.canonical, target);
  }
  return [...seen.values()];
}

function targetOf(type: NewNotification["type"], item: unknown, path: string): Target {
  const { email, name, user_id } = isObject(item) ? item : { email: item, name: null, user_id: null };
  const address = String(email);
  const named = { name: stringOrNull(name), userId: stringOrNull(user_id) };
  return { address, canonical: canonicalOf(type, address), ...named, path };
}

const stringOrNull = (value: unknown): string | null => (typeof value === "string" ? value : null);

function canonicalUrl(url: string): string {
  const parsed = parseWebhookUrl(url);
  return "ok" in parsed ? url : parsed.href;
}

function canonicalOf(type: NewNotification["type"], address: string): string {
  if (type === "email") return canonicalOrSame(address);
  return type === "webhook" ? canonicalUrl(address) : address;
}

/** The targets as events name them. */
const recipientsOf = (
  keyring: Keyring,
  client: ClientId,
  type: NewNotification["type"],
  targets: readonly Target[],
): Promise<readonly Recipient[]> =>
  Promise.all(
    targets.map(async ({ address, canonical, name, userId }) => ({
      subject: await (type === "websocket"
        ? keyring.subjectOfUser(client, canonical)
        : keyring.subjectOfAddress(client, canonical)),
      address: seal(address),
      name: sealOrNull(name),
      user: userId === null ? null : await keyring.subjectOfUser(client, userId),
    })),
  );

/** The subjects by which a recipient may be known: a user id, a mail address or a URL. */
export function subjectsNamed(keyring: Keyring, client: ClientId, recipient: string): Promise<readonly Subject[]> {
  const addresses = new Set([recipient, canonicalOrSame(recipient), canonicalUrl(recipient)]);
  const asAddress = [...addresses].map((address) => keyring.subjectOfAddress(client, address));
  return Promise.all([keyring.subjectOfUser(client, recipient), ...asAddress]);
}

/** The targets among URLs that may not be called. Names are not looked up: the attempt does. */
const forbiddenUrls = (guard: AddressGuard, targets: readonly Target[]): readonly FieldFault[] =>
  targets.flatMap(({ path, address }) => {
    const verdict = guard.checkUrl(address);
    // fence: ssrf-request
    return verdict.ok ? [] : [{ path, code: verdict.code, message: verdict.reason }];
  });

// What it rests on.

type NamedRoom = { readonly id: RoomId; readonly seq: number; readonly members: number };

/** The room that is named; one of another client answers as one that does not exist. */
async function roomNamed(
  { store, commands }: Services,
  client: ClientId,
  named: string | null,
  faults: FieldFault[],
): Promise<NamedRoom | null> {
  if (named === null) return null;
  const { data: id } = RoomIdSchema.safeParse(named);
  if (id !== undefined && (await streamOwner(store, roomStream(id))) === client) {
    const { state } = await commands.load(roomDecider, roomStream(id));
    if (state.status === "live") return { id, seq: state.seq, members: state.members.size };
  }
  faults.push({ path: "room_id", code: "not_allowed", message: "there is no such room" });
  return null;
}

function audienceOf({ id, seq, members }: NamedRoom): NotificationData["audience"] {
  if (members === 0) throw new AppError("no_recipients", { detail: "the room has no members" });
  return { roomId: id, atSeq: seq, count: members };
}

async function fallbackOf(
  keyring: Keyring,
  client: ClientId,
  wanted: NewNotification["email_fallback"],
): Promise<Fallback | null> {
  if (wanted === null || wanted === false) return null;
  if (wanted === true) return { to: null, subject: null, content: null, afterMs: DEFAULT_FALLBACK_SECONDS * SECOND_MS };
  if (!wanted.enabled) return null;
  const { to_email: to, subject, content, after_seconds } = wanted;
  return {
    to:
      to === null ? null : { subject: await keyring.subjectOfAddress(client, canonicalOrSame(to)), address: seal(to) },
    subject: sealOrNull(subject),
    content: sealOrNull(content),
    afterMs: after_seconds * SECOND_MS,
  };
}

/** Development mode has its mailbox; elsewhere mail needs a provider for its kind. */
async function requireProvider({ config, commands }: Services, client: ClientId, bulk: boolean): Promise<void> {
  if (config.development) return;
  const { state } = await commands.load(clientDecider, clientStream(client));
  if (state.status === "live" && hasProviderFor(state.providers, bulk)) return;
  throw new AppError("email_provider_not_configured");
}
