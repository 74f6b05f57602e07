// API keys on two nodes: what a key without a scope is refused, who makes keys, and how they end.
import { decodeJwt } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Route } from "../../../src/api/http/route.ts";
import { routes } from "../../../src/api/http/routes/routes.ts";
import { keyData, makeApiKey } from "../../../src/app/credentials.ts";
import { ALL_SCOPES, type Scope } from "../../../src/contract/fields.ts";
import { CLIENT_FRAMES, scopeOfFrame } from "../../../src/contract/frames.ts";
import type { ClientId } from "../../../src/contract/ids.ts";
import { clientDecider, clientStream } from "../../../src/domain/client.ts";
import { type Api, type Body, until } from "../../e2e/support/api.ts";
import { SCENES } from "../../faults/support/tenant-scenes.ts";
import { contextOf, registerClient } from "../../support/live.ts";
import { SocketClient } from "../../support/socket-client.ts";
import { startTwoServers, type TwoServers } from "../../support/two-servers.ts";

let nodes: TwoServers;
let api: Api;
let other: Api;
beforeAll(async () => {
  nodes = await startTwoServers();
});
afterAll(() => nodes[Symbol.asyncDispose]());

/** A client of its own, on both nodes. */
const begin = async () => {
  [api, other] = await nodes.newClient();
};
const keys = (body: Body, headers?: Record<string, string>) => api.post("/clients/me/keys", body, headers);
const keyWith = async (...scopes: Scope[]): Promise<{ readonly id: string; readonly own: Api }> => {
  const { status, body } = await keys({ name: "test", scopes });
  expect(status).toBe(201);
  return { id: body.id, own: api.as(body.api_key) };
};
const faultsOf = (body: Body) => body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted();
const socketOf = ({ url }: Api, bearer: string, path?: string) =>
  SocketClient.connect(url.replace("http", "ws"), bearer, path);

describe("a key without a scope", () => {
  const scoped = routes.flatMap((route) =>
    route.access.kind === "registration" || route.access.scope === null ? [] : [[route, route.access.scope] as const],
  );
  /** Refused before its path or body is looked at. */
  const call = (as: Api, { method, path }: Route) =>
    as.call(method, path.replaceAll(/:[a-z_]+/g, "x"), SCENES[`${method} ${path}`]?.body);

  test("is refused by every route that needs it, which names it, and so is a token that it minted", async () => {
    await begin();
    expect(scoped.length).toBeGreaterThan(40);
    expect(routes.filter((one) => !scoped.some(([route]) => route === one)).map((one) => one.operation)).toEqual([
      "registerClient",
      "getClient",
      "createTicket",
    ]);
    const tail = () => nodes.first.storage.store.tail();
    for (const scope of ALL_SCOPES) {
      const { own } = await keyWith(...[...ALL_SCOPES].filter((one) => one !== scope));
      const minted = scope === "users:manage" ? undefined : await own.post("/users/ann/tokens");
      const before = await tail();
      for (const [route, needed] of scoped.filter(([, one]) => one === scope)) {
        const answer = await call(own, route);
        const name = `${route.method} ${route.path}`;
        expect([name, answer.status, answer.body.code]).toEqual([name, 403, "insufficient_scope"]);
        expect(answer.body.detail, name).toContain(needed);
        if (minted === undefined || route.access.kind === "key") continue;
        const ofUser = await call(api.as(minted.body.token), route);
        expect([name, ofUser.status, ofUser.body.code]).toEqual([name, 403, "insufficient_scope"]);
        expect(ofUser.body.detail, name).toContain(needed);
      }
      expect(await tail()).toBe(before);
    }
  });

  test("is refused by every frame that needs it, and so is a token that it minted", async () => {
    await begin();
    const frames = Object.keys(CLIENT_FRAMES);
    const without = frames.filter((type) => scopeOfFrame(type) === null);
    expect(without).toEqual(["auth", "unsubscribe", "unfollow", "ping"]);
    const tail = () => nodes.first.storage.store.tail();
    for (const scope of new Set(frames.map(scopeOfFrame))) {
      if (scope === null) continue;
      const { own } = await keyWith(...[...ALL_SCOPES].filter((one) => one !== scope));
      const token = (await own.post("/users/ann/tokens")).body.token;
      using ofToken = await socketOf(api, token);
      using ofKey = await socketOf(api, own.key ?? "", "/ws?user_id=ann");
      const before = await tail();
      for (const type of frames.filter((one) => scopeOfFrame(one) === scope)) {
        for (const socket of [ofToken, ofKey]) {
          // Refused before its fields are looked at.
          const { code, message } = await socket.ask({ type });
          expect([type, code]).toEqual([type, "insufficient_scope"]);
          expect(message).toContain(scope);
        }
      }
      expect(await tail()).toBe(before);
    }
  });

  test("may all else", async () => {
    await begin();
    const { own } = await keyWith("rooms:read", "rooms:write");
    expect((await own.post("/rooms", { name: "Mine" })).status).toBe(201);
    expect((await own.get("/rooms")).body.data).toHaveLength(1);
    const me = await own.get("/clients/me");
    expect(me.body.key).toMatchObject({ name: "test", scopes: ["rooms:read", "rooms:write"] });
  });

  test("is refused by frames that need it, and is pushed no notifications", async () => {
    await begin();
    const { body: room } = await api.post("/rooms", { name: "Room", members: [{ user_id: "ann" }] });
    const read = { type: "read", room_id: room.id, seq: 1 };
    const frames = { subscribe: { type: "subscribe", room_id: room.id }, read };
    const { own: mute } = await keyWith("users:manage", "rooms:read", "rooms:write");
    const { own: reader } = await keyWith("users:manage", "messages:read", "notifications:read");
    const token = async (as: Api) => (await as.post("/users/ann/tokens")).body.token;
    expect(decodeJwt(await token(mute)).scope).toBe("users:manage rooms:read rooms:write");
    expect(decodeJwt(await token(api)).scope).toBeUndefined();
    using deaf = await socketOf(api, await token(mute));
    using named = await socketOf(api, mute.key ?? "", "/ws?user_id=ann");
    using hears = await socketOf(api, await token(reader));
    await api.post("/notifications", { type: "websocket", user_ids: ["ann"], content: "Hello" });
    const { delivery_id } = await hears.next("notification");
    for (const socket of [deaf, named]) {
      for (const frame of [frames.subscribe, frames.read, { type: "ack", delivery_id }]) {
        const scope = frame.type === "ack" ? "notifications:read" : "messages:read";
        expect(await socket.ask(frame)).toMatchObject({ type: "error", code: "insufficient_scope" });
        expect((await socket.ask(frame)).message).toContain(scope);
      }
      expect(await socket.ask({ type: "ping" })).toEqual({ type: "pong" });
      expect(socket.of("notification")).toEqual([]);
    }
    for (const frame of [frames.subscribe, frames.read, { type: "ack", delivery_id }]) {
      expect((await hears.ask(frame)).type).not.toBe("error");
    }
    // A connection is not extended by what allows less.
    hears.send({ type: "auth", token: await token(mute) });
    expect(await hears.closed()).toBe(4503);
  });
});

describe("making keys", () => {
  test("shows the key once, on no list and in no replay", async () => {
    await begin();
    const expires_at = new Date(Date.now() + 86_400_000).toISOString();
    const body = { name: "Reports", scopes: ["audit:read"], expires_at };
    const made = await keys(body, { "idempotency-key": "k1" });
    const { api_key, ...shown } = made.body;
    expect([made.status, made.headers.get("location")]).toEqual([201, `/api/v1/clients/me/keys/${shown.id}`]);
    expect(api_key).toMatch(/^ck_[0-9A-Za-z]{49}$/);
    expect(shown).toEqual({
      ...body,
      id: expect.stringMatching(/^key_[0-9a-z]{26}$/),
      last4: api_key.slice(-4),
      created_at: expect.any(String),
      last_used_at: null,
    });
    const again = await keys(body, { "idempotency-key": "k1" });
    expect([again.status, again.headers.get("idempotent-replayed")]).toEqual([201, "true"]);
    expect(again.body).toEqual({ ...shown, api_key: null });
    const list = await api.get("/clients/me/keys");
    expect(list.body).toMatchObject({ data: [shown, { name: "default", scopes: [...ALL_SCOPES] }], next_cursor: null });
    expect((await api.get(`/clients/me/keys/${shown.id}`)).body).toEqual(shown);
    expect(JSON.stringify(list.body)).not.toContain(api_key);
    expect((await other.as(api_key).get("/audit/events")).status).toBe(200);
  });

  test("names every fault", async () => {
    await begin();
    const soon = new Date(Date.now() + 30_000).toISOString();
    const { body } = await keys({ scopes: ["rooms:read", "rooms:fly"], expires_at: soon });
    expect(faultsOf(body)).toEqual(["expires_at too_small", "name required", "scopes.1 not_allowed"]);
    expect(faultsOf((await keys({ name: "x", scopes: [] })).body)).toEqual(["scopes too_short"]);
    const twice = await keys({ name: "x", scopes: ["rooms:read", "rooms:read"] });
    expect(faultsOf(twice.body)).toEqual(["scopes not_allowed"]);
    expect(faultsOf((await keys({ name: "x", scopes: ["rooms:read"], expires_at: soon })).body)).toEqual([
      "expires_at too_small",
    ]);
  });

  test("grants no scope that the caller lacks, neither new nor by rotation", async () => {
    await begin();
    const { own } = await keyWith("keys:manage", "rooms:read");
    const refused = await own.post("/clients/me/keys", { name: "more", scopes: ["rooms:read", "rooms:write"] });
    expect([refused.status, refused.body.code]).toEqual([403, "insufficient_scope"]);
    expect(refused.body.detail).toContain("rooms:write");
    expect(refused.body.detail).not.toContain("rooms:read");
    const first = (await api.get("/clients/me")).body.key.id;
    const rotated = await own.post(`/clients/me/keys/${first}/rotate`, {});
    expect([rotated.status, rotated.body.code]).toEqual([403, "insufficient_scope"]);
    expect((await own.post("/clients/me/keys", { name: "same", scopes: ["rooms:read"] })).status).toBe(201);
  });
});

describe("a key ends", () => {
  /** Its sockets on both nodes. */
  const sockets = async (bearer: string) => [
    await socketOf(api, bearer),
    await socketOf(other, bearer, "/ws?user_id=ann"),
  ];
  const closed = (open: readonly SocketClient[]) => Promise.all(open.map((one) => one.closed()));
  const refused = (as: Api) =>
    until(
      () => as.get("/clients/me"),
      ({ status }) => status === 401,
    );

  test("when it is deleted: on both nodes, and its sockets close with 4501", async () => {
    await begin();
    const { id, own } = await keyWith("messages:read", "notifications:read");
    const key = own.key ?? "";
    expect((await other.as(key).get("/clients/me")).status).toBe(200);
    const open = await sockets(key);
    expect((await api.delete(`/clients/me/keys/${id}`)).status).toBe(204);
    expect(await closed(open)).toEqual([4501, 4501]);
    for (const node of [api, other]) expect((await refused(node.as(key))).body.code).toBe("unauthenticated");
    for (const path of [`/clients/me/keys/${id}`, "/clients/me/keys/key_nonsense"]) {
      expect((await api.delete(path)).status).toBe(404);
    }
    expect((await api.get("/clients/me/keys")).body.data).toHaveLength(1);
    const late = new SocketClient(`${other.url.replace("http", "ws")}/ws`, { authorization: `Bearer ${key}` });
    expect(await late.closed()).toBe(4501);
  });

  test("when it expires: on both nodes, and its sockets close with 4009", async () => {
    const client: ClientId = "cli_expiring";
    const key = makeApiKey(crypto.getRandomValues(new Uint8Array(32)));
    // Made a minute before it ends, as the interface wants it.
    const at = Date.now() - 58_500;
    const { commands } = nodes.first.services;
    await registerClient({ commands }, client, "of another key", at);
    const about = {
      key: keyData("key_short", "short", key),
      scopes: ["messages:read"],
      expiresAt: at + 60_000,
    } as const;
    const command = { type: "CreateKey", at, ...about, granter: ALL_SCOPES } as const;
    await commands.execute(clientDecider, clientStream(client), command, contextOf(client));
    const open = await sockets(key);
    expect(await closed(open)).toEqual([4009, 4009]);
    for (const node of [api, other]) expect((await refused(node.as(key))).body.code).toBe("key_expired");
  });

  test("but not the last that manages keys and does not expire", async () => {
    await begin();
    const first = (await api.get("/clients/me")).body.key.id;
    await keyWith("rooms:read");
    const refused = await api.delete(`/clients/me/keys/${first}`);
    expect([refused.status, refused.body.code]).toEqual([409, "last_key"]);
    await keyWith("keys:manage");
    expect((await api.delete(`/clients/me/keys/${first}`)).status).toBe(204);
  });
});

test("the last use of a key is told to the hour, and recorded once", async () => {
  await begin();
  const { id, own } = await keyWith("rooms:read");
  const lastUsed = async (node: Api) => (await node.get(`/clients/me/keys/${id}`)).body.last_used_at;
  expect(await lastUsed(api)).toBeNull();
  await own.get("/rooms");
  await other.as(own.key ?? "").get("/rooms");
  const used = await lastUsed(api);
  expect(used).toMatch(/:00:00\.000Z$/);
  expect(Date.now() - Date.parse(used)).toBeLessThan(2 * 3_600_000);
  for (const node of [nodes.first, nodes.second]) await node.services.keyUse.record();
  for (const node of [nodes.first, nodes.second]) await node.services.keyUse.record();
  const { body } = await api.get(`/audit/streams/keyuse-${id}/events`, { "read-after": "none" });
  const events = body.data ?? [];
  expect(events.map(({ type, actor }: Body) => [type, actor.type])).toEqual([["KeyUsed", "system"]]);
  expect(await lastUsed(other)).toBe(used);
});
