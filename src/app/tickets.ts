// Tickets: what a browser, which cannot send headers there, opens a stream or a socket with: once, within half a minute.
import { z } from "zod";
import type { NewTicket, TicketResource } from "../contract/event-requests.ts";
import { type Instant, rfc3339, SECOND_MS } from "../contract/time.ts";
import type { Credential } from "./authenticate.ts";
import { AppError } from "./errors.ts";
import type { Call, Services } from "./services.ts";

const TICKET_MS = 30 * SECOND_MS;
const PREFIX = "tkt_";

/** What stands in for a credential, once. */
export type Ticket = { readonly ticket: string };

const CredentialSchema = z.object({ bearer: z.string(), userId: z.string().optional() });

/** Makes a ticket that stands for the caller's own credential, for the user that a key names. Throws forbidden. */
export async function createTicket(
  { services, caller, at }: Pick<Call, "services" | "caller" | "at">,
  bearer: string,
  { user_id: userId }: NewTicket,
): Promise<TicketResource> {
  // fence: ticket-user
  if (caller.kind === "user" && userId !== undefined && userId !== caller.userId) {
    throw new AppError("forbidden", { detail: "A user token makes tickets for its own user only." });
  }
  const expiresAt = at + TICKET_MS;
  const credential = JSON.stringify({ bearer, ...(caller.kind === "key" && { userId }) });
  const handle = await services.oneTimeSecrets.put(credential, expiresAt, at);
  return { ticket: PREFIX + handle, expires_at: rfc3339(expiresAt) };
}

/** The credential that a ticket stands for; undefined for one that was used before, has expired or never was. */
export async function redeemTicket(
  { oneTimeSecrets }: Pick<Services, "oneTimeSecrets">,
  { ticket }: Ticket,
  at: Instant,
): Promise<Credential | undefined> {
  const secret = ticket.startsWith(PREFIX) ? await oneTimeSecrets.take(ticket.slice(PREFIX.length), at) : undefined;
  if (secret === undefined) return undefined;
  const { bearer, userId } = CredentialSchema.parse(JSON.parse(secret));
  return { bearer, userId };
}
