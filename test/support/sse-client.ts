// Reads server-sent events as a browser does, and waits for what a test asks for.
import { request as httpRequest, IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { Duplex } from "node:stream";

// biome-ignore lint/suspicious/noExplicitAny: tests look into events freely
type Data = any;
export type SseEvent = { readonly event: string; readonly id: string | undefined; readonly data: Data };

/** How long a test waits before it fails. */
const WAIT_MS = 30_000;

export class SseClient implements Disposable {
  readonly events: SseEvent[] = [];
  readonly response: IncomingMessage;
  comments = 0;
  retry: number | undefined;
  ended = false;
  #rest = "";
  #changed = Promise.withResolvers<void>();

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding("utf8");
    response.on("data", (text: string) => this.#take(text));
    response.on("close", () => {
      this.ended = true;
      this.#change();
    });
    response.on("error", () => undefined);
  }

  /** Opens a stream, below `/api/v1`. Without a bearer none is sent. */
  static async open(url: string, path: string, bearer?: string, headers: object = {}): Promise<SseClient> {
    const authorization = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
    const sent = { accept: "text/event-stream", ...authorization, ...headers };
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      httpRequest(`${url}/api/v1${path}`, { headers: sent }, resolve).on("error", reject).end();
    });
    return new SseClient(response);
  }

  get status(): number | undefined {
    return this.response.statusCode;
  }

  /** Resolves once it holds. */
  async until(holds: () => boolean): Promise<void> {
    const deadline = performance.now() + WAIT_MS;
    while (!holds()) {
      const timer = setTimeout(() => this.#change(), Math.max(1, deadline - performance.now()));
      await this.#changed.promise;
      clearTimeout(timer);
      if (performance.now() >= deadline && !holds())
        throw new Error(`waited in vain; last: ${JSON.stringify(this.events.slice(-3))}`);
    }
  }

  /** Resolves once there is an event of this type. */
  async next(type: string): Promise<SseEvent> {
    const found = () => this.events.find(({ event }) => event === type);
    await this.until(() => found() !== undefined);
    return found() as SseEvent;
  }

  async count(events: number): Promise<void> {
    await this.until(() => this.events.length >= events);
  }

  async end(): Promise<void> {
    await this.until(() => this.ended);
  }

  types(): readonly string[] {
    return this.events.map(({ event }) => event);
  }

  /** The public events. */
  data(): readonly Data[] {
    return this.events.flatMap(({ id, data }) => (id === undefined ? [] : [data]));
  }

  /** The `id` that a browser sends after a cut. */
  lastId(): string {
    return this.events.findLast(({ id }) => id !== undefined)?.id ?? "";
  }

  [Symbol.dispose](): void {
    this.response.destroy();
  }

  #change(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  #take(text: string): void {
    this.#rest += text;
    const blocks = this.#rest.split("\n\n");
    this.#rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(
        block.split("\n").map((line) => [line.split(":", 1)[0] ?? "", line.replace(/^[^:]*: ?/, "")]),
      );
      if (fields.has("retry")) this.retry = Number(fields.get("retry"));
      const data = fields.get("data");
      if (data === undefined) this.comments += fields.has("") ? 1 : 0;
      else this.events.push({ event: fields.get("event") ?? "message", id: fields.get("id"), data: JSON.parse(data) });
    }
    this.#change();
  }
}

/** A request, and an answer that `take` takes; without it nobody does. */
export function answered(take?: (text: string) => void) {
  const request = Object.assign(new IncomingMessage(new Socket()), { httpVersionMajor: 1, httpVersionMinor: 1 });
  const response = new ServerResponse(request);
  const write = (chunk: Buffer, _encoding: string, done: () => void) => {
    take?.(String(chunk));
    if (take !== undefined) done();
  };
  const wire = new Duplex({ writableHighWaterMark: 300, read: () => undefined, write });
  response.assignSocket(wire as Socket);
  return { request, response };
}
