// A user who listens to rooms over all the deaths of the server: resumes where it was, and acknowledges what it is sent.
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import type { Body } from "../../e2e/support/api.ts";

/** How a notification begins whose receivers stay silent, so that it falls back. */
export const SILENT = "silent ";
const AGAIN_MS = 50;

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
  readonly #open: () => WebSocket;
  readonly #running: Promise<void>;
  #over = false;
  #socket: WebSocket | undefined;

  constructor(url: string, user: string, token: string, rooms: readonly string[]) {
    this.user = user;
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
      socket.on("message", (bytes) => this.#hear(socket, JSON.parse(String(bytes))));
      const code = await new Promise<number>((resolve) => socket.once("close", resolve));
      if (code >= 4_500) this.strange.push(`${this.user}: closed with ${code}`);
      await sleep(AGAIN_MS);
    }
  }

  #hear(socket: WebSocket, frame: Body): void {
    if (frame.type === "welcome") {
      this.connections += 1;
      for (const [room, seqs] of this.seqs) {
        socket.send(JSON.stringify({ type: "subscribe", room_id: room, after_seq: seqs.at(-1) ?? 0 }));
      }
    } else if (frame.type === "event") this.seqs.get(frame.room_id)?.push(frame.seq);
    else if (frame.type === "notification" && !String(frame.content).startsWith(SILENT)) {
      this.sent.add(frame.delivery_id);
      socket.send(JSON.stringify({ type: "ack", delivery_id: frame.delivery_id, ref: frame.delivery_id }));
    } else if (frame.type === "ok") this.acknowledged.add(frame.ref);
    else if (frame.type === "error") this.strange.push(`${this.user}: ${JSON.stringify(frame)}`);
  }
}
