// Real servers on loopback for the channels' tests: HTTP receivers, and sockets that say whatever they like.

import { randomInt } from "node:crypto";
import { createServer as createHttpServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import getTlsOptions from "smtp-server/lib/tls-options.js";
import { until as soon } from "../support/until.ts";

export type TestServer = AsyncDisposable & {
  readonly port: number;
  /** How many connections were made so far. */
  readonly connections: () => number;
  /** How many connections are open now. */
  readonly open: () => number;
};

/**
 * Starts a server on a free loopback port. Disposing it calls `close`, which has to cut the connections that are left:
 * the server knows how; a socket destroyed under its TLS layer takes the process with it.
 */
export async function listen(server: Server, close: (sockets: ReadonlySet<Socket>) => void): Promise<TestServer> {
  const sockets = new Set<Socket>();
  let connections = 0;
  server.on("connection", (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: portOf(server),
    connections: () => connections,
    open: () => sockets.size,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.once("close", resolve));
      server.close();
      close(sockets);
      await closed;
    },
  };
}

const cut = (sockets: ReadonlySet<Socket>) => {
  for (const socket of sockets) socket.destroy();
};

/** A server that speaks no protocol but the given one. */
export const socketServer = (onConnection: (socket: Socket) => void) => listen(createServer(onConnection), cut);

/** An HTTP receiver. */
export function httpServer(handler: RequestListener): Promise<TestServer> {
  const server = createHttpServer(handler);
  return listen(server, () => server.closeAllConnections());
}

/** An HTTPS receiver whose certificate nobody trusts. */
export function httpsServer(handler: RequestListener): Promise<TestServer> {
  const server = createHttpsServer(getTlsOptions(), handler);
  return listen(server, () => server.closeAllConnections());
}

/** Below the ports that systems give to connections that go out: one of those may hold a port while its server restarts. */
const PORTS = { from: 15_000, to: 30_000 };

/** A loopback port on which nobody listens. */
export async function closedPort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** The whole body of a request. */
export async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request.setEncoding("utf8")) body += chunk;
  return body;
}

/** Waits until the condition holds. */
export const until = (condition: () => boolean): Promise<boolean> => soon(condition);

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return address.port;
}
