// A user who listens to rooms over all the deaths of the server and its links: resumes where it was, and acknowledges what
// it is sent.
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import type { Body } from "../../e2e/support/api.ts";
import { FrameCheck } from "../../support/frame-check.ts";

/** How a notification begins whose receivers stay silent, so that it falls back. */
export const SILENT = "silent ";
const AGAIN_MS = 50;

type ListenerOptions = {
  /** Who hears nothing for so long, in milliseconds, asks, and then connects anew. Left out: it waits to be told. */
  readonly quietMs?: number;
  /** Each frame, once it is counted what connection it came on. */
  readonly heard?: (frame: Body) => void;
};

export class Listener implements AsyncDisposable {
  readonly user: string;
  /** By room, every seq that came, in the order in which it did. */
  readonly seqs: ReadonlyMap<string, number[]>;
  /** Deliveries whose acknowledgement was answered. */
  readonly acknowledged = new Set<string>();
  /** Deliveries of which an acknowledgement was sent. */
  readonly sent = new Set<string>();
  readonly strange: string[] = [];
  connections = 0;
  /** Leaves notifications that begin with SILENT alone. */
  keepsSilent = true;
  readonly #open: () => WebSocket;
  readonly #options: ListenerOptions;
  readonly #running: Promise<void>;
  #over = false;
  #socket: WebSocket | undefined;

  constructor(url: string, user: string, token: string, rooms: readonly string[], options: ListenerOptions = {}) {
    this.user = user;
    this.#options = options;
    this.seqs = new Map(rooms.map((room) => [room, []]));
    const headers = { authorization: `Bearer ${token}` };
    this.#open = () => new WebSocket(`${url.replace("http", "ws")}/ws`, { headers });
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    this.#socket?.terminate();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#over) {
      const socket = this.#open();
      this.#socket = socket;
      socket.on("error", () => undefined);
      const check = new FrameCheck();
      socket.on("message", (bytes) => {
        check.received(String(bytes));
        this.#hear(socket, JSON.parse(String(bytes)));
      });
      const watching = this.#watch(socket);
      const code = await new Promise<number>((resolve) => socket.once("close", resolve));
      clearInterval(watching);
      if (code >= 4_500) this.strange.push(`${this.user}: closed with ${code}`);
      await sleep(AGAIN_MS);
    }
  }

  /** Takes a connection on which nothing comes for gone. */
  #watch(socket: WebSocket): NodeJS.Timeout | undefined {
    const { quietMs } = this.#options;
    if (quietMs === undefined) return undefined;
    let heardAt = performance.now();
    socket.on("message", () => (heardAt = performance.now()));
    return setInterval(() => {
      if (performance.now() - heardAt > quietMs) socket.terminate();
      else if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"ping"}');
    }, quietMs / 3);
  }

  #hear(socket: WebSocket, frame: Body): void {
    if (frame.type === "welcome") this.connections += 1;
    this.#options.heard?.(frame);
    if (frame.type === "welcome") {
      for (const [room, seqs] of this.seqs) {
        socket.send(JSON.stringify({ type: "subscribe", room_id: room, after_seq: seqs.at(-1) ?? 0 }));
      }
      for (const id of this.sent) if (!this.acknowledged.has(id)) this.#acknowledge(socket, id);
    } else if (frame.type === "event") this.seqs.get(frame.room_id)?.push(frame.seq);
    else if (frame.type === "notification" && !(this.keepsSilent && String(frame.content).startsWith(SILENT))) {
      this.sent.add(frame.delivery_id);
      this.#acknowledge(socket, frame.delivery_id);
    } else if (frame.type === "ok") this.acknowledged.add(frame.ref);
    else if (frame.type === "error") this.strange.push(`${this.user}: ${JSON.stringify(frame)}`);
  }
  #acknowledge(socket: WebSocket, id: string): void {
    socket.send(JSON.stringify({ type: "ack", delivery_id: id, ref: id }));
  }
}
