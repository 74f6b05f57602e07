// channels/email/provider.ts: what every email provider can do, whatever its type.

import type { ProviderType, ProviderVerdict } from "../../contract/providers.ts";
import type { AttemptErrorCode, AttemptResult } from "../attempt-result.ts";
import type { MailContent } from "./message.ts";

/**
 * The stage that the settings reached: with `ok` the last one (`auth`, or `send` when a test mail was requested), else the
 * one that failed. `message` quotes what the server said, without secrets, and only a server of the right protocol.
 */
export type EmailVerdict = Omit<ProviderVerdict, "code"> & { readonly code: AttemptErrorCode | null };

const MAX_VERDICT_MESSAGE = 200;

/** A verdict's message with what the server said, on one line. */
export const verdictMessage = (message: string, said: string): string =>
  [...(said === "" ? message : `${message}: ${said.replace(/\s+/g, " ")}`)].slice(0, MAX_VERDICT_MESSAGE).join("");

/** One client's provider, with its settings. */
export type EmailProvider = {
  readonly name: string;
  readonly type: ProviderType;
  /** The account at the server, which bounds and rates are counted for. Gives no secret away. */
  readonly account: string;
  /** How many attempts it may have at once, of which one client gets half. */
  readonly attemptsAtOnce: number;
  /** The longest time until all of a mail has left. */
  readonly maxMs: number;
  /**
   * Makes one attempt for the recipients that are not settled yet, and never rejects for what the server does.
   * `onHandedOver` is called when all of the mail has left and the answer may take longer than `maxMs`.
   */
  readonly send: (
    mail: MailContent,
    signal?: AbortSignal,
    onHandedOver?: (answersWithinMs: number) => void,
  ) => Promise<AttemptResult>;
  /** Tries the settings, and sends a test mail when an address is given. */
  readonly verify: (toEmail: string | null) => Promise<EmailVerdict>;
};
