// The AsyncAPI document: valid by AsyncAPI's own schema, complete, with examples that hold; and what strays from it is found.
import schema from "@asyncapi/specs/schemas/3.1.0-without-$id.json" with { type: "json" };
import { Ajv } from "ajv";
import { describe, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { asyncApiDocument } from "../../../src/api/http/asyncapi.ts";
import { CLOSE, SOCKET_ERROR_CODES } from "../../../src/contract/errors.ts";
import { CLIENT_FRAME_DOCS, SERVER_FRAME_DOCS } from "../../../src/contract/frame-docs.ts";
import { CLIENT_FRAMES, ServerFrameSchema, scopeOfFrame } from "../../../src/contract/frames.ts";
import type { Body } from "../../e2e/support/api.ts";
import { FrameCheck } from "../../support/frame-check.ts";
import { violations } from "../../support/frame-violations.ts";
import { SocketClient } from "../../support/socket-client.ts";

const document: Body = asyncApiDocument("https://chat.acme.test/chat/");
const { messages } = document.components;
const clientTypes = Object.keys(CLIENT_FRAMES);
const serverTypes = ServerFrameSchema.options.map(({ shape }) => shape.type.value);

/** Those that sockets are told. */
const eventTypes = ServerFrameSchema.options.flatMap(({ shape }) => ("event" in shape ? shape.event.options : []));

const ajv = () => new Ajv({ strict: false, allErrors: true, validateFormats: false });

describe("the document", () => {
  test("is valid AsyncAPI 3.1 by the schema of its makers, which finds a fault in one that is not", () => {
    const validate = ajv().compile(schema);
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
    const { ping, ...others } = document.operations;
    expect(validate({ ...document, operations: { ...others, ping: { ...ping, action: "answer" } } })).toBe(false);
    expect(validate({ ...document, servers: { default: {} } })).toBe(false);
  });

  test("has every frame of either side and every event of rooms, once, and nothing else", () => {
    const wanted = [
      ...clientTypes.map((type) => `client.${type}`),
      ...serverTypes.filter((type) => type !== "event").map((type) => `server.${type}`),
      ...eventTypes.map((type) => `event.${type}`),
    ];
    expect(Object.keys(messages).toSorted()).toEqual(wanted.toSorted());
    expect(Object.keys(document.channels.socket.messages).toSorted()).toEqual(wanted.toSorted());
  });

  test("receives each frame of a client with its scope and its answers, and sends all others", () => {
    const { push, ...received } = document.operations;
    expect(Object.keys(received).toSorted()).toEqual(clientTypes.toSorted());
    for (const [type, operation] of Object.entries<Body>(received)) {
      expect(operation.action).toBe("receive");
      expect(operation.messages).toEqual([{ $ref: `#/channels/socket/messages/client.${type}` }]);
      expect(operation["x-scope"] ?? null).toBe(scopeOfFrame(type));
      expect(operation.reply.messages.at(-1)).toEqual({ $ref: "#/channels/socket/messages/server.error" });
      expect(operation.reply.messages.length).toBeGreaterThan(1);
    }
    expect(push.action).toBe("send");
    const sent = Object.keys(messages).filter((id) => !id.startsWith("client."));
    expect(push.messages.map(({ $ref }: Body) => $ref.split("/").at(-1)).toSorted()).toEqual(sent.toSorted());
  });

  test("refers to nothing that is not there", () => {
    const targets = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, target = ""]) => target);
    expect(targets.length).toBeGreaterThan(100);
    for (const target of new Set(targets)) {
      const steps = target.slice(2).split("/");
      expect(
        steps.reduce((node: Body, step) => node?.[step], document),
        target,
      ).toBeDefined();
    }
  });

  test("describes every message, with examples that its own payload and the server's schemas take", () => {
    const check = ajv();
    check.addSchema({ ...document, $id: "document" });
    expect(clientTypes.filter((type) => CLIENT_FRAME_DOCS[type] === undefined)).toEqual([]);
    expect(serverTypes.filter((type) => type !== "event" && SERVER_FRAME_DOCS[type] === undefined)).toEqual([]);
    for (const [id, { name, description, examples }] of Object.entries<Body>(messages)) {
      expect(description, id).toMatch(/^[A-Z].*\.$/s);
      const validate = check.compile({ $ref: `document#/components/messages/${id}/payload` });
      expect(examples.length, id).toBeGreaterThan(0);
      for (const { payload } of examples) {
        expect(payload.type).toBe(name);
        expect(validate(payload), `${id}: ${JSON.stringify(validate.errors)}`).toBe(true);
        const own = id.startsWith("client.") ? CLIENT_FRAMES[name as keyof typeof CLIENT_FRAMES] : ServerFrameSchema;
        expect(own.safeParse(payload).error?.issues ?? [], id).toEqual([]);
      }
    }
  });

  test("says what each error code and each close code means", () => {
    const codes = messages["server.error"]["x-error-codes"];
    expect(Object.keys(codes).toSorted()).toEqual([...SOCKET_ERROR_CODES].toSorted());
    expect(messages["server.error"].payload.properties.code.enum.toSorted()).toEqual(
      [...SOCKET_ERROR_CODES].toSorted(),
    );
    const closes: readonly Body[] = document.channels.socket["x-close-codes"];
    expect(closes.map(({ code }) => code).toSorted()).toEqual(Object.values(CLOSE).toSorted());
    for (const { code, reconnect } of closes) {
      expect(reconnect).toBe(code < 4_500);
      expect(document.channels.socket.description).toContain(`- ${code} `);
    }
  });

  test("says where the server is: at PUBLIC_URL, else where it listens by default", () => {
    expect(document.servers.default).toMatchObject({ host: "chat.acme.test", protocol: "wss", pathname: "/chat" });
    const local: Body = asyncApiDocument(undefined);
    expect(local.servers.default).toMatchObject({ host: "localhost:8000", protocol: "ws" });
    expect(local.servers.default.pathname).toBeUndefined();
  });
});

describe("a frame that strays from the document", () => {
  /** What is found, and is not to fail this test. */
  const found = () => violations.splice(0);

  test("of the server, fails the test of whoever receives it", async () => {
    const strays = [
      ["a type that it does not have", { type: "greeting" }],
      ["a member too few", { type: "subscribed", room_id: "room_1" }],
      ["a member too many", { type: "heartbeat", at: "now" }],
      [
        "an event of an unknown type",
        { ...messages["event.message.posted"].examples[0].payload, event: "room.painted" },
      ],
      [
        "an event whose data is another's",
        { ...messages["event.message.posted"].examples[0].payload, data: { id: 1 } },
      ],
    ] as const;
    await using server = await listening(strays.map(([, frame]) => JSON.stringify(frame)));
    using client = new SocketClient(server.url);
    await client.until(() => client.frames.length === strays.length);
    expect(found()).toHaveLength(strays.length);
    new FrameCheck().received(JSON.stringify(messages["event.message.posted"].examples[0].payload));
    expect(found()).toEqual([]);
  });

  test("of the client, fails it when the server takes it, or when the server does not know what the document has", () => {
    const answered = (frame: object, answer: object) => {
      const check = new FrameCheck();
      check.sent(JSON.stringify({ ...frame, ref: "1" }));
      check.received(JSON.stringify({ ...answer, ref: "1" }));
      return found().length;
    };
    const error = (code: string) => ({ type: "error", code, message: "no" });
    const right = { type: "read", room_id: "room_1", seq: 1 };
    const wrong = { ...right, seq: -1 };
    expect(answered(right, { type: "ok" })).toBe(0);
    expect(answered(right, error("not_a_member"))).toBe(0);
    expect(answered(right, error("unknown_type"))).toBe(1);
    expect(answered(wrong, error("validation_failed"))).toBe(0);
    expect(answered(wrong, { type: "ok" })).toBe(1);
    expect(answered({ type: "dance" }, { type: "ok" })).toBe(1);
    expect(answered({ type: "dance" }, error("unknown_type"))).toBe(0);
  });
});

/** A server that sends these frames to whoever connects. */
async function listening(frames: readonly string[]) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  server.on("connection", (socket) => {
    for (const frame of frames) socket.send(frame);
  });
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    url: `ws://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of server.clients) socket.terminate();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
