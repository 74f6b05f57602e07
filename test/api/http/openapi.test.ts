// The OpenAPI document says what the server does; and each route lets in whom it declares, and nobody else.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NO_BODY, type Route } from "../../../src/api/http/route.ts";
import { routes } from "../../../src/api/http/routes/routes.ts";
import { PROBLEMS } from "../../../src/contract/errors.ts";
import { type Api, type Body, newClient, tokenOf } from "../../e2e/support/api.ts";
import { raw } from "../../support/raw.ts";
import { startTestServer, type TestServer } from "../../support/server.ts";

let server: TestServer;
let api: Api;
let token: string;
let document: Body;
beforeAll(async () => {
  server = await startTestServer();
  api = await newClient(server.url);
  token = await tokenOf(api, "alice");
  document = (await raw(server.url, "/openapi.json")).body;
});
afterAll(() => server[Symbol.asyncDispose]());

const named = routes.map((route): [string, Route] => [`${route.method} ${route.path}`, route]);
const templateOf = ({ path }: Route) => `/api/v1${path.replace(/:([a-z_]+)/g, "{$1}")}`;

describe("the document", () => {
  test("is OpenAPI 3.1 with every route once, and nothing else", () => {
    expect(document.openapi).toBe("3.1.0");
    const operations = Object.entries<Body>(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(operations.toSorted()).toEqual(routes.map((route) => `${route.method} ${templateOf(route)}`).toSorted());
    const ids = Object.values<Body>(document.paths).flatMap((methods) =>
      Object.values<Body>(methods).map(({ operationId }) => operationId),
    );
    expect(new Set(ids).size).toBe(routes.length);
    for (const path of Object.keys(document.paths)) expect(path).toMatch(/^\/api\/v1\//);
  });

  test("refers to nothing that is not there", () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, target = ""]) => target);
    expect(references.length).toBeGreaterThan(100);
    for (const target of new Set(references)) {
      const found = target
        .slice(2)
        .split("/")
        .reduce((node: Body, step) => node?.[step], document);
      expect(found, target).toBeDefined();
    }
    expect(Object.keys(document.components.schemas)).toEqual(
      expect.arrayContaining(["Client", "User", "Room", "Message", "Problem"]),
    );
  });

  test("names every parameter of a path, the headers, the body and the problems", () => {
    for (const [name, route] of named) {
      const operation = document.paths[templateOf(route)][route.method.toLowerCase()];
      const inPath = operation.parameters.filter((one: Body) => one.in === "path").map((one: Body) => one.name);
      expect(inPath, name).toEqual([...route.path.matchAll(/:([a-z_]+)/g)].map(([, step]) => step));
      const shared = operation.parameters.flatMap((one: Body) => one.$ref ?? []).join();
      expect(shared.includes("IdempotencyKey"), name).toBe(route.method === "POST");
      expect(shared.includes("ReadAfter"), name).toBe(route.method === "GET");
      expect(shared.includes("IfMatch"), name).toBe(route.conditional === true);
      expect(operation.requestBody !== undefined, name).toBe(route.body !== null && route.body !== NO_BODY);
      for (const status of Object.keys(route.responses)) expect(operation.responses[status], name).toBeDefined();
      for (const code of route.problems) {
        const { description } = operation.responses[PROBLEMS[code].status];
        expect(description, name).toContain(`\`${code}\``);
      }
    }
  });

  test("has the limits that are checked", () => {
    const { requestBody } = document.paths["/api/v1/clients"].post;
    expect(requestBody.content["application/json"].schema).toMatchObject({
      properties: { name: { type: "string", minLength: 1, maxLength: 200 } },
      required: ["name"],
      additionalProperties: false,
    });
  });
});

describe("a path's route", () => {
  const params: Record<string, string> = { user_id: "alice" };
  const concrete = ({ path }: Route) => path.replace(/:([a-z_]+)/g, (_step, name: string) => params[name] ?? "unknown");

  test.each(named)("%s refuses who has no credential", async (_name, route) => {
    const answer = await raw(server.url, `/api/v1${concrete(route)}`, { method: route.method });
    if (route.access.kind === "registration") expect(answer.status).toBe(422);
    else expect([answer.status, answer.body.code]).toEqual([401, "unauthenticated"]);
  });

  test.each(named)("%s lets in a user's token only where it is declared", async (_name, route) => {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await raw(server.url, `/api/v1${concrete(route)}`, { method: route.method, headers });
    const refused = answer.status === 403 && answer.body.code === "forbidden";
    if (route.access.kind === "registration") expect(answer.status).toBe(422);
    else expect(refused, JSON.stringify(answer.body)).toBe(route.access.kind === "key");
  });

  test.each(named)("%s gives no 500 to an odd body or query", async (_name, route) => {
    const headers = { authorization: `Bearer ${api.key}`, "content-type": "application/json" };
    const path = `/api/v1${concrete(route)}`;
    const bodies = ["null", "[]", '{"__proto__":1,"constructor":{},"x":"\\u0000"}', '{"meta":{"a":1e999}}', "{}"];
    for (const body of route.method === "GET" ? [undefined] : bodies) {
      const sent = body === undefined ? {} : { body };
      const answer = await raw(server.url, path, { method: route.method, headers, ...sent });
      expect(answer.status, `${body}: ${answer.text}`).toBeLessThan(500);
    }
    const query = "?limit=%00&cursor=&from=%ff&__proto__=1&constructor=&x=%ed%a0%80";
    const answer = await raw(server.url, path + query, { method: route.method, headers });
    expect(answer.status, answer.text).toBeLessThan(500);
    expect(answer.status, answer.text).toBeGreaterThanOrEqual(400);
  });
});
