// The guides tell the truth: every example is run against a started server, in the order of the page.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { catalogue } from "../../src/domain/catalogue.ts";
import { type Body, newClient, tokenOf } from "../e2e/support/api.ts";
import { folderWithCluster, type Running, startServer } from "../e2e/support/server.ts";
import { proxyTo } from "../faults/support/proxy.ts";
import { FrameCheck } from "../support/frame-check.ts";
import { examplesOf, filled, matches } from "./examples.ts";

const stack = new AsyncDisposableStack();
let server: Running;

beforeAll(async () => {
  const folder = stack.use(await folderWithCluster());
  server = stack.use(await startServer({ dataDir: folder.path }));
});
afterAll(() => stack.disposeAsync());

/** Undefined: an answer without a body. */
const bodyOf = (text: string): Body => (text === "" ? undefined : JSON.parse(text));

/** What examples are filled with: `$NAME`. */
type Kept = Map<string, string>;
type Answer = { readonly status: number; readonly body: Body };

/** Sends a request as a guide shows it. `KEY`, once there is one, is its credential, unless it names another. */
async function request(text: string, kept: Kept): Promise<Answer> {
  const [head = "", body] = filled(text, kept).split("\n\n");
  const [target = "", ...lines] = head.split("\n");
  const [method = "", path = ""] = target.split(" ");
  const headers = new Headers();
  if (kept.has("KEY")) headers.set("authorization", `Bearer ${kept.get("KEY")}`);
  if (body !== undefined) headers.set("content-type", "application/json");
  for (const line of lines) {
    const [name = "", value = ""] = line.split(": ");
    headers.set(name, value);
  }
  const response = await fetch(`${server.url}${path}`, { method, headers, ...(body === undefined ? {} : { body }) });
  return { status: response.status, body: bodyOf(await response.text()) };
}

/** The one socket of a guide. */
class GuideSocket implements Disposable {
  readonly #socket = new WebSocket(`${server.url.replace("http", "ws")}/ws`);
  readonly #opened = once(this.#socket, "open");
  readonly #check = new FrameCheck();
  readonly #frames: Body[] = [];
  #seen = 0;

  constructor() {
    this.#socket.on("message", (bytes) => {
      this.#check.received(String(bytes));
      const frame: Body = JSON.parse(String(bytes));
      // Comes among the others whenever it is ready.
      if (frame.type !== "inbox_counts") this.#frames.push(frame);
    });
  }

  async send(text: string): Promise<void> {
    await this.#opened;
    this.#check.sent(text);
    this.#socket.send(text);
  }

  /** The frame after those that were given before. */
  async next(where: string): Promise<Body> {
    await expect.poll(() => this.#frames.length, { timeout: 30_000, message: where }).toBeGreaterThan(this.#seen);
    this.#seen += 1;
    return this.#frames[this.#seen - 1];
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** Follows a guide from its beginning to its end; gives how many requests it made and frames it received. */
async function follow(guide: string, kept: Kept): Promise<{ requests: number; frames: number }> {
  using open = new DisposableStack();
  const done = { requests: 0, frames: 0 };
  let answer: Answer | undefined;
  let socket: GuideSocket | undefined;
  for (const example of await examplesOf(guide)) {
    const where = `docs/${guide}:${example.line}`;
    if (example.kind === "keep") kept.set(example.name, answer?.body[example.member]);
    if (example.kind === "request") {
      answer = await request(example.text, kept);
      done.requests += 1;
    }
    if (example.kind === "answer") {
      const [status = "", ...rest] = filled(example.text, kept).split("\n");
      const wanted = bodyOf(rest.join("\n"));
      expect(answer?.status, `${where}: ${JSON.stringify(answer?.body)}`).toBe(Number(status));
      expect(matches(wanted, answer?.body), `${where}: ${JSON.stringify(answer?.body)}`).toBe(true);
    }
    if (example.kind !== "frames") continue;
    socket ??= open.use(new GuideSocket());
    for (const line of example.lines) {
      const text = filled(line.slice(2), kept);
      if (line.startsWith("> ")) await socket.send(text);
      if (line.startsWith("! ")) {
        const [, target = "", body = ""] = /^(POST \S+) (.*)$/.exec(text) ?? [];
        expect((await request(`${target}\n\n${body}`, kept)).status, `${where}: ${line}`).toBeLessThan(300);
      }
      if (line.startsWith("< ")) {
        const frame = await socket.next(`${where}: ${line}`);
        done.frames += 1;
        expect(matches(JSON.parse(text), frame), `${where}: ${line}: ${JSON.stringify(frame)}`).toBe(true);
        if (frame.delivery_id !== undefined) kept.set("DELIVERY", frame.delivery_id);
      }
    }
  }
  return done;
}

test.each(["http.md", "assistants.md", "building-a-chat.md"])("the requests of %s", async (guide) => {
  const kept = new Map([["LATER", new Date(Date.now() + 86_400_000).toISOString()]]);
  expect((await follow(guide, kept)).requests).toBeGreaterThan(6);
});

test("the WebSocket guide", async () => {
  const api = await newClient(server.url);
  const { body: room } = await api.post("/rooms", {
    name: "General",
    members: [{ user_id: "alice" }, { user_id: "bob" }],
  });
  await api.post(`/rooms/${room.id}/messages`, { sender_id: "bob", content: "Hello!" });
  const kept = new Map([
    ["KEY", String(api.key)],
    ["TOKEN", await tokenOf(api, "alice")],
    ["ROOM", room.id],
  ]);
  expect((await follow("websocket.md", kept)).frames).toBeGreaterThan(10);
});

/** The function that a guide shows. */
async function functionOf(guide: string): Promise<string> {
  const text = await readFile(new URL(`../../docs/${guide}`, import.meta.url), "utf8");
  const [, code = ""] = /^```js\n(.*?)^```$/ms.exec(text) ?? [];
  return code;
}

/** A page in a process of its own. */
type Page = {
  /** What it said so far, a line each as JSON. */
  readonly said: readonly Body[];
  /** Resolves once it said so much; rejects when it complains instead. */
  has(count: number): Promise<void>;
  /** A line for the page to read. */
  tell(what: Body): void;
};

/** Runs a guide's function with what a page does with it, which finds `about` in the environment as `PAGE`. */
function openPage(code: string, about: object): Page {
  const args = ["--experimental-eventsource", "--no-warnings", "--input-type=module", "-e", code];
  const page = spawn(process.execPath, args, { env: { ...process.env, PAGE: JSON.stringify(about) } });
  stack.defer(() => void page.kill());
  const said: Body[] = [];
  createInterface(page.stdout).on("line", (line) => void said.push(JSON.parse(line)));
  let complaints = "";
  page.stderr.on("data", (text) => {
    complaints += text;
  });
  return {
    said,
    has: (count) => expect.poll(() => complaints || said.length, { timeout: 20_000 }).toBe(count),
    tell: (what) => void page.stdin.write(`${JSON.stringify(what)}\n`),
  };
}

/** Follows a room on Node's own EventSource, and says what becomes of it. */
const STREAMS_PAGE = `
const { url, token, room } = JSON.parse(process.env.PAGE);
const { fetch, EventSource } = globalThis;
const browser = {
  fetch: (path, options) => fetch(url + path, options),
  EventSource: class extends EventSource {
    constructor(path) {
      super(url + path);
    }
  },
};
const say = (what) => process.stdout.write(JSON.stringify(what) + "\\n");
const onEvent = ({ type, seq, data }) => say({ type, seq, content: data.content });
followRoom(room, { token: async () => token, after: 1, onEvent }).then((reason) => say({ reason }));
`;

test("the guide to streams: a page goes on after a cut, and ends with the membership", {
  timeout: 60_000,
}, async () => {
  const code = (await functionOf("streams.md")).replaceAll(/\b(?:fetch|EventSource)\(/g, "browser.$&");
  const api = await newClient(server.url);
  const { body: room } = await api.post("/rooms", { name: "Talk", members: [{ user_id: "ann" }, { user_id: "bob" }] });
  const say = (content: string) => api.post(`/rooms/${room.id}/messages`, { sender_id: "bob", content });
  await using proxy = await proxyTo(server.url);
  const about = { url: new URL(proxy.url).origin, token: await tokenOf(api, "ann"), room: room.id };
  const page = openPage(code + STREAMS_PAGE, about);
  await say("one");
  await page.has(1);
  proxy.cut();
  await say("two");
  await say("three");
  await page.has(3);
  await api.delete(`/rooms/${room.id}/members/ann`);
  await page.has(4);
  expect(page.said).toEqual([
    { type: "message.posted", seq: 2, content: "one" },
    { type: "message.posted", seq: 3, content: "two" },
    { type: "message.posted", seq: 4, content: "three" },
    { reason: "removed" },
  ]);
});

/** Follows, posts what it is told to, and says what comes. */
const CHAT_PAGE = `
const { createInterface } = await import("node:readline");
const { url, token } = JSON.parse(process.env.PAGE);
const say = (what) => process.stdout.write(JSON.stringify(what) + "\\n");
const SAID = {
  inbox: ({ rooms }) => ({ inbox: rooms.map(({ room }) => room.name) }),
  event: ({ event, seq, data }) => ({ event, seq, content: data.content }),
  caught_up: () => ({ caughtUp: true }),
};
const onFrame = (frame) => SAID[frame.type] && say(SAID[frame.type](frame));
const chat = openChat({ url, token: async () => token, onFrame, onEnd: (code) => say({ code }) });
createInterface(process.stdin).on("line", async (line) => {
  const { room, content } = JSON.parse(line);
  const { seq } = await chat.post(room, content);
  say({ posted: seq });
});
`;

test("the guide to chats: an app misses nothing and posts once, over cuts and lost answers", {
  timeout: 60_000,
}, async () => {
  const api = await newClient(server.url);
  const { body: room } = await api.post("/rooms", { name: "Talk", members: [{ user_id: "ann" }, { user_id: "bob" }] });
  const say = (content: string) => api.post(`/rooms/${room.id}/messages`, { sender_id: "bob", content });
  await using proxy = await proxyTo(server.url);
  const url = `${proxy.url.replace("http", "ws")}ws`;
  const page = openPage((await functionOf("building-a-chat.md")) + CHAT_PAGE, {
    url,
    token: await tokenOf(api, "ann"),
  });
  await page.has(1);
  await say("one");
  await page.has(2);

  // Nothing gets through: what others say meanwhile is missed, and what the user says waits.
  proxy.refuse();
  await say("two");
  page.tell({ room: room.id, content: "three" });
  proxy.heal();
  await page.has(6);

  // The answer to a post gets lost, with the connection.
  proxy.stall("down");
  page.tell({ room: room.id, content: "four" });
  const newest = async () => (await api.get(`/rooms/${room.id}/messages?limit=1`)).body.data[0]?.content;
  await expect.poll(newest, { timeout: 20_000 }).toBe("four");
  proxy.reset();
  proxy.heal();
  await page.has(9);

  await api.delete("/users/ann/tokens");
  await page.has(10);
  const events = page.said.filter(({ event }) => event !== undefined);
  expect(events).toEqual(
    ["one", "two", "three", "four"].map((content, index) => ({ event: "message.posted", seq: index + 2, content })),
  );
  expect(page.said.filter(({ posted }) => posted !== undefined)).toEqual([{ posted: 4 }, { posted: 5 }]);
  expect(page.said[0]).toEqual({ inbox: ["Talk"] });
  expect(page.said.at(-1)).toEqual({ code: 4501 });
});

test("every stored event type is listed", async () => {
  const page = await readFile(new URL("../../docs/events.md", import.meta.url), "utf8");
  expect(Object.keys(catalogue).filter((type) => !page.includes(`\`${type}\``))).toEqual([]);
});
