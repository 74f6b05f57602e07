// Who a socket speaks for: a user, or a client's key that only watches.

import { hashApiKey } from "../../app/api-keys.ts";
import { asUser, authenticate, type Caller, type CredentialRefused } from "../../app/authenticate.ts";
import type { Services } from "../../app/services.ts";
import type { Subject } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";

/** What was presented: a key or a token, and the user that a key is to speak for. */
export type Credential = { readonly bearer: string; readonly userId: string | undefined };

export type Identity = {
  readonly credential: Credential;
  readonly caller: Caller;
  /** Null: an observer. */
  readonly user: { readonly id: string; readonly subject: Subject } | null;
  /** Null: it does not end by itself. */
  readonly expiresAt: Instant | null;
};
export type Refused = { readonly refused: CredentialRefused["refused"] | "forbidden" };

/** Finds out who a credential stands for. `forbidden`: a token that names another user than its own. */
export async function identify(
  services: Pick<Services, "directory" | "tokens" | "keyring">,
  credential: Credential,
  at: Instant,
): Promise<Identity | Refused> {
  const { bearer, userId } = credential;
  const caller = await authenticate(services, { bearer }, at);
  if ("refused" in caller) return caller;
  if (caller.kind === "user") {
    if (userId !== undefined && userId !== caller.userId) return { refused: "forbidden" };
    const user = { id: caller.userId, subject: caller.subject };
    return { credential, caller, user, expiresAt: caller.expiresAt };
  }
  const expiresAt = (await services.directory.keyByHash(hashApiKey(bearer)))?.expiresAt ?? null;
  if (userId === undefined) return { credential, caller, user: null, expiresAt };
  const subject = await services.keyring.subjectOfUser(caller.client, userId);
  return { credential, caller: asUser(caller, userId, subject), user: { id: userId, subject }, expiresAt };
}
