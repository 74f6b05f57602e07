// A TCP relay in front of PostgreSQL, for faults that a server does not produce on demand: answers that get lost, and
// a server that is not there.

import { once } from "node:events";
import net from "node:net";

export type Proxy = AsyncDisposable & {
  readonly url: string;
  /** From now on nothing that the server says arrives; what the client says still does. */
  muteServer(): void;
  /** Cuts every connection; what connects from now on works as at first. */
  cut(): void;
  /** Cuts every connection and refuses new ones until `cut`. */
  refuse(): void;
};

export async function proxyTo(target: string): Promise<Proxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<net.Socket>();
  let muted = false;
  let refusing = false;
  const server = net.createServer((client) => {
    if (refusing) {
      client.destroy();
      return;
    }
    const upstream = net.connect(Number(port), hostname);
    for (const [socket, other] of [[client, upstream] as const, [upstream, client] as const]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (bytes) => upstream.write(bytes));
    upstream.on("data", (bytes) => {
      if (!muted) client.write(bytes);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const url = new URL(target);
  url.host = `127.0.0.1:${address.port}`;
  const cutAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: url.href,
    muteServer: () => {
      muted = true;
    },
    cut: () => {
      cutAll();
      muted = false;
      refusing = false;
    },
    refuse: () => {
      refusing = true;
      cutAll();
    },
    [Symbol.asyncDispose]: async () => {
      cutAll();
      server.close();
    },
  };
}
