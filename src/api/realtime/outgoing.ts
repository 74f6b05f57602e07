// What goes out on one socket: at once and counted, or paced by its reader.
import type { Duplex } from "node:stream";
import { WebSocket } from "ws";
import { MAX_QUEUE_BYTES } from "./limits.ts";

/** Makes the bytes when the reader is ready for them; undefined when they are no longer to be sent. */
type Paced = { readonly make: () => Buffer | undefined; readonly sent: (sent: boolean) => void };

/** The sending side of a socket. What was handed over goes out in order, or not at all once the socket closes. */
export class Outgoing implements Disposable {
  readonly #socket: WebSocket;
  readonly #stream: Duplex;
  readonly #onSlow: () => void;
  readonly #paced: Paced[] = [];
  /** Bytes of paced frames that are still in the socket's queue. */
  #pacedBytes = 0;
  /** Ends when the last of those who read ahead has. */
  #ahead: Promise<unknown> = Promise.resolve();
  /** When something was last sent, on the monotonic clock. */
  lastSentAt = performance.now();

  /** `onSlow`: more waits than may wait. */
  constructor(socket: WebSocket, stream: Duplex, onSlow: () => void) {
    this.#socket = socket;
    this.#stream = stream;
    this.#onSlow = onSlow;
    stream.on("drain", this.#pump);
  }

  /** Sends JSON. */
  send(frame: object): void {
    this.sendAll([Buffer.from(JSON.stringify(frame))]);
  }

  /**
   * Sends frames that may be shared by many sockets, in one write; when the reader is too slow for them, says so instead.
   * Most of the cost of a broadcast is its writes.
   */
  sendAll(payloads: readonly Buffer[]): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    let waiting = this.#socket.bufferedAmount - this.#pacedBytes;
    for (const { byteLength } of payloads) waiting += byteLength;
    // fence: socket-queue-bound
    if (waiting > MAX_QUEUE_BYTES) {
      this.#onSlow();
      return;
    }
    this.lastSentAt = performance.now();
    this.#stream.cork();
    for (const payload of payloads) this.#socket.send(payload, TEXT);
    this.#stream.uncork();
  }

  /** Sends when the reader has taken what was sent before. Resolves then; false when it was not sent. */
  sendPaced(make: () => Buffer | undefined): Promise<boolean> {
    return new Promise((sent) => {
      this.#paced.push({ make, sent });
      this.#pump();
    });
  }

  /**
   * For work that reads ahead and sends it paced: one after the other, in the order of the calls, so that only one of
   * all who wait for the reader holds anything, MAX_AHEAD_BYTES at most.
   */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#ahead.then(work);
    this.#ahead = done.catch(() => undefined);
    return done;
  }

  [Symbol.dispose](): void {
    this.#stream.off("drain", this.#pump);
    for (const { sent } of this.#paced.splice(0)) sent(false);
  }

  readonly #pump = (): void => {
    while (this.#paced.length > 0 && !this.#stream.writableNeedDrain) {
      const next = this.#paced.shift();
      if (next === undefined) return;
      const bytes = this.#socket.readyState === WebSocket.OPEN ? next.make() : undefined;
      if (bytes !== undefined) {
        this.#pacedBytes += bytes.byteLength;
        this.lastSentAt = performance.now();
        this.#socket.send(bytes, TEXT, () => {
          this.#pacedBytes -= bytes.byteLength;
        });
      }
      next.sent(bytes !== undefined);
    }
  };
}

const TEXT = { binary: false } as const;
