// What must not be found where it does not belong, by kind, as a run of the suite makes and meets it.
import { randomBytes } from "node:crypto";

export const KINDS = [
  "operator's key",
  "encryption key",
  "data key",
  "database password",
  "API key",
  "user token",
  "ticket",
  "webhook secret",
  "SMTP password",
  "SMTP user name",
  "idempotency key",
  "refused input",
  "message",
  "name",
  "user id",
  "mail address",
  "webhook address",
  "notification",
  "receiver's answer",
] as const;
export type Kind = (typeof KINDS)[number];

/** By kind; things of one kind may be in the same places. */
export class Kept {
  readonly all: (readonly [Kind, string | Uint8Array])[] = [];

  /** Notes it, and gives it back. */
  keep<T extends string | Uint8Array>(kind: Kind, secret: T): T {
    this.all.push([kind, secret]);
    return secret;
  }

  /** A text that nobody else has, awkward at its end; `kind` is what it will be. */
  text(kind: Kind): string {
    return this.keep(kind, `${tag()} says "ë\\😀" ${tag().slice(0, 5)}`);
  }

  userId(): string {
    return this.keep("user id", `${tag()}+x@${tag()}`);
  }

  address(): string {
    return this.keep("mail address", `${tag()}@${tag()}.example`);
  }

  plain(kind: Kind): string {
    return this.keep(kind, `${tag()}${tag()}${tag()}`);
  }
}

/** Twelve characters that stand nowhere else. */
export const tag = (): string => randomBytes(9).toString("hex").slice(0, 12);
