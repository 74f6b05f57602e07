// A WebSocket client that keeps every frame it was sent.
import { randomUUID } from "node:crypto";
import { WebSocket } from "ws";
import { FrameCheck } from "../../support/frame-check.ts";
import type { Body } from "./api.ts";

export type TestSocket = AsyncDisposable & {
  readonly frames: Body[];
  send(frame: Body): void;
  /** The first frame, seen or to come, that is as wanted. */
  next(wanted: (frame: Body) => boolean, timeoutMs?: number): Promise<Body>;
  /** Close code and reason, once it is closed. */
  readonly closed: Promise<number>;
  /** Cuts the connection without a word. */
  cut(): void;
};

/** Connects with a user's token (or another credential's header) and waits for `welcome`. */
export async function connect(
  url: string,
  token: string,
  options: { path?: string; headers?: Record<string, string> } = {},
): Promise<TestSocket> {
  const socket = new WebSocket(`${url.replace("http", "ws")}${options.path ?? "/ws"}`, {
    headers: { authorization: `Bearer ${token}`, ...options.headers },
  });
  const frames: Body[] = [];
  const check = new FrameCheck();
  const listeners = new Set<() => void>();
  socket.on("message", (bytes) => {
    check.received(String(bytes));
    frames.push(JSON.parse(String(bytes)));
    for (const listener of listeners) listener();
  });
  const closed = new Promise<number>((resolve) => socket.on("close", resolve));
  socket.on("error", () => undefined);
  const next: TestSocket["next"] = (wanted, timeoutMs = 30_000) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = frames.find(wanted);
        if (found === undefined) return;
        listeners.delete(look);
        clearTimeout(timer);
        resolve(found);
      };
      const timer = setTimeout(() => {
        listeners.delete(look);
        reject(new Error(`no such frame among ${frames.length}: ${JSON.stringify(frames.slice(-5))}`));
      }, timeoutMs);
      listeners.add(look);
      look();
    });
  const dispose = async () => {
    socket.close();
    await closed;
  };
  const send = (frame: Body) => {
    const text = JSON.stringify(frame);
    check.sent(text);
    socket.send(text);
  };
  const opened: TestSocket = {
    frames,
    send,
    next,
    closed,
    cut: () => socket.terminate(),
    [Symbol.asyncDispose]: dispose,
  };
  await opened.next((frame) => frame.type === "welcome");
  return opened;
}

/** Subscribes to a room and waits for the answer; throws when that is an error. */
export async function subscribe(socket: TestSocket, room: string, afterSeq?: number): Promise<Body> {
  const ref = randomUUID();
  socket.send({ type: "subscribe", room_id: room, ref, ...(afterSeq === undefined ? {} : { after_seq: afterSeq }) });
  const answer = await socket.next((frame) => frame.ref === ref);
  if (answer.type !== "subscribed") throw new Error(`not subscribed: ${JSON.stringify(answer)}`);
  return answer;
}
