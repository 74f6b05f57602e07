// domain/mail-recipients.ts: whom one mail goes to, each once, by the places that outcomes and reports name.
import { canonicalOrSame } from "../contract/fields.ts";
import type { DeliveryRequest } from "./delivery-state.ts";
import { reveal } from "./event.ts";
import type { NotificationData } from "./notification.ts";

type Copied = Pick<NotificationData, "recipients" | "cc" | "bcc">;

/** Who gets copies of a mail: they share the one mail of a single recipient, and none that it falls back to. */
export function mailCopies(
  { fallbackOf }: Pick<DeliveryRequest, "fallbackOf">,
  { recipients, cc, bcc }: Copied,
): { readonly cc: readonly string[]; readonly bcc: readonly string[] } {
  const hasCopies = fallbackOf === null && recipients.length === 1;
  return hasCopies ? { cc: reveal(cc) ?? [], bcc: reveal(bcc) ?? [] } : { cc: [], bcc: [] };
}

/** The recipient first, then those who share its mail as copies. None when the recipient was erased. */
export function mailRecipients(
  request: Pick<DeliveryRequest, "address" | "fallbackOf">,
  data: Copied,
): readonly string[] {
  const to = reveal(request.address);
  if (to === null) return [];
  const { cc, bcc } = mailCopies(request, data);
  return [...new Set([to, ...cc, ...bcc].map(canonicalOrSame))];
}
