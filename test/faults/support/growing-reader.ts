// A client that reads a growing message: it puts the text together as the guide says, is cut, and goes on where it was.
import { afterCodePoints, codePoints } from "../../../src/contract/fields.ts";
import { type Body, until } from "../../e2e/support/api.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { SseClient } from "../../support/sse-client.ts";

/** Opens a connection that tells what happened in the room after a seq; `told` gives it as frames of a socket. */
type Connect = (after: number) => Promise<Disposable & { told(): readonly Body[] }>;

export const bySocket =
  (url: string, bearer: string, room: string): Connect =>
  async (after) => {
    const client = await SocketClient.connect(url.replace("http", "ws"), bearer);
    client.send({ type: "subscribe", room_id: room, after_seq: after });
    return { told: () => client.frames, [Symbol.dispose]: () => client[Symbol.dispose]() };
  };

export const byStream =
  (url: string, bearer: string, room: string): Connect =>
  async (after) => {
    const client = await SseClient.open(url, `/rooms/${room}/events`, bearer, { "last-event-id": String(after) });
    const frameOf = ({ event, data }: SseClient["events"][number]): Body => ({
      ...data,
      event,
      type: event === "growing" ? event : "event",
    });
    return { told: () => client.events.map(frameOf), [Symbol.dispose]: () => client[Symbol.dispose]() };
  };

export class GrowingReader implements Disposable {
  /** The text so far. */
  text = "";
  /** The content that the message ended with. */
  ended: string | undefined;
  /** What came that does not go with what was there before. */
  readonly faults: string[] = [];
  readonly #message: string;
  readonly #ways: readonly Connect[];
  #connections = 0;
  #client: Awaited<ReturnType<Connect>> | undefined;
  #seen = 0;
  #seq: number;

  /** Reads what comes after a seq, over each of the ways in turn. */
  constructor(message: string, after: number, ways: readonly Connect[]) {
    this.#message = message;
    this.#seq = after;
    this.#ways = ways;
  }

  /** Takes what came, loses the connection, if there is one, and opens the next. */
  async connect(): Promise<void> {
    this.take();
    this.#client?.[Symbol.dispose]();
    this.#seen = 0;
    this.#client = await this.#ways[this.#connections % this.#ways.length]?.(this.#seq);
    this.#connections += 1;
  }

  take(): void {
    const told = this.#client?.told() ?? [];
    for (const frame of told.slice(this.#seen)) this.#frame(frame);
    this.#seen = told.length;
  }

  /** Resolves once it has this text. */
  async has(text: string): Promise<void> {
    const look = async () => {
      this.take();
      return this.text;
    };
    const found = await until(look, (now) => now === text);
    if (found !== text) throw new Error(`a reader has ${codePoints(found)} of ${codePoints(text)} characters`);
  }

  /** Resolves once the message has ended, with its content. */
  async end(): Promise<string | undefined> {
    return until(
      async () => {
        this.take();
        return this.ended;
      },
      (ended) => ended !== undefined,
    );
  }

  [Symbol.dispose](): void {
    this.#client?.[Symbol.dispose]();
  }

  #frame({ type, event, id, seq, text, offset, data }: Body): void {
    if (type === "error") this.faults.push(`an error: ${event}`);
    if (type === "event") {
      if (seq !== this.#seq + 1) this.faults.push(`seq ${seq} after ${this.#seq}`);
      this.#seq = seq;
      if (event === "message.completed" && data.id === this.#message) this.ended = data.content;
    }
    if (type !== "growing" || id !== this.#message) return;
    if (this.ended !== undefined) this.faults.push("text after the end");
    const had = codePoints(this.text);
    if (offset > had) this.faults.push(`text at ${offset} after ${had} characters`);
    this.text = this.text.slice(0, this.text.length - afterCodePoints(this.text, offset).length) + text;
  }
}
