// What a client asked for and was answered, over the deaths of its server: the truth that the log is held against.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type Api, type Body, tokenOf } from "../../e2e/support/api.ts";
import { seqs } from "../../e2e/support/cluster.ts";
import { connect, subscribe, type TestSocket } from "../../e2e/support/socket.ts";

/** The server died, or could not say what came of a write: it is sent again under its key. */
export class Unknown extends Error {
  override readonly name = "Unknown";
}

/** A time that a write names was over before the server read it: that is no fault, of whatever is slow. */
export class TooLate extends Error {
  override readonly name = "TooLate";
}

export type Write = {
  /** Names the run that it belongs to. */
  readonly run: string;
  readonly method: string;
  readonly path: string;
  readonly body: Body;
  readonly key: string;
  /** Undefined as long as nobody knows. */
  answer: { readonly status: number; readonly body: Body } | undefined;
};

/** Somebody who follows a room: what each of its connections was shown. */
export type Listener = { readonly user: string; readonly room: string; readonly frames: (readonly Body[])[] };

export const seqsOf = ({ room, frames }: Listener): readonly number[] => frames.flatMap((shown) => seqs(shown, room));

const SETTLE_TIMEOUT_MS = 60_000;

/** All that one client of a scene did. */
export class History {
  readonly writes: Write[] = [];
  readonly listeners: Listener[] = [];
  readonly #key: string;

  constructor(key: string) {
    this.#key = key;
  }

  /** Sends a write under a key of its own. Throws Unknown. */
  async write(api: Api, run: string, method: string, path: string, body: Body): Promise<Body> {
    const write: Write = { run, method, path, body, key: randomUUID(), answer: undefined };
    this.writes.push(write);
    return send(api, write);
  }

  /** Sends again what was never answered, as a client does, until everything has an answer. */
  async settle(api: Api): Promise<number> {
    const open = this.writes.filter((write) => write.answer === undefined);
    for (const write of open) {
      const deadline = performance.now() + SETTLE_TIMEOUT_MS;
      while (write.answer === undefined) {
        await send(api, write).catch((error: unknown) => {
          if (error instanceof Unknown && performance.now() < deadline) return sleep(100);
          if (error instanceof Unknown || !mayComeTooLate(write)) throw error;
        });
      }
    }
    return open.length;
  }

  /** Follows a room from what was shown of it before. The caller disposes the socket. */
  async listen(api: Api, listener: Listener): Promise<TestSocket> {
    const socket = await connect(api.url, await tokenOf(api, listener.user));
    const before = seqsOf(listener).at(-1) ?? 0;
    listener.frames.push(socket.frames);
    await subscribe(socket, listener.room, before);
    return socket;
  }

  /** The client's own credential on a server. */
  on(api: Api): Api {
    return api.as(this.#key);
  }

  /** The writes that match and were done, of one run or of all. */
  answered(path: RegExp, run?: string): readonly (Write & { answer: { status: number; body: Body } })[] {
    const isAnswered = (write: Write): write is Write & { answer: { status: number; body: Body } } =>
      write.answer !== undefined &&
      write.answer.status < 300 &&
      path.test(write.path) &&
      (run === undefined || write.run === run);
    return this.writes.filter(isAnswered);
  }
}

const namesTime = ({ method, path, body }: Write): boolean =>
  (path === "/notifications" && body.expires_at !== undefined) ||
  (/^\/notifications\/./.test(path) && method === "PATCH");

/** What was never done may no longer be possible when it is sent again: the time for it is over. */
const mayComeTooLate = (write: Write): boolean =>
  namesTime(write) || /^\/notifications\/.+\/(cancel|retry)$/.test(write.path);

async function send(api: Api, write: Write): Promise<Body> {
  const { method, path, body, key } = write;
  const headers: Record<string, string> = method === "POST" ? { "idempotency-key": key } : {};
  const answer = await api.call(method, path, body, headers).catch((error: unknown) => {
    throw new Unknown(`${method} ${path}`, { cause: error });
  });
  if (answer.status >= 500) throw new Unknown(`${method} ${path}: ${answer.status}`);
  write.answer = { status: answer.status, body: answer.body };
  if (answer.status < 400) return answer.body;
  const said = `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`;
  const isLate = namesTime(write) && [409, 422].includes(answer.status);
  throw isLate ? new TooLate(said) : new Error(said);
}
