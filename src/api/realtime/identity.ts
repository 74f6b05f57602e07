// Who a socket speaks for: a user, or a client's key that only observes.
import type { IncomingMessage } from "node:http";
import { asUser, authenticate, type CredentialRefused } from "../../app/authenticate.ts";
import type { DirectoryChange } from "../../app/client-directory.ts";
import type { Caller, Services } from "../../app/services.ts";
import { userId as userIdSchema } from "../../contract/fields.ts";
import type { Instant } from "../../contract/time.ts";
import { credential } from "../http/authentication.ts";
import { targetOf } from "../http/hardening.ts";

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

/**
 * The credential in header or query of an upgrade, if any; `wrong` when it can never be right. The query takes a token
 * alone: addresses are kept in many logs.
 */
export function credentialOf(request: IncomingMessage): Credential | "wrong" | undefined {
  const query = new URLSearchParams(targetOf(request)?.search);
  const userId = query.get("user_id") ?? undefined;
  const inHeader = credential(request);
  const bearer = inHeader ?? query.get("token");
  if (bearer === null) return undefined;
  if (inHeader === undefined && bearer.startsWith("ck_")) return "wrong";
  return userId === undefined || userIdSchema.safeParse(userId).success ? { bearer, userId } : "wrong";
}

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

/** Whether a change may have ended the credential of an identity. */
export const concerns = (change: DirectoryChange, { caller }: Identity): boolean =>
  change.kind === "keys"
    ? change.client === caller.client
    : caller.kind === "user" && change.subject === caller.subject;
