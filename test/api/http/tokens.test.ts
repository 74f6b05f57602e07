// Tokens of users over HTTP: minting, expiring, revoking, and what is no token.

import { decodeJwt, decodeProtectedHeader, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ALL_SCOPES } from "../../../src/contract/fields.ts";
import { type Api, type Body, newClient, tokenOf, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api & { readonly id: string };
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
});
afterAll(() => server[Symbol.asyncDispose]());

const faultsOf = (body: Body) => body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted();
const refused = (as: Api) =>
  until(
    () => as.get("/users/alice"),
    ({ status }) => status === 401,
    10_000,
  );

describe("minting", () => {
  test("gives a JWT of the user, and makes the user", async () => {
    const before = Math.floor(Date.now() / 1_000);
    const { status, body } = await api.post("/users/new.user/tokens", {});
    expect(status).toBe(201);
    expect(Object.keys(body)).toEqual(["token", "expires_at"]);
    expect(decodeProtectedHeader(body.token)).toEqual({ alg: "HS256", typ: "JWT" });
    const claims = decodeJwt(body.token);
    expect(claims).toMatchObject({ sub: "new.user", cid: api.id, iss: "chatapi", aud: "chatapi:user" });
    expect(claims.jti).toBeTruthy();
    expect(claims.iat).toBeGreaterThanOrEqual(before);
    expect(Number(claims.exp) - Number(claims.iat)).toBe(3_600);
    expect(Date.parse(body.expires_at)).toBe(Number(claims.exp) * 1_000);
    expect((await api.get("/users/new.user")).body).toMatchObject({ id: "new.user", name: null });
    expect((await api.as(body.token).get("/users/new.user")).status).toBe(200);
  });

  test("takes 60 s to a day", async () => {
    const faults = async (body: unknown) => faultsOf((await api.post("/users/alice/tokens", body)).body);
    expect(await faults({ ttl_seconds: 59 })).toEqual(["ttl_seconds too_small"]);
    expect(await faults({ ttl_seconds: 86_401 })).toEqual(["ttl_seconds too_large"]);
    expect(await faults({ revoke_previous: "yes", ttl: 60 })).toEqual([
      "revoke_previous wrong_type",
      "ttl unknown_field",
    ]);
    for (const ttl_seconds of [60, 86_400]) {
      const { body } = await api.post("/users/alice/tokens", { ttl_seconds });
      const { exp, iat } = decodeJwt(body.token);
      expect(Number(exp) - Number(iat)).toBe(ttl_seconds);
    }
  });

  test("is replayed with a token of its own that holds, also when the first was revoked meanwhile", async () => {
    const headers = { "idempotency-key": "mint" };
    const first = await api.post("/users/replayed/tokens", {}, headers);
    const events = async () => (await api.get("/audit/events?limit=100")).body.data.length;
    const count = await events();
    const again = await api.post("/users/replayed/tokens", {}, headers);
    expect([again.status, again.headers.get("idempotent-replayed")]).toEqual([201, "true"]);
    expect((await api.as(again.body.token).get("/users/replayed")).status).toBe(200);
    expect(await events()).toBe(count);
    await api.delete("/users/replayed/tokens");
    const renewed = await api.post("/users/replayed/tokens", {}, headers);
    const own = api.as(renewed.body.token);
    expect((await own.get("/users/replayed")).status).toBe(200);
    await api.delete("/users/replayed/tokens");
    const gone = await until(
      () => own.get("/users/replayed"),
      ({ status }) => status === 401,
      10_000,
    );
    expect(gone.status).toBe(401);
    expect(first.status).toBe(201);
  });
});

describe("a token ends", () => {
  test("when all are revoked, within a second; later ones hold", async () => {
    const old = api.as(await tokenOf(api, "alice"));
    expect((await old.get("/users/alice")).status).toBe(200);
    const revoked = await api.delete("/users/alice/tokens");
    expect([revoked.status, revoked.body]).toEqual([204, undefined]);
    expect(revoked.headers.get("position")).toBeTruthy();
    const answer = await refused(old);
    expect([answer.status, answer.body.code]).toEqual([401, "unauthenticated"]);
    expect((await api.as(await tokenOf(api, "alice")).get("/users/alice")).status).toBe(200);
  });

  test("when a newer one revokes what came before", async () => {
    const old = api.as(await tokenOf(api, "alice"));
    const { body } = await api.post("/users/alice/tokens", { revoke_previous: true });
    expect((await refused(old)).status).toBe(401);
    expect((await api.as(body.token).get("/users/alice")).status).toBe(200);
  });

  test("when its time is over", async () => {
    const { tokens, keyring } = server.services;
    const subject = await keyring.subjectOfUser(api.id as `cli_${string}`, "alice");
    const now = Date.now() - 120_000;
    const request = {
      client: api.id as `cli_${string}`,
      subject,
      userId: "alice",
      generation: 99,
      scopes: ALL_SCOPES,
      jti: "x",
    };
    const { token } = await tokens.mint({ ...request, ttlSeconds: 60, now });
    const answer = await api.as(token).get("/users/alice");
    expect([answer.status, answer.body.code, answer.headers.get("www-authenticate")]).toEqual([
      401,
      "token_expired",
      "Bearer",
    ]);
  });

  test("revoking those of a user that is not known changes nothing", async () => {
    const tail = await server.services.store.tail();
    expect((await api.delete("/users/nobody/tokens")).status).toBe(204);
    expect(await server.services.store.tail()).toBe(tail);
  });
});

test("a token that somebody else made is none", async () => {
  const claims = { cid: api.id, gen: 99 };
  const make = (secret: Uint8Array, alg = "HS256") =>
    new SignJWT(claims)
      .setProtectedHeader({ alg })
      .setIssuer("chatapi")
      .setAudience("chatapi:user")
      .setSubject("alice")
      .setExpirationTime("1h")
      .sign(secret);
  const right = await server.storage.keyring.serverSecret("tokens");
  const wrong = new Uint8Array(64).fill(1);
  const bare = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const payload = { ...claims, iss: "chatapi", aud: "chatapi:user", sub: "alice", exp: 4e9 };
  const unsigned = `${bare({ alg: "none" })}.${bare(payload)}.`;
  for (const token of [await make(wrong), await make(wrong, "HS512"), unsigned]) {
    const answer = await api.as(token).get("/users/alice");
    expect([answer.status, answer.body.code]).toEqual([401, "unauthenticated"]);
  }
  expect((await api.as(await make(right)).get("/users/alice")).status).toBe(200);
});
