// What comes in on one socket: counted, read, and carried out one after the other.
import type { RawData, WebSocket } from "ws";
import { type ParsedFrame, parseFrame } from "../../contract/client-frames.ts";
import { CLOSE, type CloseCode } from "../../contract/errors.ts";
import type { Credential } from "./identity.ts";
import type { Lifetime } from "./lifetime.ts";
import { MAX_FRAMES_A_SECOND, MAX_WAITING_FRAMES } from "./limits.ts";

/** Something to be carried out; what is malformed ends the connection instead. */
export type Task =
  | Exclude<ParsedFrame, { kind: "malformed" }>
  | { readonly kind: "credential"; readonly credential: Credential };

type IncomingParts = {
  readonly socket: WebSocket;
  /** Must not reject. */
  readonly carryOut: (task: Task) => Promise<void>;
  readonly onFault: (code: CloseCode) => void;
  /** Aborted when the connection ends: nothing is taken up after that. */
  readonly over: Lifetime;
};

/** The receiving side of a socket. */
export class Incoming {
  readonly #parts: IncomingParts;
  readonly #waiting: Task[] = [];
  #working = false;
  #heardAt = performance.now();
  #second = { since: this.#heardAt, frames: 0 };

  constructor(parts: IncomingParts) {
    this.#parts = parts;
    parts.socket.on("message", (data, isBinary) => {
      if (this.#hear()) this.#message(data, isBinary);
    });
    parts.socket.on("ping", (data) => {
      if (this.#hear()) parts.socket.pong(data);
    });
    parts.socket.on("pong", () => this.#hear());
  }

  /** When the client last gave a sign, on the monotonic clock. While nothing is read from it, it cannot be heard. */
  heardAt(now: number): number {
    if (this.#parts.socket.isPaused) this.#heardAt = now;
    return this.#heardAt;
  }

  /** Takes a task as if it had been sent. */
  push(task: Task): void {
    this.#waiting.push(task);
    if (this.#waiting.length >= MAX_WAITING_FRAMES) this.#parts.socket.pause();
    if (!this.#working) void this.#work();
  }

  /** Counts a frame; false when there were too many, or the connection is over. */
  #hear(): boolean {
    const now = performance.now();
    this.#heardAt = now;
    if (this.#parts.over.aborted) return false;
    if (now - this.#second.since >= 1_000) this.#second = { since: now, frames: 0 };
    this.#second.frames += 1;
    // fence: rate-frames
    if (this.#second.frames <= MAX_FRAMES_A_SECOND) return true;
    this.#parts.onFault(CLOSE.tooManyFrames);
    return false;
  }

  #message(data: RawData, isBinary: boolean): void {
    const frame = isBinary ? MALFORMED : parseFrame(data.toString());
    if (frame.kind === "malformed") this.#parts.onFault(CLOSE.malformed);
    else this.push(frame);
  }

  /** One after the other: answers come in the order of what they answer. */
  async #work(): Promise<void> {
    this.#working = true;
    const { socket, carryOut, over } = this.#parts;
    for (let task = this.#waiting.shift(); task !== undefined; task = this.#waiting.shift()) {
      if (over.aborted) break;
      if (socket.isPaused && this.#waiting.length < MAX_WAITING_FRAMES / 2) socket.resume();
      await carryOut(task);
    }
    this.#working = false;
    if (over.aborted) this.#waiting.length = 0;
  }
}

const MALFORMED: ParsedFrame = { kind: "malformed" };
