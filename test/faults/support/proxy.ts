// A TCP proxy in front of anything, for the faults of a network: it cuts, resets, refuses, stalls, half-opens and slows.
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Towards the server, or back to the client. */
export type Direction = "up" | "down";

export type Slowness = {
  /** In each direction of each connection; no limit when left out. */
  readonly bytesPerSecond?: number;
  /** Waited before each piece that passes. */
  readonly latencyMs?: number;
};

/** What it did: tests look here whether a fault met anything at all. */
export type ProxyCounters = {
  connections: number;
  refused: number;
  /** Connections that ended by its hand. */
  cut: number;
  /** Pieces that it held back or made late. */
  held: number;
  readonly bytes: Record<Direction, number>;
};

export type TcpProxy = AsyncDisposable & {
  /** The target's URL with the proxy in place of its host and port. */
  readonly url: string;
  readonly port: number;
  readonly counters: ProxyCounters;
  /** Connections that are open now. */
  open(): number;
  /** Ends every connection with a FIN on both sides. */
  cut(): void;
  /** Ends every connection with an RST on both sides. */
  reset(): void;
  /** Resets every connection, and new ones at once, until `heal`. */
  refuse(): void;
  /** Keeps connections open and takes new ones, but passes nothing, in one direction or both, until `heal`. */
  stall(direction?: Direction): void;
  /** Closes every connection towards one side alone: that one gets a FIN, the other hears of nothing, until `heal`. */
  halfOpen(closed: "client" | "server"): void;
  /** Everything passes late until `heal`. */
  slow(how: Slowness): void;
  /** What was held back goes on, what is half open ends, and new connections are as at first. */
  heal(): void;
};

/** Pieces that a rate is spread over. */
const SLOW_PIECE_BYTES = 1_024;

type Link = { readonly client: net.Socket; readonly server: net.Socket; halved: boolean };

/** Starts a proxy on a free loopback port to the host and port of a URL. */
export async function proxyTo(target: string): Promise<TcpProxy> {
  const { hostname, port: targetPort } = new URL(target);
  const links = new Set<Link>();
  const counters: ProxyCounters = { connections: 0, refused: 0, cut: 0, held: 0, bytes: { up: 0, down: 0 } };
  const stalled = { up: false, down: false };
  let slowness: Slowness | undefined;
  let refusing = false;
  let changed = Promise.withResolvers<void>();

  const change = () => {
    changed.resolve();
    changed = Promise.withResolvers<void>();
  };
  const turn = async (direction: Direction, from: net.Socket, to: net.Socket) => {
    while (stalled[direction] && !from.destroyed && !to.destroyed) await changed.promise;
  };

  async function pass(bytes: Buffer, direction: Direction, from: net.Socket, to: net.Socket): Promise<void> {
    if (stalled[direction] || slowness !== undefined) counters.held += 1;
    await turn(direction, from, to);
    for (let at = 0; at < bytes.byteLength; ) {
      const piece = bytes.subarray(at, slowness?.bytesPerSecond === undefined ? undefined : at + SLOW_PIECE_BYTES);
      at += piece.byteLength;
      await late(piece.byteLength);
      await turn(direction, from, to);
      if (to.destroyed || to.writableEnded) return; // half open: what the other side says gets lost
      counters.bytes[direction] += piece.byteLength;
      if (!to.write(piece)) await Promise.race([once(to, "drain"), once(to, "close")]).catch(() => undefined);
    }
  }

  async function late(bytes: number): Promise<void> {
    if (slowness === undefined) return;
    const { bytesPerSecond = Number.POSITIVE_INFINITY, latencyMs = 0 } = slowness;
    await sleep(latencyMs + (bytes * 1_000) / bytesPerSecond);
  }

  function join(link: Link, direction: Direction): void {
    const [from, to] = direction === "up" ? [link.client, link.server] : [link.server, link.client];
    let passing = Promise.resolve();
    from.on("data", (bytes: Buffer) => {
      from.pause();
      passing = pass(bytes, direction, from, to).then(() => void from.resume());
    });
    from.on("end", () => {
      if (!link.halved) void passing.then(() => turn(direction, from, to)).then(() => to.end());
    });
    from.on("error", () => undefined); // followed by "close"
    from.on("close", (hadError) => {
      if (link.halved && !to.destroyed) return;
      links.delete(link);
      change();
      if (hadError) to.resetAndDestroy();
      else if (from.readableEnded && from.writableEnded) void passing.then(() => to.destroySoon());
      else to.destroy();
    });
  }

  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    counters.connections += 1;
    if (refusing) {
      counters.refused += 1;
      client.on("error", () => undefined);
      client.resetAndDestroy();
      return;
    }
    const link = {
      client,
      server: net.connect({ port: Number(targetPort), host: hostname, allowHalfOpen: true }),
      halved: false,
    };
    for (const socket of [link.client, link.server]) socket.setNoDelay(true);
    links.add(link);
    join(link, "up");
    join(link, "down");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const url = new URL(target);
  url.host = `127.0.0.1:${address.port}`;

  const endAll = (end: (socket: net.Socket) => void, which = (_link: Link) => true) => {
    for (const link of [...links].filter(which)) {
      links.delete(link);
      counters.cut += 1;
      end(link.client);
      end(link.server);
    }
    change();
  };
  const fin = (socket: net.Socket) => socket.end(() => socket.destroy());
  const rst = (socket: net.Socket) => socket.resetAndDestroy();

  return {
    url: url.href,
    port: address.port,
    counters,
    open: () => links.size,
    cut: () => endAll(fin),
    reset: () => endAll(rst),
    refuse: () => {
      refusing = true;
      endAll(rst);
    },
    stall: (direction) => {
      stalled.up ||= direction !== "down";
      stalled.down ||= direction !== "up";
    },
    halfOpen: (closed) => {
      for (const link of links) {
        if (link.halved) continue;
        link.halved = true;
        counters.cut += 1;
        (closed === "client" ? link.client : link.server).end();
      }
    },
    slow: (how) => {
      slowness = how;
    },
    heal: () => {
      refusing = false;
      stalled.up = false;
      stalled.down = false;
      slowness = undefined;
      change();
      endAll(rst, (link) => link.halved);
    },
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, "close");
      server.close();
      endAll(rst);
      await closed;
    },
  };
}
