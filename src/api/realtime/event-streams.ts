// The streams of server-sent events of a node: counts them, and sees to it that each ends when it must.
import type { ServerResponse } from "node:http";
import { type Identity, identify } from "../../app/authenticate.ts";
import type { DirectoryChange } from "../../app/client-directory.ts";
import type { Services } from "../../app/services.ts";
import { SECOND_MS } from "../../contract/time.ts";
import type { LiveFeed } from "../../projections/feed.ts";
import { clientAddress } from "../http/address.ts";
import { HTTP_TIMINGS } from "../http/hardening.ts";
import { Problem } from "../http/problems.ts";
import type { StreamReader, StreamRequest, Streams } from "../http/route.ts";
import type { FollowFeed } from "./follow-feed.ts";
import type { GrowingFrames } from "./growing.ts";
import { CredentialCheck, concerns } from "./identity.ts";
import type { DeliveryFeed } from "./open-deliveries.ts";
import { type FrameTally, Outbox, SseSender } from "./outbox.ts";
import type { RoomChannels } from "./room-channels.ts";
import { ClientEventsFeed, clientSource, roomSource, type StreamSource, userSource } from "./stream-sources.ts";

/** Interval of comments, which keep proxies from ending a silent stream. */
const COMMENT_MS = 15 * SECOND_MS;
/** How long the reader of a stream that ended may take for the rest of it. */
const CLOSE_MS = 3 * SECOND_MS;
/** `Retry-After` of a stream that is refused because there are too many. */
const RETRY_AFTER_SECONDS = 10;

type StreamsContext = {
  readonly services: Services;
  readonly feed: LiveFeed;
  readonly rooms: RoomChannels;
  readonly growing: GrowingFrames;
  readonly follows: FollowFeed;
  readonly deliveries: DeliveryFeed;
  readonly tally: FrameTally;
};

/** Disposing ends every stream. */
export class EventStreams implements Streams, Disposable {
  readonly #context: StreamsContext;
  readonly #address: ReturnType<typeof clientAddress>;
  readonly #clients: ClientEventsFeed;
  readonly #streams = new Set<EventStream>();
  #closing = false;

  constructor(context: StreamsContext) {
    this.#context = context;
    this.#address = clientAddress(context.services.config);
    this.#clients = new ClientEventsFeed(context.feed);
  }

  /** How many are open. */
  get size(): number {
    return this.#streams.size;
  }

  /** Throws Problem (429, 503), and what the source throws. */
  async open(request: StreamRequest, reader: StreamReader): Promise<void> {
    const { response } = reader;
    if (this.#closing) throw new Problem("unavailable");
    const identity = request.kind === "user" ? await this.#asUser(reader, request.user) : reader.identity;
    if (response.destroyed || this.#closing) return;
    const known = { ...reader, identity };
    // Of a key that speaks for a user the stream is that user's.
    using counted = this.#count(/* fence: stream-user */ known);
    const stream = new EventStream(this.#context, this.#source(request), known, counted.move());
    this.#streams.add(stream);
    const forget = () => {
      this.#streams.delete(stream);
      stream[Symbol.dispose]();
    };
    response.once("close", forget);
    await stream.start().catch((error: unknown) => {
      forget();
      throw error;
    });
  }

  /** Called at short intervals. `now` is on the monotonic clock. */
  tick(now: number): void {
    for (const stream of this.#streams) stream.tick(now);
  }

  /** Somebody's key or tokens changed. */
  changed(change: DirectoryChange): void {
    for (const stream of this.#streams) if (concerns(change, stream.identity)) void stream.recheck();
  }

  [Symbol.dispose](): void {
    this.#closing = true;
    this.#clients[Symbol.dispose]();
    for (const stream of this.#streams) stream.end();
  }

  #source(request: StreamRequest): StreamSource {
    const { services } = this.#context;
    if (request.kind === "room") return roomSource(this.#context, request.room, request.after);
    if (request.kind === "user") return userSource(this.#context, request.call, request.wanted);
    return clientSource(services, this.#clients, request.selection, request.after);
  }

  /** Who a user's stream is for: a key speaks for the user that it names, as on sockets. Throws Problem. */
  async #asUser({ identity: { credential } }: StreamReader, userId: string): Promise<Identity> {
    const { services } = this.#context;
    const found = await identify(services, { ...credential, userId }, services.now());
    if ("refused" in found) throw new Problem(found.refused === "forbidden" ? "not_found" : found.refused);
    return found;
  }

  /** Counts a stream as a socket of its address, its client and its user. Throws Problem (429). */
  #count({ identity: { caller }, request }: StreamReader): DisposableStack {
    const { limits, config } = this.#context.services;
    using counted = new DisposableStack();
    const count = (taken: Disposable | undefined) => {
      // fence: stream-limits
      if (taken === undefined) throw new Problem("rate_limited", { retryAfterSeconds: RETRY_AFTER_SECONDS });
      counted.use(taken);
    };
    const isExempt = config.development && this.#address.isLoopback(request);
    if (!isExempt) count(limits.socketsByAddress.take(this.#address.group(request)));
    count(limits.socketsByClient.take(caller.client));
    if (caller.kind === "user") count(limits.socketsByUser.take(caller.subject));
    return counted.move();
  }
}

/** One stream, until its reader, its credential or what it sends has ended. */
class EventStream implements Disposable {
  readonly #services: Services;
  readonly #source: StreamSource;
  readonly #response: ServerResponse;
  /** What is given back at the end. */
  readonly #held: DisposableStack;
  readonly #ended = new AbortController();
  readonly #sender: SseSender;
  readonly #outbox: Outbox;
  readonly #credentialCheck: CredentialCheck;
  #identity: Identity;
  #commentedAt = performance.now();
  /** Since when the reader has taken nothing of what waits for it. */
  #stuckSince: number | undefined;

  constructor(
    { services, tally }: StreamsContext,
    source: StreamSource,
    { identity, response }: StreamReader,
    held: DisposableStack,
  ) {
    this.#services = services;
    this.#source = source;
    this.#response = response;
    this.#held = held;
    this.#identity = identity;
    this.#sender = new SseSender(response, source.toMessage);
    this.#outbox = held.use(new Outbox(this.#sender, response, () => response.destroy(), tally));
    const check = () => this.#checkCredential();
    this.#credentialCheck = new CredentialCheck({ check, signal: this.#ended.signal, logger: services.logger });
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Throws what the source throws; nothing was sent then. */
  async start(): Promise<void> {
    const { signal } = this.#ended;
    const { caller } = this.#identity;
    const sending = await this.#source.start({ outbox: this.#outbox, caller, signal });
    if (signal.aborted) return sending[Symbol.dispose]();
    this.#held.use(sending);
    this.#sender.begin();
    void this.recheck(); // the directory may have moved since it was asked, and does not report a change twice
  }

  tick(now: number): void {
    if (this.#ended.signal.aborted) return;
    const { expiresAt } = this.#identity;
    this.#stuckSince = this.#response.writableNeedDrain ? (this.#stuckSince ?? now) : undefined;
    const stuckMs = now - (this.#stuckSince ?? now);
    // fence: stream-expiry
    if (expiresAt !== null && expiresAt <= this.#services.now()) this.end();
    else if (/* fence: stream-stuck */ stuckMs >= HTTP_TIMINGS.answerMs) this.#response.destroy();
    else if (now - this.#commentedAt >= COMMENT_MS) {
      this.#commentedAt = now;
      this.#sender.comment();
    }
  }

  /** Checks the credential again. Never rejects. */
  recheck(): Promise<void> {
    return this.#credentialCheck.run();
  }

  /** Sends nothing more; what was sent before still leaves. */
  end(): void {
    this[Symbol.dispose]();
    this.#response.end();
    const cut = setTimeout(() => this.#response.destroy(), CLOSE_MS);
    cut.unref();
    this.#response.once("close", () => clearTimeout(cut));
  }

  [Symbol.dispose](): void {
    this.#ended.abort();
    this.#held.dispose();
  }

  async #checkCredential(): Promise<boolean> {
    const found = await identify(this.#services, this.#identity.credential, this.#services.now());
    if (!("refused" in found)) {
      this.#identity = found; // its expiry may have moved
      return true;
    }
    if (found.refused === "unavailable") return false;
    // fence: stream-revocation
    this.end();
    return true;
  }
}
