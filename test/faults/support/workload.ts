// Clients that do all that clients do, over the deaths of their server: post, edit, delete, listen, notify, acknowledge.
import { setTimeout as sleep } from "node:timers/promises";
import { type Api, apiOf, type Body, until } from "../../e2e/support/api.ts";
import { ClientHistory, type Write, type WriteKind } from "./history.ts";
import { Listener, SILENT } from "./listener.ts";
import type { Evidence, Logged } from "./oracle.ts";
import { type Random, seeded } from "./random.ts";

const ROOMS = 3;
const WRITERS = 6;
const USERS = ["alice", "bob"];
/** The longest that a writer rests after a write. */
const PAUSE_MS = 60;
/** An attempt that was under way when the server died stays open until its lease ends; what follows takes a moment. */
const SETTLE_TIMEOUT_MS = 150_000;
const OPEN = "scheduled,pending,processing";

type Outside = {
  hook(path: string): string;
  readonly webhooks: ReadonlyMap<string, readonly string[]>;
  readonly mailbox: { list(): readonly { readonly headers: Readonly<Record<string, string>> }[] };
};

export type Workload = AsyncDisposable & {
  readonly history: ClientHistory;
  readonly listeners: readonly Listener[];
  /** Lets the writers write. */
  go(): void;
  /** Holds them; returns when each write that was sent has its answer. */
  rest(): Promise<void>;
  /** Waits, with the writers at rest, until nothing is under way. The evidence says whether that is so. */
  settle(): Promise<void>;
  evidence(log: readonly Logged[]): Promise<Evidence>;
  /** What no client should ever have met. */
  strange(): readonly string[];
};

/** A client on a server that keeps its address over its deaths. */
export async function openWorkload(url: string, key: string, outside: Outside, seed: number): Promise<Workload> {
  await using open = new AsyncDisposableStack();
  const api = apiOf(url, key);
  const members = [...USERS, "carol"].map((user_id) => ({ user_id }));
  const rooms: string[] = [];
  for (let n = 0; n < ROOMS; n += 1) rooms.push((await api.post("/rooms", { name: `Room ${n}`, members })).body.id);
  for (const user of [...USERS, "dan"]) await api.put(`/users/${user}`, { email: `${user}@example.com` });
  const listeners = await Promise.all(
    USERS.map(async (user) => {
      const { body } = await api.post(`/users/${user}/tokens`, { ttl_seconds: 86_400 });
      return open.use(new Listener(url, user, body.token, rooms));
    }),
  );
  const history = new ClientHistory();
  const gate = new Gate();
  const over = new AbortController();
  const writers = Array.from({ length: WRITERS }, (_, n) => {
    const parts = { api, rooms, outside, history, random: seeded(seed + n), name: `w${seed}-${n}`, over: over.signal };
    return write(parts, gate);
  });
  open.defer(async () => {
    over.abort();
    gate.open();
    await Promise.all(writers);
  });
  const heads = async (): Promise<boolean> => {
    for (const room of rooms) {
      const { body } = await api.get(`/rooms/${room}`);
      if (!listeners.every(({ seqs }) => (seqs.get(room)?.at(-1) ?? 0) >= body.seq)) return false;
    }
    return true;
  };
  const moved = open.move();
  return {
    history,
    listeners,
    go: () => gate.open(),
    rest: () => gate.close(WRITERS),
    async settle() {
      const ended = async () => (await api.get(`/notifications?limit=1&status=${OPEN}`)).body.data?.length === 0;
      await until(async () => (await ended()) && (await heads()), Boolean, SETTLE_TIMEOUT_MS);
    },
    evidence: async (log) => ({
      writes: history.writes,
      log,
      webhooks: outside.webhooks,
      mails: outside.mailbox.list().map(({ headers }) => ({
        messageId: headers["message-id"] ?? "none",
        delivery: headers["x-chatapi-delivery"] ?? "none",
      })),
      listeners,
      contents: new Map((await Promise.all(rooms.map((room) => contentsOf(api, room)))).flat()),
    }),
    strange: () => [...history.strange, ...listeners.flatMap((one) => one.strange)],
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** Lets writers through, or holds each before its next write. */
class Gate {
  #opened = Promise.withResolvers<void>();
  #isOpen = false;
  #waiting = 0;

  open(): void {
    this.#isOpen = true;
    this.#opened.resolve();
  }

  /** Returns once all wait. */
  async close(count: number): Promise<void> {
    if (this.#isOpen) this.#opened = Promise.withResolvers();
    this.#isOpen = false;
    while (this.#waiting < count) await sleep(5);
  }

  async pass(): Promise<void> {
    this.#waiting += 1;
    await this.#opened.promise;
    this.#waiting -= 1;
  }
}

type Writing = {
  readonly api: Api;
  readonly rooms: readonly string[];
  readonly outside: Outside;
  readonly history: ClientHistory;
  readonly random: Random;
  readonly name: string;
  readonly over: AbortSignal;
};

/** One writer: one write after the other, its own messages only. */
async function write({ api, rooms, outside, history, random, name, over }: Writing, gate: Gate): Promise<void> {
  const mine: string[] = [];
  const scheduled: string[] = [];
  const send = (kind: WriteKind, method: Write["method"], path: string, key: string, body?: Body) =>
    history.send(api, { kind, method, path, key, ...(body === undefined ? {} : { body }) }, over);
  const notify = (key: string, body: Body) => send("notify", "POST", "/notifications", key, body);
  for (let n = 0; ; n += 1) {
    await gate.pass();
    if (over.aborted) return;
    const key = `${name}-${n}`;
    const dice = random.below(100);
    const message = mine.at(-1);
    const later = dice % 2 === 0 ? { send_at: new Date(Date.now() + 1_000 + random.below(2_000)).toISOString() } : {};
    if (dice < 15 && message !== undefined) await send("edit", "PATCH", message, key, { content: key });
    else if (dice < 22 && message !== undefined) {
      await send("delete", "DELETE", message, key);
      mine.pop();
    } else if (dice < 28) {
      const mail = { type: "email", to_email: `${name}@example.com`, subject: key, content: key, ...later };
      const { answer } = await notify(key, mail);
      if (dice % 2 === 0 && answer?.body.id !== undefined) scheduled.push(answer.body.id);
    } else if (dice < 36) {
      const path = ["/ok", "/ok", "/first-fails", "/slow"][random.below(4)] ?? "/ok";
      await notify(key, { type: "webhook", url: outside.hook(path), content: key, ...later });
    } else if (dice < 42) {
      const live = { type: "websocket", user_ids: [...USERS], content: `live ${key}` };
      await notify(key, live);
    } else if (dice < 45) {
      const silent = { type: "websocket", user_ids: ["alice", "dan"], content: `${SILENT}${key}` };
      await notify(key, { ...silent, email_fallback: { enabled: true, after_seconds: 1 } });
    } else if (dice < 47 && scheduled.length > 0) {
      await send("cancel", "POST", `/notifications/${scheduled.pop()}/cancel`, key, {});
    } else {
      const room = rooms[random.below(rooms.length)] ?? "";
      const { answer } = await send("post", "POST", `/rooms/${room}/messages`, key, {
        sender_id: "carol",
        content: key,
      });
      if (answer?.status === 201) mine.push(`/rooms/${room}/messages/${answer.body.id}`);
    }
    await sleep(random.below(PAUSE_MS));
  }
}

/** Every message of a room as a client reads it. */
async function contentsOf(api: Api, room: string): Promise<readonly (readonly [string, string | null])[]> {
  const all: [string, string | null][] = [];
  for (let cursor = ""; ; ) {
    const { body } = await api.get(`/rooms/${room}/messages?after_seq=0&include_deleted=true&limit=100${cursor}`);
    for (const { id, content } of body.data) all.push([id, content]);
    if (body.next_cursor === null) return all;
    cursor = `&cursor=${encodeURIComponent(body.next_cursor)}`;
  }
}
