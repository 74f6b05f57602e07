// The OpenAPI document in the hands of others' tools: a linter, a generator of types, a strict compiler. And its examples.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openApiDocument } from "../../../src/api/http/openapi.ts";
import { routes } from "../../../src/api/http/routes/routes.ts";
import { REQUEST_EXAMPLES } from "../../../src/contract/request-examples.ts";
import { RESOURCE_EXAMPLES } from "../../../src/contract/resource-examples.ts";
import type { Body } from "../../e2e/support/api.ts";

const run = promisify(execFile);
const tool = (path: string) => fileURLToPath(new URL(`../../../node_modules/${path}`, import.meta.url));
const document: Body = openApiDocument(routes, "https://chat.acme.test");
const operations = Object.values<Body>(document.paths).flatMap((methods) => Object.values<Body>(methods));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "chatapi-openapi-"));
  await writeFile(join(folder, "openapi.json"), JSON.stringify(document));
});
afterAll(() => rm(folder, { recursive: true }));

test("redocly's recommended rules find nothing", { timeout: 180_000 }, async () => {
  const args = [tool("@redocly/cli/bin/cli.js"), "lint", "--extends=recommended", "--format=json", "openapi.json"];
  const env = { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" };
  const { stdout } = await run(process.execPath, args, { cwd: folder, env }).catch((error: Body) => error);
  const { totals, problems } = JSON.parse(stdout);
  expect([totals.errors, totals.warnings], JSON.stringify(problems, null, 1)).toEqual([0, 0]);
});

test("types generated from it compile strictly, and are those of the interface", { timeout: 180_000 }, async () => {
  await run(process.execPath, [tool("openapi-typescript/bin/cli.js"), "openapi.json", "-o", "api.d.ts"], {
    cwd: folder,
  });
  const use = `import type { components, operations } from "./api.d.ts";
    type Query = NonNullable<operations["listMessages"]["parameters"]["query"]>;
    export const query: Query = { include_deleted: true, limit: 10, type: "text,image" };
    export const body: operations["postMessage"]["requestBody"]["content"]["application/json"] = { content: "Hi" };
    // @ts-expect-error: content is text
    export const wrong: typeof body = { content: 1 };
    export const seqOf = (one: components["schemas"]["Message"]): number => one.seq;
    export const lastOf = (one: components["schemas"]["UserRoom"]): string | null => one.last_message?.content ?? null;`;
  await writeFile(join(folder, "use.ts"), use);
  const options = { strict: true, noEmit: true, types: [], allowImportingTsExtensions: true, module: "nodenext" };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["use.ts"] }));
  const compiled = run(process.execPath, [tool("typescript-7/bin/tsc"), "-p", "."], { cwd: folder });
  expect(
    await compiled.then(
      () => "",
      ({ stdout }: Body) => stdout,
    ),
  ).toBe("");
});

describe("the document", () => {
  test("refers to no schema by itself, and every reference leads somewhere", () => {
    const { schemas } = document.components;
    for (const [name, schema] of Object.entries<Body>(schemas)) expect(schema.$ref, name).toBeUndefined();
    for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      expect(schemas[String(name)], name).toBeDefined();
    }
  });

  test("describes every operation, parameter and tag", () => {
    for (const { operationId, summary, description, parameters } of operations) {
      expect(
        [summary, description].every((text) => text.length > 5),
        operationId,
      ).toBe(true);
      for (const one of parameters) if (one.$ref === undefined) expect(one.description, one.name).not.toBe(one.name);
    }
    const tags = new Set(operations.flatMap((one) => one.tags));
    expect(document.tags.map(({ name }: Body) => name).toSorted()).toEqual([...tags].toSorted());
    for (const { description } of document.tags) expect(description).toMatch(/\.$/);
  });

  test("has an example of every request and answer that its own schemas take", () => {
    for (const { operation, body, responses } of routes) {
      const examples = Object.values(REQUEST_EXAMPLES[operation] ?? {});
      const { requestBody } = operations.find(({ operationId }) => operationId === operation) ?? {};
      expect(examples.length > 0, operation).toBe(requestBody !== undefined);
      for (const one of examples) expect(body?.safeParse(one).error?.issues ?? [], operation).toEqual([]);
      const [schema] = Object.values(responses).flatMap((one) => one ?? []);
      if (schema === undefined) continue;
      const success = operations.find(({ operationId }) => operationId === operation)?.responses;
      const content = Object.entries<Body>(success).find(([status]) => status.startsWith("2"))?.[1].content;
      const { example } = content["application/json"];
      expect(schema.safeParse(example).error?.issues ?? [], operation).toEqual([]);
    }
    expect(Object.keys(REQUEST_EXAMPLES).filter((name) => !routes.some((one) => one.operation === name))).toEqual([]);
    const unused = Object.keys(RESOURCE_EXAMPLES).filter((name) => document.components.schemas[name] === undefined);
    expect(unused).toEqual([]);
  });
});
