// Clients and keys over HTTP: registering, what a client sees of itself, rotating secrets and keys.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isApiKey, makeApiKey } from "../../../src/api/api-keys.ts";
import { type Api, apiOf, newClient } from "../../e2e/support/api.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const anonymous = (): Api => apiOf(server.url, undefined as never);

describe("registering", () => {
  test("shows key and secret once", async () => {
    const made = await anonymous().post("/clients", { name: "My App" });
    expect(made.status).toBe(201);
    expect(made.body).toEqual({
      id: expect.stringMatching(/^cli_[0-9a-z]{26}$/),
      name: "My App",
      description: null,
      api_key: expect.stringMatching(/^ck_[0-9A-Za-z]{49}$/),
      webhook_secret: expect.stringMatching(/^whsec_[A-Za-z0-9+/]{43}=$/),
      created_at: expect.stringMatching(TIME),
    });
  });
});
