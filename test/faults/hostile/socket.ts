// A WebSocket as bytes: frames that go out as they are made, and what the server sends, cut into frames.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Body } from "../../e2e/support/api.ts";

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;

/** How long any answer may take, on a machine that does much else. */
const ANSWER_TIMEOUT_MS = 60_000;

type Shape = {
  readonly fin?: boolean;
  /** The three reserved bits. */
  readonly rsv?: number;
  readonly masked?: boolean;
  /** A length that is told in place of the right one. */
  readonly told?: bigint;
  /** How many bytes the length takes: 0, 2 or 8; as few as it needs by default. */
  readonly width?: number;
};

/** The bytes of one frame. */
export function frameBytes(opcode: number, payload: Uint8Array, shape: Shape = {}): Buffer {
  const { fin = true, rsv = 0, masked = true, told = BigInt(payload.length) } = shape;
  const width = shape.width ?? (told < 126n ? 0 : told < 65_536n ? 2 : 8);
  const head = Buffer.alloc(2 + width);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (masked ? 0x80 : 0) | (width === 0 ? Number(told) & 0x7f : width === 2 ? 126 : 127);
  if (width === 2) head.writeUInt16BE(Number(told & 0xffffn), 2);
  if (width === 8) head.writeBigUInt64BE(told, 2);
  if (!masked) return Buffer.concat([head, payload]);
  const mask = randomBytes(4);
  return Buffer.concat([head, mask, payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0))]);
}

export const textFrame = (text: string | Uint8Array): Buffer => frameBytes(TEXT, Buffer.from(text));

/** What the server said: a message, or why it closed; `cut` when it ended without a close. */
export type Heard = { readonly message: Body } | { readonly closed: number } | { readonly cut: true };

export class RawSocket implements Disposable {
  readonly #socket: Socket;
  readonly #heard: Heard[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #isOpen = false;
  #changed = Promise.withResolvers<void>();

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("data", (bytes: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes]);
      this.#cut();
    });
    socket.on("close", () => this.#note({ cut: true }));
  }

  /** Opens one; the handshake has no credential unless the headers bring it. */
  static async open(url: string, headers: Readonly<Record<string, string>> = {}): Promise<RawSocket> {
    const { hostname, port, host } = new URL(url);
    const socket = connect(Number(port), hostname);
    await once(socket, "connect");
    const upgrade = {
      ...{ Host: host, Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13" },
      ...{ "Sec-WebSocket-Key": randomBytes(16).toString("base64"), ...headers },
    };
    const lines = Object.entries(upgrade).map(([name, value]) => `${name}: ${value}\r\n`);
    const opened = new RawSocket(socket);
    socket.write(`GET /ws HTTP/1.1\r\n${lines.join("")}\r\n`);
    return opened;
  }

  send(bytes: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  /** What comes next; again and again the same once it is closed. Throws when nothing does. */
  async next(timeoutMs = ANSWER_TIMEOUT_MS): Promise<Heard> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const [heard] = this.#heard;
      if (heard !== undefined) {
        if ("message" in heard) this.#heard.shift();
        return heard;
      }
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`nothing came in ${timeoutMs} ms, and the socket is open`);
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, left);
      await Promise.race([this.#changed.promise, promise]);
      clearTimeout(timer);
    }
  }

  cut(): void {
    this.#socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #note(heard: Heard): void {
    this.#heard.push(heard);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  #cut(): void {
    if (!this.#isOpen) {
      const end = this.#bytes.indexOf("\r\n\r\n");
      if (end < 0) return;
      const status = this.#bytes.subarray(9, 12).toString();
      this.#isOpen = status === "101";
      if (!this.#isOpen) this.#note({ closed: Number(status) });
      this.#bytes = this.#bytes.subarray(end + 4);
    }
    for (;;) {
      const [first = 0, second = 0] = this.#bytes;
      const width = second === 126 ? 2 : second === 127 ? 8 : 0;
      if (this.#bytes.length < 2 + width) return;
      const length =
        width === 0 ? second : width === 2 ? this.#bytes.readUInt16BE(2) : Number(this.#bytes.readBigUInt64BE(2));
      const end = 2 + width + length;
      if (this.#bytes.length < end) return;
      const payload = this.#bytes.subarray(2 + width, end);
      this.#bytes = this.#bytes.subarray(end);
      const opcode = first & 0x0f;
      if (opcode === TEXT) this.#note({ message: JSON.parse(payload.toString()) });
      if (opcode === CLOSE) this.#note({ closed: payload.length < 2 ? 1005 : payload.readUInt16BE(0) });
    }
  }
}
