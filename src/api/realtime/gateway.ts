// The WebSocket gateway: takes upgrades, counts sockets, and sees to it that each ends when it must.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { DirectoryChange } from "../../app/client-directory.ts";
import type { Limits } from "../../app/rate-limit.ts";
import type { Services } from "../../app/services.ts";
import { CLOSE } from "../../contract/errors.ts";
import { userId as userIdSchema } from "../../contract/fields.ts";
import { pause } from "../../platform/supervise.ts";
import type { LiveFeed } from "../../projections/feed.ts";
import { clientAddress } from "../http/address.ts";
import { tooMany } from "../http/authentication.ts";
import { Problem, toProblem } from "../http/problems.ts";
import { Connection, type ConnectionParts } from "./connection.ts";
import { GatewaySocket } from "./gateway-socket.ts";
import { type Identity, identify } from "./identity.ts";
import { MAX_FRAME_BYTES, MAX_FRAME_PARTS, TIMINGS, type Timings } from "./limits.ts";
import { LiveDeliveries } from "./live-deliveries.ts";
import { LiveRooms } from "./live-rooms.ts";
import { openPeople } from "./people.ts";
import { presented, refuse, upgradeCheck } from "./upgrade.ts";

/** How often connections are looked at: the precision of heartbeats and expiry. */
const TICK_MS = 500;
/** What a caller who is refused for too many sockets is told to wait. */
const RETRY_AFTER_SECONDS = 10;
/** How often a shutdown looks whether every socket is closed. */
const CLOSE_POLL_MS = 20;

type GatewayOptions = {
  readonly services: Services;
  readonly feed: LiveFeed;
  /** Shared with HTTP. */
  readonly limits: Limits;
  /** For tests. Default: TIMINGS. */
  readonly timings?: Timings;
};

export interface Gateway extends AsyncDisposable {
  /** For the server's `upgrade` event. Never rejects. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
  /** Sockets and rooms that are open, for metrics. */
  counts(): { readonly sockets: number; readonly rooms: number };
}

/** Opens the gateway. Disposing closes every socket with 4000 and waits for them, for a bounded time. */
export function createGateway({ services, feed, limits, timings = TIMINGS }: GatewayOptions): Gateway {
  const { config, commands, store, keyring, logger } = services;
  const rooms = new LiveRooms({ store, keyring, commands, logger, feed, people: openPeople(commands) });
  const deliveries = new LiveDeliveries({ feed, commands });
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    autoPong: false, // pings count as frames before they are answered
    maxPayload: MAX_FRAME_BYTES,
    maxFragments: MAX_FRAME_PARTS,
    maxBufferedChunks: MAX_FRAME_PARTS,
    WebSocket: GatewaySocket,
  });
  server.on("wsClientError", (error, socket, request) => {
    const headers = { "Sec-WebSocket-Version": "13" };
    refuse(services, request, socket, new Problem("malformed_request", { detail: error.message, headers }));
  });
  const connections = new Set<Connection>();
  /** Until they are really closed. */
  const sockets = new Set<WebSocket>();
  const check = upgradeCheck(config);
  const address = clientAddress(config);
  let closing = false;

  const ticking = setInterval(
    () => {
      const now = performance.now();
      for (const connection of connections) connection.tick(now);
    },
    Math.min(TICK_MS, timings.heartbeatMs / 5),
  );
  const watching = services.directory.onChange((change) => {
    for (const connection of connections) {
      if (concerns(change, connection.identity)) connection.doubt();
    }
  });

  async function closeAll(): Promise<void> {
    for (const connection of connections) connection.close(CLOSE.shuttingDown);
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), timings.closeMs);
    while (sockets.size > 0 && !deadline.signal.aborted) await pause(CLOSE_POLL_MS, deadline.signal);
    clearTimeout(timer);
    for (const ws of sockets) ws.terminate();
  }

  /** Places for the user and the client of a connection. */
  function admit({ caller, user }: Identity): Disposable | undefined {
    const ofClient = limits.socketsByClient.take(caller.client);
    if (ofClient === undefined) return undefined;
    const ofUser = user === null ? NO_PLACE : limits.socketsByUser.take(user.subject);
    if (ofUser === undefined) {
      ofClient[Symbol.dispose]();
      return undefined;
    }
    return {
      [Symbol.dispose]: () => {
        ofClient[Symbol.dispose]();
        ofUser[Symbol.dispose]();
      },
    };
  }

  /** Of an address that failed too often only a credential that holds gets a socket. Throws Problem (429, 503). */
  async function lookFirst(request: IncomingMessage, group: string): Promise<void> {
    const given = presented(request);
    const named = given === undefined || given === "wrong" ? undefined : given;
    const found = named && (await identify(services, named, services.now()));
    if (found !== undefined && !("refused" in found)) return;
    if (found?.refused === "unavailable") throw new Problem("unavailable");
    throw tooMany("authentications", await limits.authentications.take(group));
  }

  async function open(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const exempt = config.development && address.isLoopback(request);
    const group = address.group(request);
    if (!exempt) takePlace(group, socket);
    // fence: socket-authentications
    if (!exempt && (await limits.authentications.isSpent(group))) await lookFirst(request, group);
    const parts = exempt ? partsOfExempt : partsOf(group);
    server.handleUpgrade(request, socket, head, (ws) => {
      const connection = connect(parts, ws, socket);
      if (closing) return connection.close(CLOSE.shuttingDown);
      const credential = presented(request);
      if (credential === undefined) return;
      const named = credential === "wrong" ? undefined : credential.userId;
      const valid = named === undefined || userIdSchema.safeParse(named).success;
      if (credential === "wrong" || !valid) connection.close(CLOSE.unauthenticated);
      else connection.present(credential);
    });
  }

  // What lives as long as a socket is made apart from its request, which would be kept for as long as well.

  function takePlace(group: string, socket: Duplex): void {
    const place = limits.socketsByAddress.take(group);
    if (place === undefined) {
      throw new Problem("rate_limited", { headers: { "Retry-After": String(RETRY_AFTER_SECONDS) } });
    }
    socket.once("close", () => place[Symbol.dispose]());
  }

  const partsOfExempt: ConnectionParts = {
    ...{ services, rooms, deliveries, timings, admit },
    failedAuthentication: () => undefined,
    onEnd: (connection) => connections.delete(connection),
  };
  const partsOf = (group: string): ConnectionParts => ({
    ...partsOfExempt,
    failedAuthentication: () => void limits.authentications.take(group),
  });

  function connect(parts: ConnectionParts, ws: WebSocket, socket: Duplex): Connection {
    const connection = new Connection(parts, ws, socket);
    sockets.add(ws);
    ws.once("close", () => sockets.delete(ws));
    connections.add(connection);
    return connection;
  }

  return {
    async handleUpgrade(request, socket, head) {
      const broken = () => socket.destroy();
      socket.on("error", broken);
      try {
        if (closing) throw new Problem("unavailable");
        check(request);
        await open(request, socket, head);
        socket.off("error", broken);
      } catch (error) {
        const problem = toProblem(error);
        if (problem === undefined) logger.error({ err: error }, "an upgrade failed");
        refuse(services, request, socket, problem ?? new Problem("internal"));
      }
    },
    counts: () => ({ sockets: connections.size, rooms: rooms.size }),
    async [Symbol.asyncDispose]() {
      closing = true;
      clearInterval(ticking);
      watching[Symbol.dispose]();
      await closeAll();
      deliveries[Symbol.dispose]();
      await rooms[Symbol.asyncDispose]();
    },
  };
}

const NO_PLACE: Disposable = { [Symbol.dispose]: () => undefined };

/** Whether a change may have ended what a connection came in with. */
function concerns(change: DirectoryChange, identity: Identity | undefined): boolean {
  if (identity === undefined) return false;
  return change.kind === "keys" ? change.client === identity.caller.client : change.subject === identity.user?.subject;
}
