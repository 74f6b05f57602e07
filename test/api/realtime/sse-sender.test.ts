// The sending side of a stream of server-sent events.
import { expect, test } from "vitest";
import { Outbox, SseSender, sseMessage } from "../../../src/api/realtime/outbox.ts";
import { roomSource } from "../../../src/api/realtime/stream-sources.ts";
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

test("a room's stream sends its events, growing text and its end, and nothing else that sockets get", () => {
  const { toMessage } = roomSource({} as never, "room_0", undefined);
  const about = { room_id: "room_0", id: "msg_0", seq: 7 };
  const sent = [
    { type: "event", event: "message.posted", ...about, at: "now" },
    { type: "growing", ...about, text: "a\nb", offset: 3 },
    ...["subscribed", "caught_up", "read", "delivered", "typing", "presence", "error"].map((type) => ({
      type,
      ...about,
    })),
    { type: "unsubscribed", room_id: "room_0", reason: "left" },
  ].map((frame) => toMessage(Buffer.from(JSON.stringify(frame))));
  const messages = sent.filter((message) => message !== null);
  expect(messages.map(({ isLast }) => isLast)).toEqual([false, false, true]);
  const parsed = messages.map(({ bytes }) => {
    const [, event, id, data = "{}"] = /^event: (.*)\n(?:id: (.*)\n)?data: (.*)\n\n$/.exec(String(bytes)) ?? [];
    return { event, id, data: JSON.parse(data) };
  });
  expect(parsed).toEqual([
    { event: "message.posted", id: "7", data: { type: "message.posted", ...about, at: "now" } },
    { event: "growing", id: undefined, data: { ...about, text: "a\nb", offset: 3 } },
    { event: "unsubscribed", id: undefined, data: { room_id: "room_0", reason: "left" } },
  ]);
});
