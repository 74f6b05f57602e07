// The proxy itself: each fault is what it says, so that a suite behind it tests what it means to.
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { proxyTo } from "./support/proxy.ts";

/** A server that says back what it hears, and what each end of a connection through the proxy was told. */
async function openPair() {
  await using open = new AsyncDisposableStack();
  const accepted = Promise.withResolvers<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    accepted.resolve(socket);
    socket.on("error", () => undefined);
    socket.on("data", (bytes) => socket.write(bytes));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  open.defer(() => void server.close());
  const { port } = server.address() as net.AddressInfo;
  const proxy = open.use(await proxyTo(`tcp://127.0.0.1:${port}`));
  const client = net.connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true });
  open.defer(() => void client.destroy());
  let heard = "";
  client.on("data", (bytes) => (heard += String(bytes)));
  client.write("a");
  const far = await accepted.promise;
  const [near, other] = [told(client), told(far)];
  const hears = async (text: string) => expect.poll(() => heard, { timeout: 20_000 }).toBe(text);
  await hears("a");
  const moved = open.move();
  return { proxy, client, near, other, hears, heard: () => heard, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

function told(socket: net.Socket): () => string {
  const all: string[] = [];
  socket.on("end", () => all.push("end"));
  socket.on("error", (error: NodeJS.ErrnoException) => all.push(String(error.code)));
  return () => all.join();
}

/** Long enough for what passes to have passed. */
const A_WHILE_MS = 100;

test("cut: both sides are told of an orderly end", async () => {
  await using pair = await openPair();
  pair.proxy.cut();
  await expect.poll(pair.near).toBe("end");
  await expect.poll(pair.other).toBe("end");
  expect(pair.proxy.counters).toMatchObject({ connections: 1, cut: 1 });
});

test("reset: both sides are told of an error", async () => {
  await using pair = await openPair();
  pair.proxy.reset();
  await expect.poll(pair.near).toBe("ECONNRESET");
  await expect.poll(pair.other).toBe("ECONNRESET");
});

test("stall: nothing passes and nothing ends; healed, everything arrives", async () => {
  await using pair = await openPair();
  pair.proxy.stall();
  pair.client.write("b");
  await sleep(A_WHILE_MS);
  expect([pair.heard(), pair.near(), pair.other()]).toEqual(["a", "", ""]);
  pair.proxy.heal();
  await pair.hears("ab");
  expect(pair.proxy.counters.held).toBeGreaterThan(0);
});

test("stall of one direction: what the client says arrives, the answer does not", async () => {
  await using pair = await openPair();
  pair.proxy.stall("down");
  pair.client.write("b");
  await expect.poll(() => pair.proxy.counters.bytes.up).toBe(2);
  await sleep(A_WHILE_MS);
  expect(pair.heard()).toBe("a");
});

test.each(["client", "server"] as const)(
  "half open: the %s is told of the end, the other side of nothing",
  async (closed) => {
    await using pair = await openPair();
    pair.proxy.halfOpen(closed);
    const [ended, not] = closed === "client" ? [pair.near, pair.other] : [pair.other, pair.near];
    await expect.poll(ended).toBe("end");
    await sleep(A_WHILE_MS);
    expect(not()).toBe("");
    pair.proxy.heal();
    await expect.poll(not).toBe("ECONNRESET");
  },
);

test("slow: a rate and a latency", async () => {
  await using pair = await openPair();
  pair.proxy.slow({ bytesPerSecond: 20_000, latencyMs: 20 });
  const begun = performance.now();
  pair.client.write("x".repeat(4_096));
  await pair.hears(`a${"x".repeat(4_096)}`);
  // Four pieces up, at least one down: no sooner than that, by the clock of the timers themselves.
  expect(performance.now() - begun).toBeGreaterThan(4 * 20);
});

test("refuse: what is open is reset, and so is what comes; healed, it works again", async () => {
  await using pair = await openPair();
  pair.proxy.refuse();
  await expect.poll(pair.near).toBe("ECONNRESET");
  const socket = net.connect(pair.proxy.port, "127.0.0.1");
  socket.on("error", () => undefined);
  await new Promise((resolve) => socket.once("close", resolve));
  expect(pair.proxy.counters.refused).toBe(1);
  pair.proxy.heal();
  const again = net.connect(pair.proxy.port, "127.0.0.1");
  again.write("c");
  expect(String((await once(again, "data"))[0])).toBe("c");
  again.destroy();
});
