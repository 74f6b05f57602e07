// What use cases are given: the services of the process, and who calls.
import type { Logger } from "pino";
import type { EmailChannel } from "../channels/email/channel.ts";
import type { FetchAmazon } from "../channels/email/events/ses.ts";
import type { AddressGuard } from "../channels/guard.ts";
import type { Config } from "../config.ts";
import type { Scope } from "../contract/fields.ts";
import type { ClientId, KeyId, Subject } from "../contract/ids.ts";
import type { ProviderType } from "../contract/providers.ts";
import type { Instant } from "../contract/time.ts";
import type { Actor } from "../domain/decider.ts";
import type { CommandContext } from "../event-store/envelope.ts";
import type { EventStore, Position } from "../event-store/event-store.ts";
import type { Commands } from "../event-store/handle-command.ts";
import type { Keyring } from "../event-store/sealing.ts";
import type { ObserveStage } from "../platform/metrics.ts";
import type { OneTimeSecrets } from "../platform/one-time-secrets.ts";
import type { EndpointCursors } from "../projections/endpoint-cursors.ts";
import type { GrowingTexts } from "../projections/growing-texts.ts";
import type { ReadAs, ReadSide } from "../projections/read-side.ts";
import type { ClientDirectory, KeyUse } from "./client-directory.ts";
import type { Tokens } from "./credentials.ts";
import type { GrowthFeed } from "./growth-feed.ts";
import type { MailLinks } from "./mail-links.ts";
import type { People } from "./people.ts";
import type { Positions } from "./positions.ts";
import type { Presence } from "./presence.ts";
import type { Limits, OnRate } from "./rate-limit.ts";

/** All live as long as the server. */
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
  readonly directory: ClientDirectory;
  readonly tokens: Tokens;
  /** What tickets stand for. */
  readonly oneTimeSecrets: OneTimeSecrets;
  readonly keyUse: KeyUse;
  /** Counted by everybody who serves callers. */
  readonly limits: Limits;
  readonly people: People;
  readonly positions: Positions;
  readonly presence: Presence;
  /** The texts of messages that grow, and who is told of them. */
  readonly growing: GrowingTexts;
  readonly growth: GrowthFeed;
  readonly links: MailLinks;
  /** Fetches from Amazon's SNS, under the guard. */
  readonly fetchAmazon: FetchAmazon;
  /** Called with what came of the events that a vendor posted. */
  readonly onReports?: (type: ProviderType, outcome: { readonly recorded: number; readonly unknown: number }) => void;
  /** Called with each stage that a request passed that writes. */
  readonly onStage?: ObserveStage;
  /** How far each webhook endpoint has come. */
  readonly cursors: EndpointCursors;
  readonly guard: AddressGuard;
  readonly email: EmailChannel;
};

/** A caller that was let in: a client key, or a user's token, which has at most the scopes of the key that minted it. */
export type Caller = { readonly client: ClientId; readonly actor: Actor; readonly scopes: ReadonlySet<Scope> } & (
  | { readonly kind: "key"; readonly keyId: KeyId; readonly expiresAt: Instant | null }
  | { readonly kind: "user"; readonly subject: Subject; readonly userId: string; readonly expiresAt: Instant }
);

/** A call of a use case. */
export type Call = {
  readonly services: Services;
  readonly caller: Caller;
  /** Queries that know the caller's client. */
  readonly read: ReadAs;
  /** The time of its commands. */
  readonly at: Instant;
  /** The context of its commands. The id follows from the idempotency key, or is random. */
  readonly context: CommandContext;
  /** Is told of what the call is counted for. */
  readonly onRate?: OnRate;
};

/** What a use case that writes says beside its result. */
export type Written = {
  /** At or after its last event. */
  readonly position: Position;
  /** It was done before, under the same idempotency key. */
  readonly replayed: boolean;
};

/** What a node of any role has. */
export type NodeServices = Pick<Services, "config" | "logger" | "newId" | "store" | "readSide">;
