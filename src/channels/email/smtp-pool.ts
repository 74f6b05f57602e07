// channels/email/smtp-pool.ts: the connections to one provider, as many as its server lets us have.
import { ConnectFailure } from "../outgoing-socket.ts";
import { type SmtpSession, smtpFailure } from "./smtp-connection.ts";

type SmtpPoolOptions = {
  readonly open: (signal: AbortSignal) => Promise<SmtpSession>;
  readonly maxConnections: number;
};

const IDLE_MS = 20_000;
const MAILS_PER_CONNECTION = 100;
/** A server that refused a connection beside others is tried with one more after this. */
const RAISE_AFTER_MS = 60_000;

/** A session that the caller has to itself. `reused`: it was idle before, and its server may have closed it meanwhile. */
type Taken = { readonly session: SmtpSession; readonly reused: boolean };

/** Retired, it closes each session as it comes back. */
export class SmtpPool {
  readonly #options: SmtpPoolOptions;
  readonly #idle = new Map<SmtpSession, NodeJS.Timeout>();
  readonly #waiting = new Set<() => void>();
  /** Sessions that are open or being opened. */
  #count = 0;
  #opening = 0;
  /** What the server was seen to allow. */
  #learned = { limit: Number.POSITIVE_INFINITY, at: 0 };
  #retired = false;

  constructor(options: SmtpPoolOptions) {
    this.#options = options;
  }

  /** Waits for a session. Rejects with what opening one met, or when the signal aborts. */
  async take(signal: AbortSignal): Promise<Taken> {
    for (;;) {
      signal.throwIfAborted();
      const [known] = [...this.#idle.keys()].slice(-1);
      if (known !== undefined) {
        this.#unpark(known);
        if (known.isUsable) return { session: known, reused: true };
        this.#drop();
      } else if (this.#count < this.#limit()) {
        const session = await this.#open(signal);
        if (session !== undefined) return { session, reused: false };
        await this.#freed(signal);
      } else await this.#freed(signal);
    }
  }

  /** Undefined when the server refused it beside others: then one of those has to do. */
  async #open(signal: AbortSignal): Promise<SmtpSession | undefined> {
    this.#count += 1;
    this.#opening += 1;
    try {
      return await this.#options.open(signal);
    } catch (error) {
      this.#count -= 1;
      const tooMany = this.#count > 0 && /* fence: smtp-pool-learns */ isRefusedConnection(error);
      const established = this.#count - this.#opening + 1;
      if (tooMany && established > 0) this.#learned = { limit: established, at: performance.now() };
      if (tooMany) return undefined;
      this.#wakeNext();
      throw error;
    } finally {
      this.#opening -= 1;
    }
  }

  #limit(): number {
    const { limit, at } = this.#learned;
    const raised = limit + Math.floor((performance.now() - at) / RAISE_AFTER_MS);
    return Math.min(raised, this.#options.maxConnections);
  }

  /** Gives a session back. It is closed when it cannot be used again. */
  give(session: SmtpSession): void {
    if (!session.isUsable || this.#retired || session.mails >= MAILS_PER_CONNECTION) {
      this.#end(session);
      return;
    }
    this.#idle.set(session, setTimeout(() => this.#end(session), IDLE_MS).unref());
    this.#wakeNext();
  }

  retire(): void {
    this.#retired = true;
    for (const session of [...this.#idle.keys()]) this.#end(session);
  }

  #end(session: SmtpSession): void {
    this.#unpark(session);
    session.quit();
    this.#drop();
  }

  #unpark(session: SmtpSession): void {
    clearTimeout(this.#idle.get(session));
    this.#idle.delete(session);
  }

  #drop(): void {
    this.#count -= 1;
    this.#wakeNext();
  }

  #wakeNext(): void {
    const [next] = this.#waiting;
    next?.();
  }

  #freed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}

/** Whether a server turned a connection away for now, before any mail. */
function isRefusedConnection(error: unknown): boolean {
  if (error instanceof ConnectFailure) return ["connection_refused", "connection_closed"].includes(error.code);
  const { stage, code, status } = smtpFailure(error);
  if (status !== null) return status < 500 && (stage === "connect" || stage === "auth");
  return stage === "connect" && code === "connection_closed";
}
