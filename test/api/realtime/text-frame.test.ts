// Frames that go past the library: it must read them as what they are, at every size at which the header changes.
import { once } from "node:events";
import { expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { textFrames } from "../../../src/api/realtime/text-frame.ts";

test("a client reads the payloads, of every length of header, in order", async () => {
  const texts = [0, 1, 125, 126, 65_535, 65_536, 200_000].map(
    (length) => "é".repeat(length >> 1) + "x".repeat(length & 1),
  );
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false });
  server.on("connection", (_, { socket }) => {
    for (const text of texts) socket.write(textFrames([Buffer.from(text)]));
    socket.write(textFrames(texts.map((text) => Buffer.from(text))));
  });
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  const client = new WebSocket(`ws://127.0.0.1:${port}`);
  const read: string[] = [];
  await new Promise<void>((resolve, reject) => {
    client.on("error", reject);
    client.on("message", (data, isBinary) => {
      expect(isBinary).toBe(false);
      read.push(String(data));
      if (read.length === 2 * texts.length) resolve();
    });
  });
  client.terminate();
  await new Promise((resolve) => server.close(resolve));
  expect(read).toEqual([...texts, ...texts]);
});

test("the same payloads are framed once, in one piece", () => {
  const payload = Buffer.from("hello");
  const other = Buffer.from("hello");
  const frame = textFrames([payload, other]);
  expect(textFrames([payload, other])).toBe(frame);
  expect(textFrames([other, other])).not.toBe(frame);
  expect(textFrames([other, other])).toEqual(frame);
  expect(textFrames([other]).toString("latin1")).toBe("\x81\x05hello");
});
