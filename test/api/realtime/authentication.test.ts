// Coming in over WebSocket: by header, query or first frame; staying in; and being put out.

import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { identify } from "../../../src/app/authenticate.ts";
import { keyData, makeApiKey } from "../../../src/app/credentials.ts";
import { createLimits } from "../../../src/app/rate-limit.ts";
import { ALL_SCOPES } from "../../../src/contract/fields.ts";
import { clientDecider, clientStream } from "../../../src/domain/client.ts";
import { deriveTail } from "../../../src/event-store/derived-ids.ts";
import { contextOf } from "../../support/live.ts";
import { issueToken, type LiveServer, newClient, startLiveServer, type TestClient } from "../../support/live-server.ts";
import { SocketClient } from "../../support/socket-client.ts";

const limits = createLimits({ rateLimits: {} });
let server: LiveServer;
let client: TestClient;
beforeAll(async () => {
  server = await startLiveServer({ limits, timings: { authenticationMs: 1_000 } });
  client = await newClient(server);
});
afterAll(() => server[Symbol.asyncDispose]());

const tokenOf = async (user: string, options: Parameters<typeof issueToken>[3] = {}) =>
  (await issueToken(server, client.id, user, options)).token;

describe("coming in", () => {
  test("by header, by query and by a first frame, on both paths", async () => {
    const token = await tokenOf("ann");
    using header = new SocketClient(`${server.url}/ws`, { authorization: `Bearer ${token}` });
    using query = new SocketClient(`${server.url}/api/v1/ws?token=${token}`);
    using frame = new SocketClient(`${server.url}/ws/`);
    await frame.opened();
    frame.send({ type: "auth", token, ref: 7 });
    for (const socket of [header, query, frame]) {
      const welcome = await socket.next("welcome");
      expect(welcome).toMatchObject({ user_id: "ann", heartbeat_seconds: 25 });
      expect(welcome.connection_id).toMatch(/^conn_/);
    }
    expect(frame.frames[0]?.ref).toBe(7);
    expect(header.frames[0]).not.toHaveProperty("ref");
  });

  test("a key in the header may name a user; one in the query is refused, whoever it is", async () => {
    using named = await SocketClient.connect(server.url, client.key, "/ws?user_id=bob");
    expect(named.frames[0]).toMatchObject({ user_id: "bob" });
    using watching = await SocketClient.connect(server.url, client.key);
    expect(watching.frames[0]).toMatchObject({ user_id: null });
    using apiKey = new SocketClient(`${server.url}/ws?user_id=cat`, { "x-api-key": client.key });
    expect(await apiKey.next("welcome")).toMatchObject({ user_id: "cat" });
    using query = new SocketClient(`${server.url}/ws?token=${client.key}`);
    expect(await query.closed()).toBe(4501);
    using other = new SocketClient(`${server.url}/ws?user_id=bob`, { authorization: `Bearer ${await tokenOf("ann")}` });
    expect(await other.closed()).toBe(4503);
  });

  test("a key is looked up once, and its end is that of the socket", async () => {
    const lookUp = vi.spyOn(server.services.directory, "keyByHash");
    const given = { bearer: client.key, userId: undefined };
    expect(await identify(server.services, given, Date.now())).toMatchObject({ expiresAt: null });
    expect(await identify(server.services, { ...given, userId: "bob" }, Date.now())).toMatchObject({ expiresAt: null });
    expect(lookUp).toHaveBeenCalledTimes(2);
    lookUp.mockRestore();
  });

  test("what does not hold closes with 4501, and so does any other frame before", async () => {
    const wrong = ["nonsense", "ck_nonsense", `${client.key.slice(0, -1)}x`, makeApiKey(new Uint8Array(32))];
    for (const bearer of wrong) {
      using socket = new SocketClient(`${server.url}/ws`, { authorization: `Bearer ${bearer}` });
      expect([bearer, await socket.closed()]).toEqual([bearer, 4501]);
      expect(socket.frames).toEqual([]);
    }
    for (const frame of [{ type: "ping" }, { type: "dance" }, { type: "subscribe" }, { type: "auth", token: "x" }]) {
      using socket = new SocketClient(`${server.url}/ws`);
      await socket.opened();
      socket.send(frame);
      expect([frame, await socket.closed()]).toEqual([frame, 4501]);
    }
  });

  test("a first frame that is large or no valid `auth` is refused, and none after it is answered", async () => {
    const large = { type: "auth", token: "x".repeat(197_000) };
    for (const frame of [large, { type: "auth" }, { type: "auth", token: "x", more: 1 }]) {
      using socket = new SocketClient(`${server.url}/ws`);
      await socket.opened();
      for (let n = 0; n < 10; n += 1) socket.send(frame);
      expect(await socket.closed()).toBe(4501);
      expect(socket.frames).toEqual([]);
    }
    using padded = new SocketClient(`${server.url}/ws`);
    await padded.opened();
    padded.send(" ".repeat(5_000) + JSON.stringify({ type: "auth", token: await tokenOf("ann") }));
    expect(await padded.closed()).toBe(4501);
  });

  test("who says nothing is late", async () => {
    using socket = new SocketClient(`${server.url}/ws`);
    expect(await socket.closed()).toBe(4002);
  });

  test("a 21st socket of a user is one too many, until another is gone", async () => {
    const token = await tokenOf("crowd");
    using stack = new DisposableStack();
    const open = [];
    for (let n = 0; n < 20; n += 1) open.push(stack.use(await SocketClient.connect(server.url, token)));
    using extra = new SocketClient(`${server.url}/ws?token=${token}`);
    expect(await extra.closed()).toBe(4030);
    open[0]?.cut();
    const { subject } = await issueToken(server, client.id, "crowd");
    const place = () => limits.socketsByUser.take(subject);
    let free = place();
    while (free === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      free = place();
    }
    free[Symbol.dispose]();
    using again = await SocketClient.connect(server.url, token);
    expect(again.frames[0]).toMatchObject({ user_id: "crowd" });
  });
});

describe("staying in", () => {
  test("a token that expires closes with 4009; a newer one of the same user extends, another's ends it", async () => {
    const short = await tokenOf("dan", { ttlSeconds: 2 });
    using ends = await SocketClient.connect(server.url, short);
    using extended = await SocketClient.connect(server.url, short);
    const authenticated = await extended.ask({ type: "auth", token: await tokenOf("dan") });
    expect(authenticated).toEqual({ type: "authenticated", expires_at: expect.stringMatching(/^20.*Z$/) });
    expect(Date.parse(String(authenticated.expires_at))).toBeGreaterThan(Date.now() + 60_000);
    expect(await ends.closed()).toBe(4009);
    expect(await extended.ask({ type: "ping" })).toEqual({ type: "pong" });
    extended.send({ type: "auth", token: await tokenOf("eve") });
    expect(await extended.closed()).toBe(4503);
    using expired = new SocketClient(`${server.url}/ws?token=${short}`);
    expect(await expired.closed()).toBe(4501);
  });

  test("revoked tokens close with 4501, those of others stay", async () => {
    const old = await tokenOf("fay");
    using revoked = await SocketClient.connect(server.url, old);
    using again = await SocketClient.connect(server.url, old);
    using other = await SocketClient.connect(server.url, await tokenOf("gus"));
    const renewed = await tokenOf("fay", { revokePrevious: true });
    expect(await revoked.closed()).toBe(4501);
    expect(await again.closed()).toBe(4501);
    using fresh = await SocketClient.connect(server.url, renewed);
    expect(fresh.frames[0]).toMatchObject({ user_id: "fay" });
    expect(await other.ask({ type: "ping" })).toEqual({ type: "pong" });
  });

  test("a rotated key's sockets close with 4009 when its grace ends", async () => {
    const own = await newClient(server);
    using observer = await SocketClient.connect(server.url, own.key);
    using user = await SocketClient.connect(server.url, own.key, "/ws?user_id=hal");
    const { name: _name, ...key } = keyData(`key_${deriveTail("next", own.id)}`, "", makeApiKey(Buffer.alloc(32, 7)));
    const rotate = {
      type: "RotateKey",
      at: Date.now(),
      old: own.keyId,
      key,
      graceMs: 1_000,
      granter: ALL_SCOPES,
    } as const;
    await server.services.commands.execute(clientDecider, clientStream(own.id), rotate, contextOf(own.id));
    expect(await observer.ask({ type: "ping" })).toEqual({ type: "pong" });
    expect(await observer.closed()).toBe(4009);
    expect(await user.closed()).toBe(4009);
    expect(Date.now() - rotate.at).toBeGreaterThanOrEqual(1_000);
    using late = new SocketClient(`${server.url}/ws`, { authorization: `Bearer ${own.key}` });
    expect(await late.closed()).toBe(4501);
  });
});
