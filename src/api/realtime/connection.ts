// One socket: authentication, the client's frames one after the other, and the end.
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import type { Services } from "../../app/services.ts";
import type { ClientFrame, FrameOf, Ref } from "../../contract/client-frames.ts";
import { CLOSE, CLOSE_REASONS, type CloseCode, type SocketErrorCode } from "../../contract/errors.ts";
import { failpoint } from "../../platform/failpoint.ts";
import { pause } from "../../platform/supervise.ts";
import { Problem, toProblem } from "../http/problems.ts";
import { acknowledge, markRead } from "./commands.ts";
import { CredentialWatch, RETRY_MS } from "./credential-watch.ts";
import { type Credential, type Identity, identify, type Refused } from "./identity.ts";
import { Incoming, type Task } from "./incoming.ts";
import { Lifetime } from "./lifetime.ts";
import { HEARTBEAT_SECONDS, type Timings } from "./limits.ts";
import type { LiveDeliveries } from "./live-deliveries.ts";
import type { LiveRooms } from "./live-rooms.ts";
import { Offers } from "./offers.ts";
import { Outgoing } from "./outgoing.ts";
import { Rooms } from "./rooms.ts";

export type ConnectionParts = {
  readonly services: Services;
  readonly rooms: LiveRooms;
  readonly deliveries: LiveDeliveries;
  readonly timings: Timings;
  /** Takes the places of a user and a client; undefined when there is none. */
  readonly admit: (identity: Identity) => Disposable | undefined;
  /** Counts a credential that did not hold. */
  readonly failedAuthentication: () => void;
  /** Nothing more happens on it; its socket may still be closing. */
  readonly onEnd: (connection: Connection) => void;
};

/** A connection, from the upgrade to its close. */
export class Connection {
  readonly id: string;
  readonly #parts: ConnectionParts;
  readonly #socket: WebSocket;
  readonly #incoming: Incoming;
  readonly #outgoing: Outgoing;
  readonly #rooms: Rooms;
  readonly #watch: CredentialWatch;
  readonly #over = new Lifetime();
  #late: NodeJS.Timeout | undefined;
  #identity: Identity | undefined;
  #place: Disposable | undefined;
  #offers: Offers | undefined;
  #pingedAt = performance.now();

  constructor(parts: ConnectionParts, socket: WebSocket, stream: Duplex) {
    const { services, rooms, timings } = parts;
    const over = this.#over;
    const close = (code: CloseCode) => this.close(code);
    this.#parts = parts;
    this.#socket = socket;
    this.id = `conn_${services.newId().replaceAll("-", "")}`;
    this.#outgoing = new Outgoing(socket, stream, () => close(CLOSE.slowConsumer));
    this.#rooms = new Rooms({ services, rooms, outgoing: this.#outgoing, over });
    this.#incoming = new Incoming({ socket, carryOut: (task) => this.#carryOut(task), onFault: close, over });
    this.#watch = new CredentialWatch({
      services,
      current: () => this.#identity,
      onHolds: (identity) => {
        this.#identity = identity;
      },
      onEnd: close,
      over,
    });
    this.#late = setTimeout(() => close(CLOSE.authenticationLate), timings.authenticationMs);
    socket.on("error", () => this.#end()); // broken, or a frame that the library refused and closed for
    socket.on("close", () => this.#end());
  }

  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** A credential that came with the upgrade: as if it were the first frame. */
  present(credential: Credential): void {
    this.#incoming.push({ kind: "credential", credential });
  }

  /** Its credential may no longer hold. */
  doubt(): void {
    void this.#watch.doubt();
  }

  /** Nothing is sent after this but the close; who does not answer it is cut off. */
  close(code: CloseCode): void {
    this.#end();
    this.#socket.close(code, CLOSE_REASONS[code]);
    const cut = setTimeout(() => this.#socket.terminate(), this.#parts.timings.closeMs);
    cut.unref();
    this.#socket.once("close", () => clearTimeout(cut));
  }

  /** Called again and again: heartbeats, silence, expiry. `now` is on the monotonic clock. */
  tick(now: number): void {
    const { timings, services } = this.#parts;
    if (this.#identity === undefined || this.#over.aborted) return;
    const { expiresAt } = this.#identity;
    const heardAt = this.#incoming.heardAt(now);
    if (expiresAt !== null && expiresAt <= services.now()) this.close(CLOSE.expired);
    else if (now - heardAt >= timings.silenceMs) this.close(CLOSE.heartbeatMissed);
    else {
      const silent = now - this.#outgoing.lastSentAt >= timings.heartbeatMs;
      if (silent) this.#outgoing.send({ type: "heartbeat" });
      // Also who is sent a lot must be heard of: browsers answer pings, and send nothing else.
      if (!silent && now - Math.max(heardAt, this.#pingedAt) < timings.heartbeatMs) return;
      this.#pingedAt = now;
      this.#socket.ping();
    }
  }

  async #carryOut(task: Task): Promise<void> {
    if (task.kind === "wrong") {
      if (this.#identity === undefined && task.type !== "auth") this.close(CLOSE.unauthenticated);
      else this.#error(task.code, task.message, task.ref);
      return;
    }
    const ref = task.kind === "frame" ? task.frame.ref : undefined;
    try {
      await (task.kind === "frame" ? this.#frame(task.frame) : this.#authenticate(task.credential, undefined));
    } catch (error) {
      let problem = toProblem(error);
      if (problem === undefined) {
        this.#parts.services.logger.error({ err: error, connection: this.id }, "a frame could not be carried out");
        problem = new Problem("internal");
      }
      this.#error(problem.code, problem.detail, ref);
    }
  }

  /** Answers carry the `ref` of what they answer; JSON leaves it out when there was none. */
  #error(code: SocketErrorCode, message: string, ref: Ref | undefined): void {
    this.#outgoing.send({ type: "error", code, message, ref });
  }

  async #frame(frame: ClientFrame): Promise<void> {
    if (frame.type === "auth") {
      return this.#authenticate({ bearer: frame.token, userId: frame.user_id }, frame.ref);
    }
    const identity = this.#identity;
    if (identity === undefined) return this.close(CLOSE.unauthenticated);
    switch (frame.type) {
      case "ping":
        return this.#outgoing.send({ type: "pong", ref: frame.ref });
      case "subscribe":
        return this.#rooms.subscribe(identity, frame);
      case "unsubscribe":
        return this.#rooms.unsubscribe(identity, frame);
      case "read":
      case "ack":
        return this.#command(identity, frame);
    }
  }

  async #command({ caller, user }: Identity, frame: FrameOf<"read"> | FrameOf<"ack">): Promise<void> {
    const { services } = this.#parts;
    if (user === null) return this.#error("user_required", "the connection names no user", frame.ref);
    const sender = { caller, user, correlation: this.id };
    if (frame.type === "read") await markRead(services, sender, frame.room_id, frame.seq);
    else await acknowledge(services, sender, frame.delivery_id);
    failpoint("frame-carried-out/ok-sent");
    this.#outgoing.send({ type: "ok", ref: frame.ref });
  }

  /** The first one opens the connection; later ones of the same user extend it. */
  async #authenticate(credential: Credential, ref: Ref | undefined): Promise<void> {
    const found = await this.#identify(credential);
    if (this.#over.aborted) return;
    if ("refused" in found) {
      if (found.refused === "unavailable") throw new Problem("unavailable");
      if (found.refused === "forbidden") return this.close(CLOSE.forbidden);
      this.#parts.failedAuthentication();
      return this.close(CLOSE.unauthenticated);
    }
    const before = this.#identity;
    const { caller, user } = found;
    if (before === undefined) {
      this.#place = this.#parts.admit(found);
      if (this.#place === undefined) return this.close(CLOSE.tooManySockets);
    } else if (
      /* fence: socket-client */ before.caller.client !== caller.client ||
      /* fence: socket-user */ before.user?.id !== user?.id
    ) {
      return this.close(CLOSE.forbidden);
    }
    this.#identity = found;
    clearTimeout(this.#late);
    this.#late = undefined;
    this.doubt(); // the directory may have moved since it was asked, and does not tell twice
    const who = { connection_id: this.id, user_id: user?.id ?? null };
    this.#outgoing.send({ type: "welcome", ...who, heartbeat_seconds: HEARTBEAT_SECONDS, ref });
    if (before !== undefined || user === null || this.#over.aborted) return;
    const { services, deliveries } = this.#parts;
    const about = { services, deliveries, outgoing: this.#outgoing, connection: this.id };
    this.#offers = new Offers({ ...about, client: caller.client, subject: user.subject });
    this.#offers.start();
  }

  /** While this node does not know the newest revocations it asks again, until it would be too late. */
  async #identify(credential: Credential): Promise<Identity | Refused> {
    const { services, timings } = this.#parts;
    const deadline = performance.now() + timings.authenticationMs;
    for (;;) {
      const found = await identify(services, credential, services.now());
      const unknown = "refused" in found && found.refused === "unavailable";
      if (!unknown || performance.now() >= deadline || this.#over.aborted) return found;
      await pause(RETRY_MS, this.#over.signal);
    }
  }

  #end(): void {
    if (this.#over.aborted) return;
    this.#over.abort();
    clearTimeout(this.#late);
    this.#late = undefined;
    this.#offers?.[Symbol.dispose]();
    this.#rooms[Symbol.dispose]();
    this.#outgoing[Symbol.dispose]();
    this.#place?.[Symbol.dispose]();
    this.#parts.onEnd(this);
  }
}
