// The WebSocket gateway: checks and counts upgrades, and sees to it that each socket ends when it must.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { identify } from "../../app/authenticate.ts";
import type { Services } from "../../app/services.ts";
import { CLOSE } from "../../contract/errors.ts";
import { type Bus, processBus } from "../../platform/bus.ts";
import type { ReadMetric } from "../../platform/metrics.ts";
import { pause } from "../../platform/supervise.ts";
import type { LiveFeed } from "../../projections/feed.ts";
import { clientAddress } from "../http/address.ts";
import { type SharedCommands, sharedCommands } from "../http/api.ts";
import { tooMany } from "../http/authentication.ts";
import { answerPlainly, answersSent, targetOf } from "../http/hardening.ts";
import { hostCheck, socketOriginCheck } from "../http/origin.ts";
import { Problem, requestId, toProblem } from "../http/problems.ts";
import { SOCKET_PATHS } from "../http/route.ts";
import { Connection, type ConnectionContext, TIMINGS, type Timings } from "./connection.ts";
import { EventStreams } from "./event-streams.ts";
import { FollowFeed } from "./follow-feed.ts";
import { GrowingFrames } from "./growing.ts";
import { concerns, credentialOf } from "./identity.ts";
import { DeliveryFeed } from "./open-deliveries.ts";
import { type FrameTally, newTally } from "./outbox.ts";
import { InboxCountsFeed, PersonalEvents } from "./personal-feeds.ts";
import { PresenceWatches } from "./presence-watches.ts";
import { RoomChannels } from "./room-channels.ts";
import { Typing } from "./typing.ts";

const MAX_FRAME_BYTES = 256 * 1024;
/** Max pieces of one frame: each costs more than the bytes in it. */
const MAX_FRAME_PARTS = 4_096;
/** Interval at which connections are checked: the precision of heartbeats and expiry. */
const TICK_MS = 500;
/** `Retry-After` of an upgrade that is refused for too many sockets. */
const RETRY_AFTER_SECONDS = 10;
/** Interval at which a shutdown checks whether every socket is closed. */
const CLOSE_POLL_MS = 20;

type GatewayOptions = {
  readonly services: Services;
  readonly feed: LiveFeed;
  /** Default: the node is alone. */
  readonly bus?: Bus;
  /** Those of the node's requests. Default: none. */
  readonly commands?: SharedCommands;
  /** For tests. Default: TIMINGS. */
  readonly timings?: Timings;
};

/** The gateway of a node. Disposing closes every socket with 4000 and waits for them, for a bounded time. */
export class Gateway implements AsyncDisposable {
  readonly #context: ConnectionContext;
  readonly #server: WebSocketServer;
  readonly #isKnownHost: ReturnType<typeof hostCheck>;
  readonly #mayOpen: ReturnType<typeof socketOriginCheck>;
  readonly #address: ReturnType<typeof clientAddress>;
  readonly #connections = new Set<Connection>();
  /** Until they are really closed. */
  readonly #sockets = new Set<WebSocket>();
  readonly #ticking: NodeJS.Timeout;
  readonly #watching: Disposable;
  /** Streams of server-sent events, of the same channels. */
  readonly streams: EventStreams;
  #closing = false;

  constructor({
    services,
    feed,
    bus = processBus(),
    commands = sharedCommands(services),
    timings = TIMINGS,
  }: GatewayOptions) {
    const { config, directory } = services;
    const rooms = new RoomChannels(services, feed);
    const growing = new GrowingFrames(services);
    const typing = new Typing({
      bus,
      clock: () => performance.now(),
      publish: (room, bytes, except) => rooms.publish(room, bytes, except),
    });
    this.#context = {
      ...{ services, commands, timings, tally: newTally() },
      ...{ rooms, growing, follows: new FollowFeed(services, feed) },
      deliveries: new DeliveryFeed(services, feed),
      ...{ typing, watches: new PresenceWatches(services, rooms) },
      inboxCounts: new InboxCountsFeed(services, feed),
      personal: new PersonalEvents(services, feed),
      onEnd: (connection) => this.#connections.delete(connection),
    };
    this.streams = new EventStreams({ ...this.#context, feed });
    this.#isKnownHost = hostCheck(config);
    this.#mayOpen = socketOriginCheck(config);
    this.#address = clientAddress(config);
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      autoPong: false, // pings count as frames before they are answered
      maxPayload: MAX_FRAME_BYTES,
      maxFragments: MAX_FRAME_PARTS,
      maxBufferedChunks: MAX_FRAME_PARTS,
    });
    this.#server.on("wsClientError", (error, socket, request) => {
      const headers = { "Sec-WebSocket-Version": "13" };
      this.#refuse(request, socket, new Problem("malformed_request", { detail: error.message, headers }));
    });
    this.#ticking = setInterval(() => this.#tick(), Math.min(TICK_MS, timings.heartbeatMs / 5));
    this.#watching = directory.onChange((change) => {
      this.streams.changed(change);
      for (const connection of this.#connections) {
        if (connection.identity !== undefined && concerns(change, connection.identity)) void connection.recheck();
      }
    });
  }

  /** Open sockets, rooms and subscriptions, and frames. */
  counts(): Readonly<FrameTally> & Readonly<Record<"sockets" | "rooms" | "subscriptions", number>> {
    const { rooms, tally } = this.#context;
    return { ...tally, sockets: this.#connections.size, rooms: rooms.size, subscriptions: rooms.subscriptions };
  }

  metrics(): readonly ReadMetric[] {
    return [
      { name: "chatapi_sockets", help: "Open WebSockets.", read: () => this.counts().sockets },
      { name: "chatapi_event_streams", help: "Open streams of server-sent events.", read: () => this.streams.size },
      { name: "chatapi_rooms_followed", help: "Rooms that somebody listens to.", read: () => this.counts().rooms },
      {
        name: "chatapi_subscriptions",
        help: "Subscriptions of sockets and streams to rooms.",
        read: () => this.counts().subscriptions,
      },
      {
        name: "chatapi_followers",
        help: "Sockets and streams that follow all rooms of their users.",
        read: () => this.#context.follows.size,
      },
      {
        name: "chatapi_frames_sent_total",
        help: "Frames sent to sockets and streams.",
        type: "counter",
        read: () => this.counts().sent,
      },
      {
        name: "chatapi_frames_received_total",
        help: "Frames of sockets, pings and pongs among them.",
        type: "counter",
        read: () => this.counts().received,
      },
      {
        name: "chatapi_slow_consumers_total",
        help: "Sockets and streams closed because they took too little of what was sent to them.",
        type: "counter",
        read: () => this.counts().slowConsumers,
      },
    ];
  }

  /** For the server's `upgrade` event. Never rejects. */
  async handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const onError = () => socket.destroy();
    socket.on("error", onError);
    try {
      await answersSent(socket);
      if (this.#closing) throw new Problem("unavailable");
      this.#check(request);
      const addressGroup = await this.#admit(request, socket);
      this.#server.handleUpgrade(request, socket, head, (ws) => this.#connect(request, ws, socket, addressGroup));
      socket.off("error", onError);
    } catch (error) {
      const problem = toProblem(error);
      if (problem === undefined) {
        this.#context.services.logger.error({ err: error }, "WebSocket upgrade failed; answered with internal");
      }
      this.#refuse(request, socket, problem ?? new Problem("internal"));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    clearInterval(this.#ticking);
    this.#watching[Symbol.dispose]();
    this.streams[Symbol.dispose]();
    await this.#closeAll();
    this.#context.deliveries[Symbol.dispose]();
    this.#context.typing[Symbol.dispose]();
    this.#context.growing[Symbol.dispose]();
    this.#context.watches[Symbol.dispose]();
    this.#context.personal[Symbol.dispose]();
    await this.#context.inboxCounts[Symbol.asyncDispose]();
    await this.#context.follows[Symbol.asyncDispose]();
    await this.#context.rooms[Symbol.asyncDispose]();
  }

  /** Checks host, path, method and origin. Throws Problem (400, 421, 404, 405, 403). */
  #check(request: IncomingMessage): void {
    const target = targetOf(request);
    if (target === undefined) throw new Problem("malformed_request");
    if (!this.#isKnownHost(target.host)) throw new Problem("unknown_host");
    if (!SOCKET_PATHS.includes(target.path.replace(/(.)\/$/, "$1"))) {
      throw new Problem("not_found", { detail: "There is no such path." });
    }
    if (request.method !== "GET") throw new Problem("method_not_allowed", { headers: { Allow: "GET" } });
    if (!this.#mayOpen(request.headers.origin)) {
      throw new Problem("forbidden", { detail: "Pages of this origin may not open a socket. See CORS_ORIGINS." });
    }
  }

  /**
   * Counts a socket for its address. Gives the name that the address is counted by, null when it is exempt. Throws Problem
   * (429, 503).
   */
  async #admit(request: IncomingMessage, socket: Duplex): Promise<string | null> {
    const { services } = this.#context;
    const { limits } = services;
    if (services.config.development && this.#address.isLoopback(request)) return null;
    const group = this.#address.group(request);
    const counted = limits.socketsByAddress.take(group);
    if (counted === undefined) throw new Problem("rate_limited", { retryAfterSeconds: RETRY_AFTER_SECONDS });
    socket.once("close", () => counted[Symbol.dispose]());
    // fence: socket-authentications
    if (await limits.authentications.isSpent(group)) await this.#authenticateFirst(request, group);
    return group;
  }

  /** An address that failed too often gets a socket only with a credential that holds. Throws Problem (429, 503). */
  async #authenticateFirst(request: IncomingMessage, group: string): Promise<void> {
    const { services } = this.#context;
    const { limits } = services;
    const credential = credentialOf(request);
    // A ticket is good once, and not for this.
    const known = credential !== undefined && credential !== "wrong" && !("ticket" in credential);
    const found = known ? await identify(services, credential, services.now()) : undefined;
    if (found !== undefined && !("refused" in found)) return;
    if (found?.refused === "unavailable") throw new Problem("unavailable");
    throw tooMany("authentications", await limits.authentications.take(group));
  }

  /** Keeps nothing of the request: a connection would hold it for as long as it lasts. */
  #connect(request: IncomingMessage, ws: WebSocket, socket: Duplex, addressGroup: string | null): void {
    const connection = new Connection(this.#context, ws, socket, addressGroup);
    this.#sockets.add(ws);
    ws.once("close", () => this.#sockets.delete(ws));
    this.#connections.add(connection);
    const credential = credentialOf(request);
    if (this.#closing) connection.close(CLOSE.shuttingDown);
    else if (credential === "wrong") connection.close(CLOSE.unauthenticated);
    else if (credential !== undefined) connection.present(credential);
  }

  /** Answers a refused request with a plain HTTP problem and ends its connection. */
  #refuse(request: IncomingMessage, socket: Duplex, problem: Problem): void {
    const { config, newId } = this.#context.services;
    answerPlainly(socket, problem, config, requestId(request, newId));
  }

  #tick(): void {
    const now = performance.now();
    for (const connection of this.#connections) connection.tick(now);
    this.streams.tick(now);
    this.#context.typing.tick();
    this.#context.services.presence.tick();
    this.#context.watches.tick();
  }

  async #closeAll(): Promise<void> {
    for (const connection of this.#connections) connection.close(CLOSE.shuttingDown);
    const deadline = AbortSignal.timeout(this.#context.timings.closeMs);
    while (this.#sockets.size > 0 && !deadline.aborted) await pause(CLOSE_POLL_MS, deadline);
    for (const ws of this.#sockets) ws.terminate();
  }
}
