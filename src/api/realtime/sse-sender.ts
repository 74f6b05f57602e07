// The sending side of a stream of server-sent events: takes frames as a socket does, and sends what they become.
import type { ServerResponse } from "node:http";
import { WebSocket } from "ws";
import { SECOND_MS } from "../../contract/time.ts";
import { keepOpen } from "../http/hardening.ts";
import type { FrameSink } from "./outbox.ts";

/** How long a reader whose stream ended waits before it connects again. */
const RETRY_MS = 2 * SECOND_MS;

const HEADERS = {
  "Content-Type": "text/event-stream",
  "X-Accel-Buffering": "no",
  Connection: "close", // nothing follows a stream
} as const;

/** A message of a stream. With the last one the stream ends. */
export type SseMessage = { readonly bytes: Buffer; readonly isLast: boolean };

/** `id`: the cursor of who has had the message; null leaves the reader's as it was. */
export const sseMessage = (event: string, id: string | null, data: object, isLast = false): SseMessage => ({
  // JSON has no line breaks.
  bytes: Buffer.from(`event: ${event}\n${id === null ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`),
  isLast,
});

/** What a frame becomes on a stream; null for what streams of its kind do not send. */
export type ToMessage = (frame: Buffer) => SseMessage | null;

/** Sends what frames become. `begin` is due before anything else, and comes by itself with the first frame. */
export class SseSender implements FrameSink {
  readonly #response: ServerResponse;
  readonly #toMessage: ToMessage;
  /** The last message was sent. */
  #over = false;

  constructor(response: ServerResponse, toMessage: ToMessage) {
    this.#response = response;
    this.#toMessage = toMessage;
  }

  get readyState(): FrameSink["readyState"] {
    const { writableEnded, destroyed } = this.#response;
    return this.#over || writableEnded || destroyed ? WebSocket.CLOSED : WebSocket.OPEN;
  }

  get bufferedAmount(): number {
    return this.#response.writableLength;
  }

  /** Sends the head, if it was not sent: the request can no longer be refused. */
  begin(): void {
    if (this.#response.headersSent || this.readyState !== WebSocket.OPEN) return;
    keepOpen(this.#response);
    this.#response.writeHead(200, HEADERS);
    this.#response.write(`retry: ${RETRY_MS}\n\n`);
  }

  send(frame: Buffer, _options: object, sent: () => void = () => undefined): void {
    this.begin();
    const message = this.readyState === WebSocket.OPEN ? this.#toMessage(frame) : null;
    if (message === null) sent();
    else this.#response.write(message.bytes, () => sent());
    if (message?.isLast !== true) return;
    // fence: stream-last
    this.#over = true;
    // While it is corked an answer would end before what it holds back.
    process.nextTick(() => this.#response.end());
  }

  /** Keeps proxies from ending a silent stream. */
  comment(): void {
    if (this.#response.headersSent && this.readyState === WebSocket.OPEN) this.#response.write(":\n\n");
  }
}
