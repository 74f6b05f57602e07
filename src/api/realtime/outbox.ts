// The sending side of one socket or stream: at once within a bound, or paced by its reader.

import type { ServerResponse } from "node:http";
import type { Writable } from "node:stream";
import { WebSocket } from "ws";
import type { ServerFrame } from "../../contract/frames.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { keepOpen } from "../http/hardening.ts";

/** Max bytes that wait to be sent on a socket, besides those paced by its reader. */
const MAX_QUEUE_BYTES = 1024 * 1024;
/** Max bytes read ahead for a reader that paces them, on top of that. */
export const MAX_AHEAD_BYTES = 1024 * 1024;

/** Makes the bytes once the reader is ready for them; undefined when they are no longer wanted. */
type Paced = { readonly make: () => Buffer | undefined; readonly done: (sent: boolean) => void };

/** What the sockets of a node have sent and received, for metrics. */
export type FrameTally = { sent: number; received: number; slowConsumers: number };

export const newTally = (): FrameTally => ({ sent: 0, received: 0, slowConsumers: 0 });

/** What takes frames: a socket, or what speaks for one. */
type FrameSink = Pick<WebSocket, "readyState" | "bufferedAmount"> & {
  send(frame: Buffer, options: { readonly binary: false }, sent?: () => void): void;
};
/** What carries its bytes. */
type Wire = Pick<Writable, "on" | "off" | "cork" | "uncork" | "writableNeedDrain">;

/** Sends in the order of the calls, and nothing more once the socket closes. */
export class Outbox implements Disposable {
  readonly #socket: FrameSink;
  readonly #stream: Wire;
  readonly #onSlow: () => void;
  readonly #tally: FrameTally;
  readonly #paced: Paced[] = [];
  /** Bytes of paced frames that are still in the socket's queue. */
  #pacedBytes = 0;
  /** Resolves when the last of the readers ahead is done. */
  #ahead: Promise<unknown> = Promise.resolve();
  /** When something was last sent, on the monotonic clock. */
  #lastSentAt = performance.now();

  /** `onSlow` is called in place of sending what would exceed MAX_QUEUE_BYTES. */
  constructor(socket: FrameSink, stream: Wire, onSlow: () => void, tally = newTally()) {
    this.#socket = socket;
    this.#stream = stream;
    this.#onSlow = onSlow;
    this.#tally = tally;
    stream.on("drain", this.#pump);
  }

  get lastSentAt(): number {
    return this.#lastSentAt;
  }

  send(frame: ServerFrame): void {
    this.sendAll([Buffer.from(JSON.stringify(frame))]);
  }

  /** Sends frames that many sockets may share, in one write: most of the cost of a broadcast is its writes. */
  sendAll(payloads: readonly Buffer[]): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    let waiting = this.#socket.bufferedAmount - this.#pacedBytes;
    for (const { byteLength } of payloads) waiting += byteLength;
    // fence: socket-queue-bound
    if (waiting > MAX_QUEUE_BYTES) {
      this.#tally.slowConsumers += 1;
      this.#onSlow();
      return;
    }
    this.#lastSentAt = performance.now();
    this.#tally.sent += payloads.length;
    this.#stream.cork();
    for (const payload of payloads) this.#socket.send(payload, TEXT);
    this.#stream.uncork();
  }

  /** Sends once the reader has taken what was sent before. Resolves then; false when it was not sent. */
  sendPaced(make: () => Buffer | undefined): Promise<boolean> {
    return new Promise((done) => {
      this.#paced.push({ make, done });
      this.#pump();
    });
  }

  /**
   * Runs work that reads ahead and sends paced, one after the other in the order of the calls: so one alone of all that
   * wait for the reader holds data, MAX_AHEAD_BYTES at most.
   */
  readAhead<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#ahead.then(work);
    this.#ahead = done.catch(() => undefined);
    return done;
  }

  [Symbol.dispose](): void {
    this.#stream.off("drain", this.#pump);
    for (const { done } of this.#paced.splice(0)) done(false);
  }

  readonly #pump = (): void => {
    while (this.#paced.length > 0 && /* fence: socket-paced */ !this.#stream.writableNeedDrain /* end */) {
      const next = this.#paced.shift();
      if (next === undefined) return;
      const bytes = this.#socket.readyState === WebSocket.OPEN ? next.make() : undefined;
      if (bytes !== undefined) {
        this.#pacedBytes += bytes.byteLength;
        this.#tally.sent += 1;
        this.#lastSentAt = performance.now();
        this.#socket.send(bytes, TEXT, () => {
          this.#pacedBytes -= bytes.byteLength;
        });
      }
      next.done(bytes !== undefined);
    }
  };
}

const TEXT = { binary: false } as const;

// The sending side of a stream of server-sent events: takes frames as a socket does, and sends what they become.

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
