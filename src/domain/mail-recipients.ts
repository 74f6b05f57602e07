// domain/mail-recipients.ts: whom one mail goes to, each once, by the places that outcomes and reports name.
import { canonicalOrSame } from "../contract/fields.ts";
import type { DeliveryRequest } from "./delivery-state.ts";
import { reveal } from "./event.ts";
import type { NotificationData } from "./notification.ts";

/** The recipient first, then those who share its mail as copies. None when the recipient was erased. */
export function mailRecipients(
  { address, fallbackOf }: Pick<DeliveryRequest, "address" | "fallbackOf">,
  { recipients, cc, bcc }: Pick<NotificationData, "recipients" | "cc" | "bcc">,
): readonly string[] {
  const to = reveal(address);
  if (to === null) return [];
  // Copies share the one mail of a single recipient.
  const copies = fallbackOf === null && recipients.length === 1 ? [...(reveal(cc) ?? []), ...(reveal(bcc) ?? [])] : [];
  return [...new Set([to, ...copies].map(canonicalOrSame))];
}
