// The sending side of a stream of server-sent events.
import { expect, test } from "vitest";
import { Outbox } from "../../../src/api/realtime/outbox.ts";
import { SseSender, sseMessage } from "../../../src/api/realtime/sse-sender.ts";
import { answered } from "../../support/sse-client.ts";

test("a sender sends nothing after its last message, and all before it", async () => {
  let text = "";
  const { response } = answered((more) => {
    text += more;
  });
  const sender = new SseSender(response, (frame) =>
    sseMessage("told", null, { frame: String(frame) }, `${frame}` === "last"),
  );
  const outbox = new Outbox(sender, response, () => undefined);
  outbox.sendAll(["one", "last", "two"].map((one) => Buffer.from(one)));
  outbox.sendAll([Buffer.from("three")]);
  await new Promise((resolve) => response.once("finish", resolve));
  expect([...text.matchAll(/"frame":"(\w+)"/g)].map(([, frame]) => frame)).toEqual(["one", "last"]);
  expect(text).toMatch(/\r\n0\r\n\r\n$/);
});
