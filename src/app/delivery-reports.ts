// What providers and receiving servers report of mails: recorded once each, and what follows for the address.
import { type ClientId, type DeliveryId, DeliveryIdSchema } from "../contract/ids.ts";
import type { SuppressionReason } from "../contract/preferences.ts";
import { DomainError } from "../domain/decider.ts";
import { deliveryDecider } from "../domain/delivery.ts";
import type { MailReport, Report } from "../domain/delivery-reports.ts";
import { type DeliveryRequest, deliveryStream } from "../domain/delivery-state.ts";
import { mailRecipients } from "../domain/mail-recipients.ts";
import { notificationDecider, notificationStream } from "../domain/notification.ts";
import { deriveUuid } from "../event-store/derived-ids.ts";
import { type CommandContext, decodeMetadata } from "../event-store/envelope.ts";
import { deliveryByMessageId } from "../projections/models/deliveries.ts";
import type { Services } from "./services.ts";
import { suppressAddress, suppressionAddress } from "./suppressions.ts";

type ReportServices = Pick<Services, "commands" | "store" | "keyring" | "readSide" | "now">;

/** Who reports: a client's provider. `way`: what the report's id is one of, when not the provider's. */
type ReportSource = { readonly client: ClientId; readonly provider: string; readonly way?: string };

/** `unknown`: there is no such mail, or it is another client's. */
type Recorded = "recorded" | "unknown";

const MAX_ID_LENGTH = 256;
const MAX_MESSAGE_LENGTH = 1_000;

/** Whether a report is of a mail of this client. */
export async function isReported(
  services: ReportServices,
  { client }: ReportSource,
  report: MailReport,
): Promise<boolean> {
  const id = await findDelivery(services, client, report);
  return id !== undefined && (await causeOf(services, client, id)) !== undefined;
}

/**
 * Records a report on the mail that it is about, and puts the address on the client's list where that follows from it.
 * Again it does what is missing: whoever reports tries again until this has returned. Throws what commands throw.
 */
export async function recordReport(
  services: ReportServices,
  source: ReportSource,
  report: MailReport,
): Promise<Recorded> {
  const id = await findDelivery(services, source.client, report);
  const cause = id === undefined ? undefined : await causeOf(services, source.client, id);
  if (id === undefined || cause === undefined) return "unknown";
  const { state } = await services.commands.load(deliveryDecider, deliveryStream(id));
  if (state.status === "none") return "unknown";
  const whom = await recipientOf(services, state.request, report.address);
  const commandId = deriveUuid("report", id, source.way ?? source.provider, report.id);
  // With a fingerprint the stream keeps the command's id, so that it counts once.
  const context = { ...cause, commandId, fingerprint: "report" };
  const { kind, bounce, code, message } = report;
  const { provider } = source;
  const at = services.now();
  const about: Report = {
    ...{ kind, bounce, code, provider, index: whom.index, report: report.id.slice(0, MAX_ID_LENGTH) },
    message: message === null ? null : message.toWellFormed().replaceAll("\0", "").slice(0, MAX_MESSAGE_LENGTH),
    happenedAt: report.happenedAt ?? at,
  };
  try {
    await services.commands.execute(
      deliveryDecider,
      deliveryStream(id),
      { type: "Report", at, report: about },
      context,
    );
  } catch (error) {
    // It was never sent as a mail.
    if (error instanceof DomainError && error.code === "not_found") return "unknown";
    throw error;
  }
  const reason = reasonOf(report);
  if (reason !== null && whom.address !== null) {
    const cause = { email: whom.address, reason, category: null, delivery: id };
    const own = { ...context, commandId: deriveUuid("suppress", commandId) };
    await suppressAddress(services, source.client, cause, own);
  }
  return "recorded";
}

/** Why the address goes on the list; null: it does not. */
function reasonOf({ kind, bounce }: MailReport): SuppressionReason | null {
  if (kind === "bounced") return bounce === "hard" ? "bounced" : null;
  return kind === "complained" || kind === "unsubscribed" ? kind : null;
}

/** By what the mail carried, else by the provider's id of the mail. */
async function findDelivery(
  { readSide }: ReportServices,
  client: ClientId,
  { delivery, providerMessageId }: MailReport,
): Promise<DeliveryId | undefined> {
  const carried = DeliveryIdSchema.safeParse(delivery);
  if (carried.success) return carried.data;
  if (providerMessageId === null || providerMessageId === "" || providerMessageId.includes("\0")) return undefined;
  return deliveryByMessageId(readSide.readAs(client), providerMessageId);
}

/** The context of what follows from a delivery; undefined when there is none of this client. */
async function causeOf(
  { store }: ReportServices,
  client: ClientId,
  id: DeliveryId,
): Promise<Omit<CommandContext, "commandId"> | undefined> {
  const [first] = await store.readStream(deliveryStream(id), { from: 0, limit: 1 });
  const meta = first === undefined ? undefined : decodeMetadata(first);
  // fence: report-client
  if (first === undefined || meta?.client !== client) return undefined;
  return { client, actor: { type: "system", id: "provider" }, correlation: meta.correlation, causation: first.id };
}

/** Whom a report is about: the place among the mail's recipients, and the address as we sent to it. */
async function recipientOf(
  { commands }: ReportServices,
  request: DeliveryRequest,
  reported: string | null,
): Promise<{ readonly index: number | null; readonly address: string | null }> {
  if (request.notification === null) return { index: null, address: null };
  const { state } = await commands.load(notificationDecider, notificationStream(request.notification));
  const addresses = state.status === "none" ? [] : mailRecipients(request, state.data);
  const wanted = reported === null ? undefined : comparable(reported);
  const found = wanted === undefined ? 0 : addresses.findIndex((one) => comparable(one) === wanted);
  // A mailbox that forwards is reported by its own name: of a mail with one recipient it is that one's.
  const index = found >= 0 ? found : addresses.length <= 1 ? 0 : null;
  return { index, address: index === null ? null : (addresses[index] ?? null) };
}

const comparable = (address: string): string => suppressionAddress(address.trim());
