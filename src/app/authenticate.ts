// Who a request, socket or stream speaks for, and what its scopes allow: a client key or a user token, for HTTP and
// WebSocket alike.

import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { NewTicket, TicketResource } from "../contract/event-requests.ts";
import type { Scope } from "../contract/fields.ts";
import type { Subject } from "../contract/ids.ts";
import { type Instant, rfc3339, SECOND_MS } from "../contract/time.ts";
import type { ClientDirectory } from "./client-directory.ts";
import { hashApiKey, isApiKey } from "./credentials.ts";
import { AppError } from "./errors.ts";
import type { Call, Caller, Services } from "./services.ts";

/** Why a credential does not count. `unavailable`: this node does not know the newest revocations. */
type CredentialRefused = {
  readonly refused: "unauthenticated" | "token_expired" | "key_expired" | "unavailable";
};

/**
 * The caller that a credential stands for. A key whose checksum is wrong is refused without a look-up; a well-formed one
 * that is not known yet waits, at most a second, until this node has read the log's tail.
 */
async function authenticate(
  { directory, tokens, keyUse }: Pick<Services, "directory" | "tokens" | "keyUse">,
  { bearer }: { readonly bearer?: string | undefined },
  at: Instant,
): Promise<Caller | CredentialRefused> {
  if (bearer === undefined) return { refused: "unauthenticated" };
  if (bearer.startsWith("ck_")) {
    if (!isApiKey(bearer)) return { refused: "unauthenticated" };
    if (!(await becomesReady(directory))) return { refused: "unavailable" };
    const key = await directory.keyByHash(hashApiKey(bearer));
    if (key === undefined) return { refused: directory.isLogAway() ? "unavailable" : "unauthenticated" };
    // fence: key-grace
    if (key.expiresAt !== null && key.expiresAt <= at) return { refused: "key_expired" };
    const { client, keyId, scopes, expiresAt } = key;
    keyUse.note(client, keyId, at);
    return { kind: "key", client, actor: { type: "key", id: keyId }, keyId, scopes, expiresAt };
  }
  const claims = await tokens.verify(bearer, at);
  if (claims === undefined) return { refused: "unauthenticated" };
  if (claims === "expired") return { refused: "token_expired" };
  if (!(await becomesReady(directory))) return { refused: "unavailable" };
  const { client, subject, userId, generation, expiresAt, scopes } = claims;
  // fence: token-revoked
  if (!directory.tokenHolds(subject, generation)) return { refused: "unauthenticated" };
  return { kind: "user", client, actor: { type: "user", id: subject }, scopes, subject, userId, expiresAt };
}

/** How long a request waits for a directory that fell behind, and how often it looks: a busy moment is no outage. */
const READY_WAIT_MS = 1_000;
const READY_POLL_MS = 25;

async function becomesReady(directory: ClientDirectory): Promise<boolean> {
  for (let waited = 0; !directory.ready(); waited += READY_POLL_MS) {
    if (waited >= READY_WAIT_MS) return false;
    await sleep(READY_POLL_MS);
  }
  return true;
}

/** The caller with that user's rights: what a client key that names a user on its socket becomes. */
const asUser = (caller: Caller, userId: string, subject: Subject): Caller => ({
  kind: "user",
  client: caller.client,
  actor: { type: "user", id: subject },
  scopes: caller.scopes,
  subject,
  userId,
  // A key that expires is noticed by the directory; the socket looks its credential up again on each change.
  expiresAt: caller.kind === "user" ? caller.expiresAt : Number.POSITIVE_INFINITY,
});

/** The id of a user; null for a key. */
export const userIdOf = (caller: Caller): string | null => (caller.kind === "user" ? caller.userId : null);

/** A key or a token, and the user that a key is to speak for. */
export type Credential = { readonly bearer: string; readonly userId: string | undefined };

export type Identity = {
  readonly credential: Credential;
  /** A client key that names no user only observes. */
  readonly caller: Caller;
  /** Null: it does not expire. */
  readonly expiresAt: Instant | null;
};
export type Refused = { readonly refused: CredentialRefused["refused"] | "forbidden" };

/** Who a credential stands for. `forbidden`: a token that names another user than its own. */
export async function identify(services: Services, given: Credential, at: Instant): Promise<Identity | Refused> {
  const { userId } = given;
  const caller = await authenticate(services, given, at);
  if ("refused" in caller) return caller;
  if (caller.kind === "user") {
    if (userId !== undefined && userId !== caller.userId) return { refused: "forbidden" };
    return { credential: given, caller, expiresAt: caller.expiresAt };
  }
  const { expiresAt } = caller;
  if (userId === undefined) return { credential: given, caller, expiresAt };
  const subject = await services.keyring.subjectOfUser(caller.client, userId);
  return { credential: given, caller: asUser(caller, userId, subject), expiresAt };
}

/** Throws insufficient_scope, which names the scope, unless the caller has it. Null: none is needed. */
export function requireScope({ kind, scopes }: Caller, scope: Scope | null): void {
  // fence: key-scopes
  if (scope === null || scopes.has(scope)) return;
  const credential = kind === "key" ? "API key" : "user token";
  throw new AppError("insufficient_scope", { detail: `The ${credential} lacks the scope ${scope}.` });
}

// Tickets: what a browser, which cannot send headers there, opens a stream or a socket with: once, within half a minute.

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
