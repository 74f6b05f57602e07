// The rival on sockets: ws as it comes, which sends each of its clients what JSON.stringify makes for it.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { serveCalls } from "../support/process.ts";
import { ownMs } from "../support/processor-time.ts";

const clients = new Set<WebSocket>();

serveCalls({
  async start(): Promise<string> {
    const http = createServer();
    const server = new WebSocketServer({ server: http, perMessageDeflate: false, clientTracking: false });
    server.on("connection", (socket) => {
      socket.on("error", () => {});
      clients.add(socket);
    });
    await new Promise<void>((resolve) => void http.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  },
  broadcast(frames: readonly object[]): void {
    for (const frame of frames) for (const client of clients) client.send(JSON.stringify(frame));
  },
  cpuMs: ownMs,
  memory(): { rss: number; heap: number } {
    for (let time = 0; time < 3; time += 1) globalThis.gc?.();
    const { rss, heapUsed, external } = process.memoryUsage();
    return { rss, heap: heapUsed + external };
  },
});
