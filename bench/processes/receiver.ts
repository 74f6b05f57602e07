// Takes webhooks on several ports and answers 200 at once, without an HTTP library: it must cost next to nothing.
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Arrivals } from "../support/arrivals.ts";
import { serveCalls } from "../support/process.ts";

const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const arrivals = new Arrivals();

serveCalls({
  listen: (ports: number) => Promise.all(Array.from({ length: ports }, () => listen(serve))),
  /** A port that takes connections and never answers. */
  hang: () => listen((socket) => void socket.on("error", () => {}).resume()),
  receive: (wanted: { count: number; timeoutMs: number }) => arrivals.receive(wanted),
  taken: () => arrivals.taken(),
  time: () => arrivals.time(),
  latencies: () => arrivals.latencies(),
});

function listen(onSocket: (socket: Socket) => void): Promise<string> {
  const server = createServer(onSocket);
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

/** When the event of a webhook's body happened. */
function madeAt(text: string): number | undefined {
  const at = /"timestamp":"([^"]+)"/.exec(text)?.[1];
  return at === undefined ? undefined : Date.parse(at);
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
      arrivals.add(arrivals.timed ? madeAt(text.slice(head, end)) : undefined);
      text = text.slice(end);
      socket.write(ANSWER);
    }
  });
}
