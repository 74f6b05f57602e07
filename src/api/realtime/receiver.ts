// The receiving side of a socket: the client's frames, counted, read and handled one after the other.
import type { RawData, WebSocket } from "ws";
import type { Credential, Ticket } from "../../app/authenticate.ts";
import { CLOSE, type CloseCode } from "../../contract/errors.ts";
import type { ParsedFrame } from "../../contract/frames.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { readFrame } from "./commands.ts";
import type { FrameTally } from "./outbox.ts";

const MAX_FRAMES_A_SECOND = 100;
/** Max frames of a client that wait to be handled; beyond, nothing more is read from its socket. */
const MAX_WAITING_FRAMES = 200;
/** Max bytes of them; beyond, likewise. */
const MAX_WAITING_BYTES = 512 * 1024;
/** Max bytes of a frame of a client that is not authenticated yet. */
const MAX_FIRST_FRAME_BYTES = 4 * 1024;

/** What a connection handles, one after the other; what is malformed ends it instead. */
export type ReceivedItem =
  | Exclude<ParsedFrame, { kind: "malformed" }>
  | { readonly kind: "credential"; readonly credential: Credential | Ticket };

type ReceiverOptions = {
  readonly socket: WebSocket;
  readonly tally: FrameTally;
  /** Must not reject. */
  readonly handle: (item: ReceivedItem) => Promise<void>;
  readonly onFault: (code: CloseCode) => void;
  /** Whether the client is authenticated: before that no large frame is parsed. */
  readonly isOpen: () => boolean;
  /** Aborted when the connection ends: nothing is handled after that. */
  readonly signal: AbortSignal;
};

/** The receiving side of a socket: counts frames, reads them, and has them handled in order. */
export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #waiting: { readonly item: ReceivedItem; readonly bytes: number }[] = [];
  #waitingBytes = 0;
  #working = false;
  #heardAt = performance.now();
  #second = { since: this.#heardAt, frames: 0 };

  constructor(options: ReceiverOptions) {
    const { socket } = options;
    this.#options = options;
    socket.on("message", (data, isBinary) => {
      if (this.#hear()) this.#message(data, isBinary);
    });
    socket.on("ping", (data) => {
      if (this.#hear()) socket.pong(data);
    });
    socket.on("pong", () => this.#hear());
  }

  /** When the client last sent anything, on the monotonic clock; `now` while nothing is read from it. */
  heardAt(now: number): number {
    if (this.#options.socket.isPaused) this.#heardAt = now;
    return this.#heardAt;
  }

  push(item: ReceivedItem, bytes = 0): void {
    this.#waiting.push({ item, bytes });
    this.#waitingBytes += bytes;
    if (this.#isFull(MAX_WAITING_FRAMES, MAX_WAITING_BYTES)) this.#options.socket.pause();
    if (!this.#working) void this.#work();
  }

  #isFull(frames: number, bytes: number): boolean {
    return this.#waiting.length >= frames || /* fence: waiting-bytes */ this.#waitingBytes >= bytes;
  }

  /** Counts a frame; false when there were too many, or the connection has ended. */
  #hear(): boolean {
    const now = performance.now();
    this.#heardAt = now;
    this.#options.tally.received += 1;
    if (this.#options.signal.aborted) return false;
    if (now - this.#second.since >= SECOND_MS) this.#second = { since: now, frames: 0 };
    this.#second.frames += 1;
    // fence: rate-frames
    if (this.#second.frames <= MAX_FRAMES_A_SECOND) return true;
    this.#options.onFault(CLOSE.tooManyFrames);
    return false;
  }

  #message(data: RawData, isBinary: boolean): void {
    const { onFault, isOpen } = this.#options;
    // fence: first-frame-size
    if (!isOpen() && (data as Buffer).byteLength > MAX_FIRST_FRAME_BYTES) {
      onFault(CLOSE.unauthenticated);
      return;
    }
    const frame = isBinary ? MALFORMED : readFrame(data.toString());
    if (frame.kind === "malformed") onFault(CLOSE.malformed);
    else this.push(frame, (data as Buffer).byteLength);
  }

  /** One after the other, so that answers come in the order of what they answer. */
  async #work(): Promise<void> {
    this.#working = true;
    const { socket, handle, signal } = this.#options;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (signal.aborted) break;
      this.#waitingBytes -= next.bytes;
      if (socket.isPaused && !this.#isFull(MAX_WAITING_FRAMES / 2, MAX_WAITING_BYTES / 2)) socket.resume();
      await handle(next.item);
    }
    this.#working = false;
    if (signal.aborted) this.#waiting.length = 0;
  }
}

const MALFORMED: ParsedFrame = { kind: "malformed" };
