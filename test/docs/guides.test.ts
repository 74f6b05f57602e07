// The guides tell the truth: every example is run against a started server, in the order of the page.
import { spawn } from "node:child_process";
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

test.each(["http.md", "assistants.md"])("the requests of %s", async (guide) => {
  const examples = await examplesOf(guide);
  expect(examples.filter((example) => example.kind === "request").length).toBeGreaterThan(6);
  const kept = new Map([["LATER", new Date(Date.now() + 86_400_000).toISOString()]]);
  let answer: { status: number; body: Body } | undefined;
  for (const example of examples) {
    const where = `docs/${guide}:${example.line}`;
    if (example.kind === "keep") kept.set(example.name, answer?.body[example.member]);
    if (example.kind === "request") {
      const [head = "", body] = filled(example.text, kept).split("\n\n");
      const [target = "", ...headers] = head.split("\n");
      const [method = "", path = ""] = target.split(" ");
      const key = kept.get("KEY");
      const response = await fetch(`${server.url}${path}`, {
        method,
        headers: {
          ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...Object.fromEntries(headers.map((header) => header.split(": "))),
        },
        ...(body === undefined ? {} : { body }),
      });
      answer = { status: response.status, body: bodyOf(await response.text()) };
    }
    if (example.kind === "answer") {
      const [status = "", ...rest] = filled(example.text, kept).split("\n");
      const wanted = bodyOf(rest.join("\n"));
      expect(answer?.status, `${where}: ${JSON.stringify(answer?.body)}`).toBe(Number(status));
      expect(matches(wanted, answer?.body), `${where}: ${JSON.stringify(answer?.body)}`).toBe(true);
    }
  }
});

test("the WebSocket guide", async () => {
  const api = await newClient(server.url);
  const { body: room } = await api.post("/rooms", {
    name: "General",
    members: [{ user_id: "alice" }, { user_id: "bob" }],
  });
  await api.post(`/rooms/${room.id}/messages`, { sender_id: "bob", content: "Hello!" });
  const kept = new Map([
    ["TOKEN", await tokenOf(api, "alice")],
    ["ROOM", room.id],
  ]);
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/ws`);
  const frames: Body[] = [];
  const check = new FrameCheck();
  socket.on("message", (bytes) => {
    check.received(String(bytes));
    const frame: Body = JSON.parse(String(bytes));
    // Comes among the others whenever it is ready.
    if (frame.type !== "inbox_counts") frames.push(frame);
  });
  await new Promise((resolve) => socket.on("open", resolve));
  let seen = 0;
  for (const example of await examplesOf("websocket.md")) {
    if (example.kind !== "frames") continue;
    for (const line of example.lines) {
      const text = filled(line.slice(2), kept);
      const where = `docs/websocket.md:${example.line}: ${line}`;
      if (line.startsWith("> ")) {
        check.sent(text);
        socket.send(text);
      }
      if (line.startsWith("! ")) {
        const [, path = "", body = ""] = /^POST \/api\/v1(\S+) (.*)$/.exec(text) ?? [];
        expect((await api.post(path, JSON.parse(body))).status, where).toBeLessThan(300);
      }
      if (line.startsWith("< ")) {
        await expect.poll(() => frames.length, { timeout: 30_000, message: where }).toBeGreaterThan(seen);
        const frame = frames[seen];
        seen += 1;
        expect(matches(JSON.parse(text), frame), `${where}: ${JSON.stringify(frame)}`).toBe(true);
        if (frame.delivery_id !== undefined) kept.set("DELIVERY", frame.delivery_id);
      }
    }
  }
  expect(seen).toBeGreaterThan(10);
  socket.close();
});

/** Runs the guide's function as a page would, on Node's own EventSource, and says what becomes of it. */
const PAGE = `
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
  const guide = await readFile(new URL("../../docs/streams.md", import.meta.url), "utf8");
  const [, code = ""] = /^```js\n(.*?)^```$/ms.exec(guide) ?? [];
  const inPage = code.replaceAll(/\b(?:fetch|EventSource)\(/g, "browser.$&");
  const api = await newClient(server.url);
  const { body: room } = await api.post("/rooms", { name: "Talk", members: [{ user_id: "ann" }, { user_id: "bob" }] });
  const say = (content: string) => api.post(`/rooms/${room.id}/messages`, { sender_id: "bob", content });
  await using proxy = await proxyTo(server.url);
  const about = { url: new URL(proxy.url).origin, token: await tokenOf(api, "ann"), room: room.id };
  const args = ["--experimental-eventsource", "--no-warnings", "--input-type=module", "-e", inPage + PAGE];
  const page = spawn(process.execPath, args, { env: { ...process.env, PAGE: JSON.stringify(about) } });
  stack.defer(() => void page.kill());
  const said: Body[] = [];
  createInterface(page.stdout).on("line", (line) => void said.push(JSON.parse(line)));
  let complaints = "";
  page.stderr.on("data", (text) => {
    complaints += text;
  });
  const has = (count: number) => expect.poll(() => complaints || said.length, { timeout: 20_000 }).toBe(count);
  await say("one");
  await has(1);
  proxy.cut();
  await say("two");
  await say("three");
  await has(3);
  await api.delete(`/rooms/${room.id}/members/ann`);
  await has(4);
  expect(said).toEqual([
    { type: "message.posted", seq: 2, content: "one" },
    { type: "message.posted", seq: 3, content: "two" },
    { type: "message.posted", seq: 4, content: "three" },
    { reason: "removed" },
  ]);
});

test("every stored event type is listed", async () => {
  const page = await readFile(new URL("../../docs/events.md", import.meta.url), "utf8");
  expect(Object.keys(catalogue).filter((type) => !page.includes(`\`${type}\``))).toEqual([]);
});
