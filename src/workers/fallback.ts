// Falling back: a WebSocket delivery that nobody acknowledged in time becomes a mail, at most one to an address.
import { canonicalMailAddress } from "../contract/fields.ts";
import type { ClientId, DeliveryId, Subject } from "../contract/ids.ts";
import { deliveryDecider, deliveryStream } from "../domain/delivery.ts";
import { reveal } from "../domain/event.ts";
import { type KnownNotification, notificationDecider, notificationStream } from "../domain/notification.ts";
import { userDecider, userStream } from "../domain/user.ts";
import { deriveUuid, fallbackMailId } from "../event-store/derived-ids.ts";
import { readDecoded } from "../event-store/handle-command.ts";
import { failpoint } from "../platform/failpoint.ts";
import type { TakenJob } from "./job-store.ts";
import { causeOf, contextOf, type HandlerParts } from "./parts.ts";
import { again, DONE, type Verdict } from "./worker.ts";

/** The stream of a WebSocket delivery holds few events: it ends with its first outcome, and a redrive adds two. */
const DELIVERY_READ = 200;

type FallbackParts = Pick<HandlerParts, "store" | "keyring" | "commands" | "now" | "newId">;

/** Decides at the deadline: an acknowledgement that came first leaves nothing to do. */
export async function fallBack(parts: FallbackParts, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const stream = deliveryStream(id);
  const { state } = await parts.commands.load(deliveryDecider, stream);
  if (state.status !== "pending" || state.fallbackAt === null) return DONE;
  // Read once: a clock that is set back between two looks would end this job without its work.
  const at = parts.now();
  if (state.fallbackAt > at) return again(state.fallbackAt);
  const { notification, recipient, name } = state.request;
  const about = await parts.commands.load(notificationDecider, notificationStream(notification));
  if (about.state.status === "none") throw new Error(`delivery ${id} is of no notification`);
  const to = await addressOf(parts, job.client, recipient, about.state);
  const own = about.state.data.fallback?.to === null ? reveal(name) : null;
  const mail = { ...to, id: fallbackMailId(notification, to.recipient), name: own };
  const command = { type: "FallbackDue", /* fence: fallback-clock */ at, mail } as const;
  const context = contextOf(job.client, await causeOf(parts, job, stream), parts.newId());
  await parts.commands.execute(deliveryDecider, stream, command, context);
  failpoint("fell-back/mail-job");
  return DONE;
}

/** Where the mail goes: the address that the notification names, else the user's at this moment. */
async function addressOf(
  { keyring, commands }: FallbackParts,
  client: ClientId,
  user: Subject,
  { data }: KnownNotification,
): Promise<{ recipient: Subject; address: string | null }> {
  const named = data.fallback?.to ?? null;
  if (named !== null) return { recipient: named.subject, address: reveal(named.address) };
  const { state } = await commands.load(userDecider, userStream(user));
  const email = state.status === "registered" ? reveal(state.profile.email) : null;
  if (email === null) return { recipient: user, address: null };
  // By its canonical spelling, as elsewhere: two spellings of one mailbox share one mail.
  const subject = await keyring.subjectOfAddress(client, canonicalMailAddress(email) ?? email);
  return { recipient: subject, address: email };
}

/** The event with which a delivery fell back last; undefined when it did not. */
export async function fallbackMailOf(parts: Pick<HandlerParts, "store" | "keyring">, id: DeliveryId) {
  const events = await readDecoded(parts, deliveryStream(id), { direction: "backward", limit: DELIVERY_READ });
  return events.find((event) => event.type === "DeliveryFallbackRequested");
}

/**
 * Requests the mail of a delivery that fell back; another delivery may have requested the same one before. After a stop
 * none is made; one whose making was under way is cancelled before its first attempt.
 */
export async function makeFallbackMail(parts: FallbackParts, job: TakenJob, id: DeliveryId): Promise<Verdict> {
  const event = await fallbackMailOf(parts, id);
  const { state } = await parts.commands.load(deliveryDecider, deliveryStream(id));
  if (event === undefined || state.status === "none") return DONE;
  const { notification, mail, mailRecipient, address, name } = event.data;
  const about = await parts.commands.load(notificationDecider, notificationStream(notification));
  if (about.state.status === "none" || about.state.stopRequested) return DONE;
  const { priority, bulk, expiresAt } = { ...state.request, expiresAt: state.expiresAt };
  const request = {
    notification,
    recipient: mailRecipient,
    channel: "email",
    // Erased meanwhile: then there is none to send to.
    address: address !== null && "open" in address ? address : null,
    name: name !== null && "open" in name ? name : null,
    fallbackOf: id,
    priority,
    bulk,
    expiresAt,
    fallbackAt: null,
  } as const;
  const cause = { correlation: event.meta.correlation, causation: event.id };
  const context = contextOf(job.client, cause, deriveUuid("request", mail));
  const command = { type: "Request", at: parts.now(), request } as const;
  await parts.commands.execute(deliveryDecider, deliveryStream(mail), command, context);
  failpoint("mail-requested/job-done");
  return DONE;
}
