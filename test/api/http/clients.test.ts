// Clients and keys over HTTP: registering, what a client sees of itself, rotating secrets and keys.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isApiKey } from "../../../src/app/credentials.ts";
import { ALL_SCOPES } from "../../../src/contract/fields.ts";
import { apiOf, type Body, newClient, until } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const faultsOf = (body: Body) => body.errors.map(({ path, code }: Body) => `${path} ${code}`).toSorted();

describe("registering", () => {
  test("shows key and secret once", async () => {
    const made = await apiOf(server.url).post("/clients", { name: "My App" });
    expect(made.status).toBe(201);
    expect(made.body).toEqual({
      id: expect.stringMatching(/^cli_[0-9a-z]{26}$/),
      name: "My App",
      description: null,
      api_key: expect.stringMatching(/^ck_[0-9A-Za-z]{49}$/),
      webhook_secret: expect.stringMatching(/^whsec_[A-Za-z0-9+/]{43}=$/),
      created_at: expect.stringMatching(TIME),
    });
    expect(made.headers.get("location")).toBe("/api/v1/clients/me");
    expect(made.headers.get("position")).toBeTruthy();
    expect(isApiKey(made.body.api_key)).toBe(true);
  });

  test("gives each its own, also under one name and one Idempotency-Key, which is ignored where it is open", async () => {
    const headers = { "idempotency-key": "one" };
    const [a, b] = await Promise.all([
      apiOf(server.url).post("/clients", { name: "Same" }, headers),
      apiOf(server.url).post("/clients", { name: "Same" }, headers),
    ]);
    expect(a.status + b.status).toBe(402);
    expect(a.body.id).not.toBe(b.body.id);
    expect(a.body.api_key).not.toBe(b.body.api_key);
    expect(b.headers.get("idempotent-replayed")).toBeNull();
  });

  test("takes a key that works at once", async () => {
    for (let round = 0; round < 5; round += 1) {
      const api = await newClient(server.url);
      expect((await api.get("/clients/me")).status).toBe(200);
    }
  });

  test("names every fault", async () => {
    const anybody = apiOf(server.url);
    const faults = async (body: unknown) => faultsOf((await anybody.post("/clients", body)).body);
    expect(await faults({})).toEqual(["name required"]);
    expect(await faults({ name: null })).toEqual(["name wrong_type"]);
    expect(await faults({ name: "" })).toEqual(["name too_short"]);
    expect(await faults({ name: "x".repeat(201) })).toEqual(["name too_long"]);
    expect(await faults({ name: 5, description: "x".repeat(2_001), nmae: "x" })).toEqual([
      "description too_long",
      "name wrong_type",
      "nmae unknown_field",
    ]);
    const answer = await anybody.post("/clients", { nam: "x" });
    expect(answer.body.errors.find(({ path }: Body) => path === "nam").message).toContain("name");
    expect((await anybody.post("/clients", { name: "😀".repeat(200), description: null })).status).toBe(201);
    expect(await faults({ name: "😀".repeat(201) })).toEqual(["name too_long"]);
  });
});

describe("a client", () => {
  test("sees itself and the key that asks", async () => {
    const api = await newClient(server.url, "Mine");
    expect((await api.get("/clients/me")).body).toEqual({
      id: api.id,
      name: "Mine",
      description: null,
      policy: { users_create_rooms: true, users_add_members: true, users_join_public_rooms: true },
      mode: "development",
      email: { configured: false, providers: [] },
      key: {
        id: expect.stringMatching(/^key_[0-9a-z]{26}$/),
        name: "default",
        last4: api.key?.slice(-4),
        scopes: [...ALL_SCOPES],
        created_at: expect.stringMatching(TIME),
        expires_at: null,
        last_used_at: expect.stringMatching(/:00:00\.000Z$/),
      },
      created_at: expect.stringMatching(TIME),
    });
  });

  test("changes what it names, and nothing else; the same again writes nothing", async () => {
    const api = await newClient(server.url, "Old");
    const described = await api.patch("/clients/me", { description: "What it does" });
    expect([described.status, described.body.name, described.body.description]).toEqual([200, "Old", "What it does"]);
    const renamed = await api.patch("/clients/me", { name: "New" });
    expect([renamed.body.name, renamed.body.description]).toEqual(["New", "What it does"]);
    const tail = await server.services.store.tail();
    const again = await api.patch("/clients/me", { name: "New" });
    expect(again.body).toEqual(renamed.body);
    expect(await server.services.store.tail()).toBe(tail);
    expect((await api.patch("/clients/me", { description: null })).body.description).toBeNull();
    expect((await api.patch("/clients/me", {})).status).toBe(200);
    expect(faultsOf((await api.patch("/clients/me", { name: null })).body)).toEqual(["name wrong_type"]);
    expect((await api.get("/clients/me")).body).toMatchObject({ name: "New", description: null });
  });
});

describe("the webhook secret", () => {
  test("is read, and rotated with a grace in which both sign", async () => {
    const api = await newClient(server.url);
    expect((await api.get("/clients/me/webhook-secret")).body).toEqual({ webhook_secret: api.secret, previous: null });
    const before = Date.now();
    const rotated = await api.post("/clients/me/webhook-secret/rotate", { grace_seconds: 60 });
    expect(rotated.status).toBe(200);
    expect(rotated.body.webhook_secret).not.toBe(api.secret);
    expect(rotated.body.previous.webhook_secret).toBe(api.secret);
    expect(Date.parse(rotated.body.previous.expires_at) - before).toBeGreaterThanOrEqual(60_000);
    expect((await api.get("/clients/me/webhook-secret")).body).toEqual(rotated.body);
    const ended = await api.post("/clients/me/webhook-secret/rotate", { grace_seconds: 0 });
    expect(ended.body.previous).toBeNull();
  });

  test("takes a grace of up to seven days", async () => {
    const api = await newClient(server.url);
    const faults = async (grace_seconds: unknown) =>
      faultsOf((await api.post("/clients/me/webhook-secret/rotate", { grace_seconds })).body);
    expect(await faults(-1)).toEqual(["grace_seconds too_small"]);
    expect(await faults(604_801)).toEqual(["grace_seconds too_large"]);
    expect(await faults(1.5)).toEqual(["grace_seconds wrong_type"]);
    expect(await faults("60")).toEqual(["grace_seconds wrong_type"]);
    expect(await faults(1e300)).toEqual(["grace_seconds too_large"]);
    expect((await api.post("/clients/me/webhook-secret/rotate")).status).toBe(200);
  });
});

describe("rotating a key", () => {
  test("gives another; the old one works until the grace ends", async () => {
    const api = await newClient(server.url);
    const { body: me } = await api.get("/clients/me");
    const rotated = await api.post(`/clients/me/keys/${me.key.id}/rotate`, { grace_seconds: 600 });
    expect(rotated.status).toBe(200);
    expect(rotated.body).toEqual({
      id: expect.stringMatching(/^key_/),
      name: "default",
      api_key: expect.stringMatching(/^ck_/),
      last4: rotated.body.api_key.slice(-4),
      scopes: [...ALL_SCOPES],
      last_used_at: null,
      created_at: expect.stringMatching(TIME),
      expires_at: null,
      previous: { id: me.key.id, expires_at: expect.stringMatching(TIME) },
    });
    expect((await api.get("/clients/me")).status).toBe(200);
    expect((await api.as(rotated.body.api_key).get("/clients/me")).body.key.id).toBe(rotated.body.id);
  });

  test("without a grace ends the old one within a second", async () => {
    const api = await newClient(server.url);
    const { body: me } = await api.get("/clients/me");
    const { body: rotated } = await api.post(`/clients/me/keys/${me.key.id}/rotate`, { grace_seconds: 0 });
    const refused = await until(
      () => api.get("/clients/me"),
      ({ status }) => status === 401,
      10_000,
    );
    expect([refused.status, refused.body.code]).toEqual([401, "key_expired"]);
    expect((await api.as(rotated.api_key).get("/clients/me")).status).toBe(200);
    expect((await api.as(rotated.api_key).post(`/clients/me/keys/${me.key.id}/rotate`)).status).toBe(404);
  });

  test("is replayed without showing the key again", async () => {
    const api = await newClient(server.url);
    const { body: me } = await api.get("/clients/me");
    const path = `/clients/me/keys/${me.key.id}/rotate`;
    const first = await api.post(path, { grace_seconds: 600 }, { "idempotency-key": "rotate" });
    const again = await api.post(path, { grace_seconds: 600 }, { "idempotency-key": '"rotate"' });
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect(again.body).toEqual({ ...first.body, api_key: null });
  });

  test("of another client's key is as of an unknown one", async () => {
    const [mine, other] = [await newClient(server.url), await newClient(server.url)];
    const { body: theirs } = await other.get("/clients/me");
    const path = (id: string) => `/clients/me/keys/${id}/rotate`;
    const foreign = await mine.post(path(theirs.key.id), {});
    const unknown = await mine.post(path("key_00000000000000000000000000"), {});
    const damaged = await mine.post(path("nonsense"), {});
    for (const answer of [foreign, unknown, damaged]) {
      expect([answer.status, { ...answer.body, request_id: "" }]).toEqual([404, { ...foreign.body, request_id: "" }]);
    }
    expect((await other.get("/clients/me")).status).toBe(200);
  });
});
