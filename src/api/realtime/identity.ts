// What a socket or stream was opened with: where an upgrade has it, and checking it again while the connection lasts.
import type { IncomingMessage } from "node:http";
import type { Credential, Identity, Ticket } from "../../app/authenticate.ts";
import type { DirectoryChange } from "../../app/client-directory.ts";
import { userId as userIdSchema } from "../../contract/fields.ts";
import { messageOf, pause, type WarnLogger } from "../../platform/supervise.ts";
import { credential } from "../http/authentication.ts";
import { targetOf } from "../http/hardening.ts";

/** Pause between two checks of a credential while this node cannot tell whether it holds. */
export const RECHECK_MS = 200;

/**
 * The credential in header or query of an upgrade, if any; `wrong` when it can never be right. The query takes a token or a
 * ticket: addresses are kept in many logs.
 */
export function credentialOf(request: IncomingMessage): Credential | Ticket | "wrong" | undefined {
  const query = new URLSearchParams(targetOf(request)?.search);
  const userId = query.get("user_id") ?? undefined;
  const inHeader = credential(request);
  const bearer = inHeader ?? query.get("token");
  const ticket = query.get("ticket");
  // Whom a ticket is for was said when it was made.
  if (bearer === null) return ticket === null ? undefined : { ticket };
  if (inHeader === undefined && bearer.startsWith("ck_")) return "wrong";
  return userId === undefined || userIdSchema.safeParse(userId).success ? { bearer, userId } : "wrong";
}

/** Whether a change may have ended the credential of an identity. */
export const concerns = (change: DirectoryChange, { caller }: Identity): boolean =>
  change.kind === "keys"
    ? change.client === caller.client
    : caller.kind === "user" && change.subject === caller.subject;

type CredentialCheckOptions = {
  /** Looks the credential up and does what follows; false when this node cannot tell yet. */
  readonly check: () => Promise<boolean>;
  /** Aborted when the connection ends. */
  readonly signal: AbortSignal;
  readonly logger: WarnLogger;
};

/** Checks the credential of a connection when it may have ended, and again for as long as this node cannot tell. */
export class CredentialCheck {
  readonly #options: CredentialCheckOptions;
  /** The credential may have ended since it was last checked. */
  #suspect = false;
  #checking = false;

  constructor(options: CredentialCheckOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async run(): Promise<void> {
    this.#suspect = true;
    if (this.#checking) return;
    this.#checking = true;
    const { check, signal, logger } = this.#options;
    while (this.#suspect && !signal.aborted) {
      this.#suspect = false;
      try {
        if (!(await check())) this.#suspect = true;
      } catch (error) {
        this.#suspect = true;
        logger.warn({ error: messageOf(error) }, "socket credential check failed; retrying");
      }
      if (this.#suspect) await pause(RECHECK_MS, signal);
    }
    this.#checking = false;
  }
}
