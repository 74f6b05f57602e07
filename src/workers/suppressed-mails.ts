// Mails to addresses on their client's list: the recipient's is not sent, a copy's is left out.
import { suppressionOfAddress } from "../app/suppressions.ts";
import type { ClientId } from "../contract/ids.ts";
import type { KnownDelivery } from "../domain/delivery-state.ts";
import { mailRecipients } from "../domain/mail-recipients.ts";
import type { KnownNotification } from "../domain/notification.ts";
import type { JobServices } from "./job-services.ts";

/** `reason`: why nothing is sent, the delivery's error. `copies`: the places of recipients that are left out. */
type SuppressedMail = { readonly reason: string | null; readonly copies: readonly number[] };
const NONE: SuppressedMail = { reason: null, copies: [] };

/** What of a mail is suppressed now, as the log says. */
export async function suppressedIn(
  services: JobServices,
  client: ClientId,
  { request }: KnownDelivery,
  { data }: KnownNotification,
): Promise<SuppressedMail> {
  if (request.channel !== "email") return NONE;
  const mail = { category: data.category, critical: request.priority === "critical" };
  const reasons = await Promise.all(
    mailRecipients(request, data).map((address) => suppressionOfAddress(services, client, address, mail)),
  );
  const copies = reasons.flatMap((reason, index) => (index > 0 && reason !== null ? [index] : []));
  return { reason: reasons[0] ?? null, copies };
}
