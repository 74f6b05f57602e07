// What the API is made of: handed in by the composition root, so that handlers reach for nothing else.
import type { Logger } from "pino";
import type { SmtpChannel } from "../channels/email/smtp.ts";
import type { AddressGuard } from "../channels/guard.ts";
import type { Config } from "../config.ts";
import type { Instant } from "../contract/time.ts";
import type { EventStore } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import type { Keyring } from "../event-store/sealing.ts";
import type { ReadSide } from "../projections/read-side.ts";
import type { ClientDirectory } from "./client-directory.ts";
import type { MemberNames } from "./member-names.ts";
import type { Tokens } from "./tokens.ts";

/** The parts; all live as long as the server. */
export type Services = {
  readonly config: Config;
  readonly logger: Logger;
  readonly now: () => Instant;
  /** A random UUID. */
  readonly newId: () => string;
  /** Cryptographically random bytes. */
  readonly randomBytes: (count: number) => Uint8Array;
  readonly store: EventStore;
  readonly keyring: Keyring;
  readonly commands: Commands;
  readonly readSide: ReadSide;
  /** Clients, keys and revoked tokens, folded on this node. */
  readonly directory: ClientDirectory;
  readonly tokens: Tokens;
  /** Display names of members, for messages posted without one. */
  readonly memberNames: MemberNames;
  readonly guard: AddressGuard;
  readonly smtp: SmtpChannel;
};

/** What a node of any role has. */
export type NodeServices = Pick<Services, "config" | "logger" | "newId" | "store" | "readSide">;
