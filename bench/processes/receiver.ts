// Takes webhooks on several ports and answers 200 at once, without an HTTP library: it must cost next to nothing.
import { type AddressInfo, createServer, type Socket } from "node:net";
import { serveCalls } from "../support/process.ts";

const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

let received = 0;
let wanted = Number.POSITIVE_INFINITY;
let reached: () => void = () => {};

serveCalls({
  async listen(ports: number): Promise<readonly string[]> {
    return Promise.all(Array.from({ length: ports }, () => listen()));
  },
  /** Resolves when so many have come since the last call of this. */
  async receive({ count, timeoutMs }: { count: number; timeoutMs: number }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${received} of ${count} webhooks came`)), timeoutMs);
      reached = () => {
        clearTimeout(timer);
        resolve();
      };
      wanted = count;
      if (received >= wanted) reached();
    });
    received = 0;
    wanted = Number.POSITIVE_INFINITY;
  },
  /** How many have come since the last call of this. */
  taken(): number {
    const count = received;
    received = 0;
    return count;
  },
});

function listen(): Promise<string> {
  const server = createServer(serve);
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

function serve(socket: Socket): void {
  let text = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
    for (;;) {
      const head = text.indexOf("\r\n\r\n");
      if (head < 0) return;
      const end = head + 4 + Number(/content-length: (\d+)/i.exec(text.slice(0, head))?.[1] ?? "0");
      if (text.length < end) return;
      text = text.slice(end);
      received += 1;
      socket.write(ANSWER);
      if (received === wanted) reached();
    }
  });
}
