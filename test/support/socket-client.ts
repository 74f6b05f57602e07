// A WebSocket client that keeps what it receives, and waits for what a test asks for.
import { once } from "node:events";
import { WebSocket } from "ws";
import { FrameCheck } from "./frame-check.ts";

export type Received = Readonly<Record<string, unknown>> & { readonly type: string };

/** How long a test waits for a frame or a close before it fails. */
const WAIT_MS = 30_000;
/** Characters of a frame that a failure shows. */
const SHOWN = 1_000;

export class SocketClient implements Disposable {
  readonly socket: WebSocket;
  readonly frames: Received[] = [];
  readonly #check = new FrameCheck();
  #changed = Promise.withResolvers<void>();
  #code: number | undefined;

  constructor(url: string, headers: Readonly<Record<string, string>> = {}) {
    this.socket = new WebSocket(url, { headers });
    this.socket.on("message", (data) => {
      this.#check.received(String(data));
      this.frames.push(JSON.parse(String(data)));
      this.#change();
    });
    this.socket.on("close", (code) => {
      this.#code = code;
      this.#change();
    });
    this.socket.on("error", () => undefined);
  }

  /** Connects with a bearer and waits for `welcome`. */
  static async connect(url: string, bearer: string, path = "/ws"): Promise<SocketClient> {
    const client = new SocketClient(url + path, { authorization: `Bearer ${bearer}` });
    await client.next("welcome");
    return client;
  }

  async opened(): Promise<void> {
    if (this.socket.readyState !== WebSocket.OPEN) await once(this.socket, "open");
  }

  send(frame: object | string): void {
    const text = typeof frame === "string" ? frame : JSON.stringify(frame);
    this.#check.sent(text);
    this.socket.send(text);
  }

  /** The first frame, from `from` on, of this type and with these fields. */
  async next(type: string, fields: object = {}, from = 0): Promise<Received> {
    const wanted = Object.entries(fields);
    const found = () =>
      this.frames.slice(from).find((one) => one.type === type && wanted.every(([name, value]) => one[name] === value));
    return this.#until(found, `${type} ${JSON.stringify(fields)}`);
  }

  /** Sends with a `ref` and gives the answer to it. */
  async ask(frame: object): Promise<Received> {
    const ref = `r${Math.random()}`;
    this.send({ ...frame, ref });
    const { ref: _ref, ...answer } = await this.#until(() => this.frames.find((one) => one.ref === ref), "an answer");
    return answer as Received;
  }

  async closed(): Promise<number> {
    return this.#until(() => this.#code, "the close");
  }

  /** Resolves once it holds. */
  async until(holds: () => boolean): Promise<void> {
    await this.#until(() => holds() || undefined, "what the test waits for");
  }

  of(type: string): readonly Received[] {
    return this.frames.filter((one) => one.type === type);
  }

  /** The seqs of the room events so far. */
  seqs(): readonly unknown[] {
    return this.of("event").map((frame) => frame.seq);
  }

  cut(): void {
    this.socket.terminate();
  }

  [Symbol.dispose](): void {
    this.socket.terminate();
  }

  async #until<T>(look: () => T | undefined, what: string): Promise<T> {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`waited in vain for ${what}; closed: ${this.#code}; last frames: ${this.#last()}`);
      await Promise.race([this.#changed.promise, new Promise((resolve) => setTimeout(resolve, Math.min(left, 200)))]);
    }
  }

  #last(): string {
    return JSON.stringify(this.frames.slice(-3).map((one) => JSON.stringify(one).slice(0, SHOWN)));
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
