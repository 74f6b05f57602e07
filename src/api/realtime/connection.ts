// One socket: authentication, the client's frames one after the other, heartbeats, and the end.
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import {
  type Credential,
  type Identity,
  identify,
  type Refused,
  redeemTicket,
  type Ticket,
  userIdOf,
} from "../../app/authenticate.ts";
import { AppError, toAppError } from "../../app/errors.ts";
import type { Caller, Services } from "../../app/services.ts";
import { CLOSE, CLOSE_REASONS, type CloseCode } from "../../contract/errors.ts";
import { type ClientFrame, NOTIFICATION_SCOPE, type Ref } from "../../contract/frames.ts";
import { rfc3339OrNull, SECOND_MS } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { pause } from "../../platform/supervise.ts";
import type { SharedCommands } from "../http/api.ts";
import { admitFrame, errorFrame, isUserFrame, SocketRefusal, UserCommands, type UserFrame } from "./commands.ts";
import type { FollowFeed } from "./follow-feed.ts";
import { SocketFollow } from "./follower.ts";
import type { GrowingFrames } from "./growing.ts";
import { CredentialCheck, RECHECK_MS } from "./identity.ts";
import { type DeliveryFeed, OpenDeliveries } from "./open-deliveries.ts";
import { type FrameTally, Outbox } from "./outbox.ts";
import type { InboxCountsFeed, PersonalEvents } from "./personal-feeds.ts";
import type { ConnectionWatches, PresenceWatches } from "./presence-watches.ts";
import { type ReceivedItem, Receiver } from "./receiver.ts";
import type { RoomChannels } from "./room-channels.ts";
import { RoomSubscriptions } from "./room-subscriptions.ts";
import type { Typing } from "./typing.ts";

/** Shown in `welcome`. */
const HEARTBEAT_SECONDS = 25;
/** What a user's connection needs to be told of its messages for later. */
const MESSAGES_SCOPE = "messages:read";

/** Durations in milliseconds. */
export type Timings = {
  /** From connecting to being authenticated. */
  readonly authenticationMs: number;
  /** Silence after which a heartbeat is sent. */
  readonly heartbeatMs: number;
  /** Silence of the client after which its connection is closed. */
  readonly silenceMs: number;
  /** How long a client may take to answer a close before its socket is destroyed. */
  readonly closeMs: number;
};

export const TIMINGS: Timings = {
  authenticationMs: 5 * SECOND_MS,
  heartbeatMs: HEARTBEAT_SECONDS * SECOND_MS,
  silenceMs: 2 * HEARTBEAT_SECONDS * SECOND_MS,
  closeMs: 3 * SECOND_MS,
};

/** What all connections of a gateway share. */
export type ConnectionContext = {
  readonly services: Services;
  readonly rooms: RoomChannels;
  readonly growing: GrowingFrames;
  readonly follows: FollowFeed;
  readonly deliveries: DeliveryFeed;
  readonly inboxCounts: InboxCountsFeed;
  readonly personal: PersonalEvents;
  readonly commands: SharedCommands;
  readonly typing: Typing;
  readonly watches: PresenceWatches;
  readonly timings: Timings;
  readonly tally: FrameTally;
  /** Nothing more happens on the connection; its socket may still be closing. */
  readonly onEnd: (connection: Connection) => void;
};

/** A connection, from the upgrade to its close. */
export class Connection {
  readonly id: string;
  readonly #context: ConnectionContext;
  readonly #socket: WebSocket;
  /** Counts failed authentications; null: they are not counted. */
  readonly #addressGroup: string | null;
  readonly #receiver: Receiver;
  readonly #outbox: Outbox;
  readonly #subscriptions: RoomSubscriptions;
  readonly #follow: SocketFollow;
  readonly #commands: UserCommands;
  readonly #watches: ConnectionWatches;
  /** Its user is online while it lasts. */
  #presence: Disposable | undefined;
  readonly #ended = new AbortController();
  #authenticationTimer: NodeJS.Timeout | undefined;
  #identity: Identity | undefined;
  /** Counted against the limits of the client and the user. */
  #counted: readonly Disposable[] = [];
  #deliveries: OpenDeliveries | undefined;
  #inboxCounts: Disposable | undefined;
  /** What is told to its user alone. */
  #personal: Disposable | undefined;
  #pingedAt = performance.now();
  readonly #credentialCheck: CredentialCheck;

  constructor(context: ConnectionContext, socket: WebSocket, stream: Duplex, addressGroup: string | null) {
    const { services, rooms, growing, timings, tally } = context;
    const { signal } = this.#ended;
    const close = (code: CloseCode) => this.close(code);
    this.#context = context;
    this.#socket = socket;
    this.#addressGroup = addressGroup;
    this.id = `conn_${services.newId().replaceAll("-", "")}`;
    this.#outbox = new Outbox(socket, stream, () => close(CLOSE.slowConsumer), tally);
    this.#follow = new SocketFollow({
      ...{ services, feed: context.follows, deliveries: context.deliveries, connection: this.id, outbox: this.#outbox },
      subscriptions: () => this.#subscriptions,
      notifications: () => this.#deliveries,
    });
    this.#subscriptions = new RoomSubscriptions({
      ...{ services, rooms, growing, outbox: this.#outbox, signal, follow: this.#follow },
    });
    this.#commands = new UserCommands({ ...context.commands, services, connection: this.id, typing: context.typing });
    this.#watches = context.watches.ofConnection(this.#outbox, signal);
    const check = () => this.#checkCredential();
    this.#credentialCheck = new CredentialCheck({ check, signal, logger: services.logger });
    this.#receiver = new Receiver({
      ...{ socket, signal, tally },
      handle: (item) => this.#handle(item),
      onFault: close,
      isOpen: () => this.#identity !== undefined,
    });
    this.#authenticationTimer = setTimeout(() => close(CLOSE.authenticationLate), timings.authenticationMs);
    socket.on("error", () => this.#end()); // broken, or a frame that ws refused and closed for
    socket.on("close", () => this.#end());
  }

  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** Takes the credential of the upgrade as if it were the first frame. */
  present(credential: Credential | Ticket): void {
    this.#receiver.push({ kind: "credential", credential });
  }

  /** Checks the credential again, and again for as long as this node cannot tell. Never rejects. */
  async recheck(): Promise<void> {
    await this.#credentialCheck.run();
  }

  /** Sends nothing more but the close; destroys the socket of a client that does not answer it. */
  close(code: CloseCode): void {
    this.#end();
    this.#socket.close(code, CLOSE_REASONS[code]);
    const cut = setTimeout(() => this.#socket.terminate(), this.#context.timings.closeMs);
    cut.unref();
    this.#socket.once("close", () => clearTimeout(cut));
  }

  /** Called at short intervals for heartbeats, silence and expiry. `now` is on the monotonic clock. */
  tick(now: number): void {
    const { timings, services } = this.#context;
    if (this.#identity === undefined || this.#ended.signal.aborted) return;
    const { expiresAt } = this.#identity;
    const heardAt = this.#receiver.heardAt(now);
    if (expiresAt !== null && expiresAt <= services.now()) this.close(CLOSE.expired);
    else if (now - heardAt >= timings.silenceMs) this.close(CLOSE.heartbeatMissed);
    else {
      const silent = now - this.#outbox.lastSentAt >= timings.heartbeatMs;
      if (silent) this.#outbox.send({ type: "heartbeat" });
      // A client that is sent a lot must also be heard of: browsers answer pings, and may send nothing else.
      if (!silent && now - Math.max(heardAt, this.#pingedAt) < timings.heartbeatMs) return;
      this.#pingedAt = now;
      this.#socket.ping();
    }
  }

  async #checkCredential(): Promise<boolean> {
    const { services } = this.#context;
    const identity = this.#identity;
    if (identity === undefined) return true;
    const found = await identify(services, identity.credential, services.now());
    if (this.#ended.signal.aborted) return true;
    const extended = this.#identity !== identity;
    if (extended || ("refused" in found && found.refused === "unavailable")) return false;
    if ("refused" in found) {
      const expired = found.refused === "token_expired" || found.refused === "key_expired";
      // fence: socket-revocation
      this.close(expired ? CLOSE.expired : CLOSE.unauthenticated);
    } else this.#identity = found; // its expiry may have moved
    return true;
  }

  async #handle(item: ReceivedItem): Promise<void> {
    try {
      if (item.kind === "credential") return await this.#authenticate(item.credential, undefined);
      const { type } = aboutOf(item);
      if (item.kind === "frame" && item.frame.type === "auth") {
        const { token: bearer, user_id: userId, ref } = item.frame;
        return await this.#authenticate({ bearer, userId }, ref);
      }
      const caller = this.#identity?.caller;
      if (caller === undefined) {
        return type === "auth" ? this.#refuse({ refused: "unauthenticated" }) : this.close(CLOSE.unauthenticated);
      }
      await admitFrame(this.#context.services, caller, type);
      if (item.kind === "frame") await this.#frame(caller, item.frame, item.body);
      else this.#outbox.send({ type: "error", ...item.fault, ref: item.ref });
    } catch (error) {
      this.#fail(error, aboutOf(item));
    }
  }

  /** Answers for what was thrown; `room` is named where several were asked for. */
  #fail(error: unknown, about: AboutItem, room?: string): void {
    const known = error instanceof SocketRefusal ? error : toAppError(error);
    if (known === undefined) {
      const where = { err: error, connection: this.id };
      this.#context.services.logger.error(where, "socket frame failed; answered with internal");
    }
    this.#outbox.send({ ...errorFrame(known ?? new AppError("internal"), about), room_id: room });
  }

  async #frame(caller: Caller, frame: ClientFrame, body: unknown): Promise<void> {
    if (isUserFrame(frame)) return this.#carryOut(caller, frame, body);
    switch (frame.type) {
      case "ping":
        return this.#outbox.send({ type: "pong", ref: frame.ref });
      case "subscribe":
        return this.#subscriptions.subscribe(caller, frame, (error, room) => this.#fail(error, frame, room));
      case "unsubscribe":
        return this.#subscriptions.unsubscribe(caller, frame);
      case "follow":
        return this.#follow.follow(this.#commands.call(caller), frame);
      case "unfollow":
        return this.#follow.unfollow(frame);
      case "presence":
        return this.#watches.watch(this.#commands.call(caller), frame);
    }
  }

  async #carryOut(caller: Caller, frame: UserFrame, body: unknown): Promise<void> {
    const ok = await this.#commands.carryOut(caller, frame, body);
    failpoint("frame-carried-out/ok-sent");
    this.#outbox.send(ok);
  }

  /** The first credential opens the connection; later ones of the same user, which allow no less, extend it. */
  async #authenticate(given: Credential | Ticket, ref: Ref | undefined): Promise<void> {
    const { services } = this.#context;
    const credential = "ticket" in given ? await redeemTicket(services, given, services.now()) : given;
    if (credential === undefined) return this.#refuse({ refused: "unauthenticated" });
    const found = await this.#identify(credential);
    if (this.#ended.signal.aborted) return;
    if ("refused" in found) return this.#refuse(found);
    const before = this.#identity;
    const { caller } = found;
    if (before === undefined) {
      if (!this.#count(found)) return this.close(CLOSE.tooManySockets);
    } else if (
      /* fence: socket-client */ before.caller.client !== caller.client ||
      /* fence: socket-user */ userIdOf(before.caller) !== userIdOf(caller) ||
      // What was subscribed stays: it must be what the newer credential allows too.
      /* fence: socket-scopes */ [...before.caller.scopes].some((scope) => !caller.scopes.has(scope))
    ) {
      return this.close(CLOSE.forbidden);
    }
    this.#identity = found;
    clearTimeout(this.#authenticationTimer);
    this.#authenticationTimer = undefined;
    void this.recheck(); // the directory may have moved since it was asked, and does not report a change twice
    if (before !== undefined) {
      this.#outbox.send({ type: "authenticated", expires_at: rfc3339OrNull(found.expiresAt), ref });
    } else {
      const who = { connection_id: this.id, user_id: userIdOf(caller) };
      if (caller.kind === "user") this.#presence = this.#context.services.presence.connect(caller);
      this.#outbox.send({ type: "welcome", ...who, heartbeat_seconds: HEARTBEAT_SECONDS, ref });
    }
    this.#sendNotifications(caller);
    if (caller.kind === "user" && caller.scopes.has(MESSAGES_SCOPE) && !this.#ended.signal.aborted)
      this.#personal ??= this.#context.personal.listen(caller.subject, (bytes, position) => {
        if (!this.#follow.tells(position) && this.#follow.takePersonal(position)) this.#outbox.sendAll([bytes]);
      });
  }

  /** Sends a user's open deliveries, and new ones from now on. */
  #sendNotifications(caller: Caller): void {
    if (caller.kind !== "user" || this.#deliveries !== undefined || this.#ended.signal.aborted) return;
    // fence: socket-notifications
    if (!caller.scopes.has(NOTIFICATION_SCOPE)) return;
    const { services, deliveries: feed, inboxCounts } = this.#context;
    const { client, subject } = caller;
    const isFollowed = (position: Position) => this.#follow.tells(position);
    const whose = { client, subject, connection: this.id, isFollowed };
    this.#inboxCounts = inboxCounts.listen(client, subject, (payload) => this.#outbox.sendAll([payload]));
    this.#deliveries = new OpenDeliveries({ services, feed, outbox: this.#outbox, ...whose });
  }

  #refuse({ refused }: Refused): void {
    if (refused === "unavailable") throw new AppError("unavailable");
    const forbidden = refused === "forbidden"; // it holds, but not for this user
    if (!forbidden && this.#addressGroup !== null)
      void this.#context.services.limits.authentications.take(this.#addressGroup);
    this.close(forbidden ? CLOSE.forbidden : CLOSE.unauthenticated);
  }

  /** Checks a credential; while this node does not know the newest revocations, again until it would be too late. */
  async #identify(credential: Credential): Promise<Identity | Refused> {
    const { services, timings } = this.#context;
    const deadline = performance.now() + timings.authenticationMs;
    for (;;) {
      const found = await identify(services, credential, services.now());
      const unknown = "refused" in found && found.refused === "unavailable";
      if (!unknown || performance.now() >= deadline || this.#ended.signal.aborted) return found;
      await pause(RECHECK_MS, this.#ended.signal);
    }
  }

  /** Counts the socket for its client and its user; false when either has too many. */
  #count({ caller }: Identity): boolean {
    const { socketsByClient, socketsByUser } = this.#context.services.limits;
    const ofClient = socketsByClient.take(caller.client);
    if (ofClient === undefined) return false;
    const ofUser = caller.kind === "user" ? socketsByUser.take(caller.subject) : NOT_COUNTED;
    if (ofUser === undefined) ofClient[Symbol.dispose]();
    else this.#counted = [ofClient, ofUser];
    return ofUser !== undefined;
  }

  #end(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    clearTimeout(this.#authenticationTimer);
    this.#authenticationTimer = undefined;
    this.#follow[Symbol.dispose]();
    this.#deliveries?.[Symbol.dispose]();
    this.#inboxCounts?.[Symbol.dispose]();
    this.#personal?.[Symbol.dispose]();
    this.#subscriptions[Symbol.dispose]();
    this.#watches[Symbol.dispose]();
    this.#presence?.[Symbol.dispose]();
    this.#context.typing.end(this.id);
    this.#outbox[Symbol.dispose]();
    for (const one of this.#counted) one[Symbol.dispose]();
    this.#context.onEnd(this);
  }
}

type AboutItem = { readonly type: string; readonly ref?: Ref | undefined };
/** What an answer to an item names. */
function aboutOf(item: ReceivedItem): AboutItem {
  if (item.kind === "credential") return { type: "auth", ref: undefined };
  const { type, ref } = item.kind === "frame" ? item.frame : item;
  return { type, ref };
}

const NOT_COUNTED: Disposable = { [Symbol.dispose]: () => undefined };
