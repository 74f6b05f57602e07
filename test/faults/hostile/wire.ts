// A connection of HTTP/1.1 as bytes: what goes out is sent as it is, what comes back is cut into answers.
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export type Header = readonly [name: string, value: string];
export type Request = {
  readonly method: string;
  readonly target: string;
  /** Characters up to U+00FF, each a byte. */
  readonly headers: readonly Header[];
  readonly body?: Uint8Array | undefined;
  /** In chunks, in place of with its length. */
  readonly isChunked?: boolean;
};
export type WireAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
};

/** How long any answer may take, on a machine that does much else. */
const ANSWER_TIMEOUT_MS = 60_000;
const CHUNK_BYTES = 16_000;

/** The bytes of a request. */
export function bytesOf({ method, target, headers, body, isChunked = false }: Request): Buffer {
  const framing: readonly Header[] =
    body === undefined
      ? []
      : isChunked
        ? [["Transfer-Encoding", "chunked"]]
        : [["Content-Length", String(body.length)]];
  const lines = [...headers, ...framing].map(([name, value]) => `${name}: ${value}\r\n`);
  const head = Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join("")}\r\n`, "latin1");
  return body === undefined ? head : Buffer.concat([head, ...(isChunked ? chunksOf(body) : [body])]);
}

function chunksOf(body: Uint8Array): readonly Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += CHUNK_BYTES) {
    const piece = body.subarray(at, at + CHUNK_BYTES);
    chunks.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n"));
  }
  return [...chunks, Buffer.from("0\r\n\r\n")];
}

/** Connections to one server, each used by one request at a time, and again as long as it is open. */
export class Wires implements Disposable {
  readonly #url: string;
  readonly #idle: Wire[] = [];

  constructor(url: string) {
    this.#url = url;
  }

  /** Sends one request; undefined when the connection ends without an answer. Throws when neither comes in time. */
  async send(request: Request): Promise<WireAnswer | undefined> {
    let wire = this.#idle.pop();
    while (wire?.ended) wire = this.#idle.pop();
    wire ??= await Wire.open(this.#url);
    wire.send(bytesOf(request), request.method);
    const answer = await wire.next();
    if (answer === undefined || answer.headers.connection === "close" || wire.ended) wire[Symbol.dispose]();
    else this.#idle.push(wire);
    return answer;
  }

  [Symbol.dispose](): void {
    for (const wire of this.#idle.splice(0)) wire[Symbol.dispose]();
  }
}

/** A connection. What comes while nobody waits is an answer to nothing, and kept. */
export class Wire implements Disposable {
  readonly #socket: Socket;
  readonly #answers: WireAnswer[] = [];
  /** Methods of the requests that are not answered: an answer to HEAD has no body. */
  readonly #asked: string[] = [];
  #heard: Buffer = Buffer.alloc(0);
  #changed = Promise.withResolvers<void>();
  #ended = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => {
      this.#heard = this.#heard.length === 0 ? bytes : Buffer.concat([this.#heard, bytes]);
      for (let answer = this.#cut(); answer !== undefined; answer = this.#cut()) this.#answers.push(answer);
      this.#change();
    });
    socket.on("error", () => undefined);
    socket.on("end", () => socket.end());
    socket.on("close", () => {
      this.#ended = true;
      this.#change();
    });
  }

  static async open(url: string): Promise<Wire> {
    const { hostname, port } = new URL(url);
    const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
    await once(socket, "connect");
    return new Wire(socket);
  }

  /** Whether the server, or we, have ended it. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Sends bytes that hold requests of these methods. */
  send(bytes: Uint8Array, ...methods: readonly string[]): void {
    this.#asked.push(...methods);
    this.#socket.write(bytes);
  }

  /** The next answer; undefined when the connection ended without one. Throws when neither comes in time. */
  async next(timeoutMs = ANSWER_TIMEOUT_MS): Promise<WireAnswer | undefined> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const answer = this.#answers.shift();
      if (answer !== undefined || this.#ended) return answer;
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`no answer in ${timeoutMs} ms, and the connection is open`);
      await this.#wait(left);
    }
  }

  /** Says that no more comes. */
  halfClose(): void {
    this.#socket.end();
  }

  /** Cuts it without a word. */
  cut(): void {
    this.#socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #wait(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    await Promise.race([this.#changed.promise, promise]);
    clearTimeout(timer);
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** The first whole answer in what was heard. */
  #cut(): WireAnswer | undefined {
    const headEnd = this.#heard.indexOf("\r\n\r\n");
    if (headEnd < 0) return undefined;
    const [first = "", ...lines] = this.#heard.subarray(0, headEnd).toString("latin1").split("\r\n");
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1] ?? Number.NaN);
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
      }),
    );
    const isInterim = status < 200 && status !== 101;
    const isEmpty = status < 200 || status === 204 || this.#asked[0] === "HEAD";
    const bodyEnd = headEnd + 4 + (isEmpty ? 0 : Number(headers["content-length"] ?? Number.NaN));
    // Without a length it is taken as it is, and found to be wrong.
    if (this.#heard.length < bodyEnd) return undefined;
    const end = Number.isNaN(bodyEnd) ? this.#heard.length : bodyEnd;
    const text = this.#heard.subarray(headEnd + 4, end).toString("utf8");
    this.#heard = this.#heard.subarray(end);
    if (isInterim) return this.#cut();
    this.#asked.shift();
    return { status, headers, text };
  }
}
