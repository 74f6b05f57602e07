// The server's side of a socket whose reader takes one piece after the other, each as a step of an interleaving.
import { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { Interleaving } from "./interleaving.ts";

export type Frame = Readonly<Record<string, unknown>> & { readonly type: string };

/** So little waits in the socket's queue before it asks its writer to pause. */
const QUEUE_BYTES = 300;
const END_OF_HEAD = "\r\n\r\n";

/** What goes in at one end comes out at the other when the reader takes it. */
class Wire extends Duplex {
  readonly #take: (chunk: Buffer) => Promise<void>;

  constructor(take: (chunk: Buffer) => Promise<void>) {
    super({ writableHighWaterMark: QUEUE_BYTES });
    this.#take = take;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#take(chunk).then(() => done(), done);
  }
}

export class SlowReader {
  /** Every frame, in the order in which it was taken. */
  readonly frames: Frame[] = [];
  readonly stream: Duplex;
  readonly socket: WebSocket;
  #unread = Buffer.alloc(0);
  #open = false;

  /** `onFrame` is called when a frame is taken. */
  constructor(interleaving: Interleaving, onFrame: (frame: Frame) => void) {
    this.stream = new Wire(async (chunk) => {
      if (this.#open) await interleaving.step("the reader takes a piece");
      this.#unread = Buffer.concat([this.#unread, chunk]);
      if (this.#open) for (const frame of this.#taken()) onFrame(frame);
      else this.#head();
    });
    this.socket = upgraded(this.stream);
  }

  /** Nothing is read any more. */
  cut(): void {
    this.socket.terminate();
  }

  #head(): void {
    const end = this.#unread.indexOf(END_OF_HEAD);
    if (end < 0) return;
    this.#unread = this.#unread.subarray(end + END_OF_HEAD.length);
    this.#open = true;
  }

  /** The text frames that are there in whole: neither masked nor fragmented, as a server sends them. */
  *#taken(): Generator<Frame> {
    for (;;) {
      const short = (this.#unread[1] ?? 127) & 127;
      const head = short === 126 ? 4 : 2;
      if (this.#unread.byteLength < head) return;
      const length = short === 126 ? this.#unread.readUInt16BE(2) : short;
      if (this.#unread.byteLength < head + length) return;
      const frame: Frame = JSON.parse(this.#unread.toString("utf8", head, head + length));
      this.#unread = this.#unread.subarray(head + length);
      this.frames.push(frame);
      yield frame;
    }
  }
}

function upgraded(stream: Duplex): WebSocket {
  const request = new IncomingMessage(new Socket());
  request.method = "GET";
  request.headers = {
    connection: "upgrade",
    upgrade: "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
  };
  let socket: WebSocket | undefined;
  new WebSocketServer({ noServer: true, perMessageDeflate: false }).handleUpgrade(
    request,
    stream,
    Buffer.alloc(0),
    (one) => {
      socket = one;
    },
  );
  if (socket === undefined) throw new Error("the socket was not upgraded");
  return socket;
}
