// The import rules catch each edge that the design's picture does not have, and let through those that it has.

import { describe, expect, test } from "vitest";
import { dependencies, layers } from "../../scripts/rules/layers.ts";
import { judge } from "./fixture.ts";

const FILES = ["main", "config", "compose"];
const target = (layer: string) => (FILES.includes(layer) ? `src/${layer}.ts` : `src/${layer}/x.ts`);
const source = (layer: string) => target(layer).replace("/x.ts", "/y.ts");

function edge(from: string, to: string, keyword = "import") {
  const up = source(from).split("/").length === 3 ? "../" : "./";
  return judge(layers, { [source(from)]: `${keyword} { a } from "${up}${target(to).slice(4)}";\nexport const b = a;` });
}

const BELOW = ["contract", "platform", "domain"];
const PARTS = [...BELOW, "event-store", "channels", "projections", "app", "workers", "api", "embedded"];

// The picture once more, as the design says it and not as the rule's table does.
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  contract: [],
  platform: [],
  domain: ["contract"],
  "event-store": BELOW,
  channels: BELOW,
  projections: [...BELOW, "event-store"],
  app: [...BELOW, "event-store", "channels", "projections"],
  workers: [...BELOW, "event-store", "channels", "projections", "app"],
  api: [...BELOW, "event-store", "channels", "projections", "app"],
  embedded: BELOW,
  compose: PARTS,
  main: [...PARTS, "compose"],
  cli: [...PARTS, "compose", "main"],
};

describe("edges between layers", () => {
  for (const from of Object.keys(ALLOWED)) {
    for (const to of Object.keys(ALLOWED).filter((other) => other !== from)) {
      const allowed = ALLOWED[from]?.includes(to);
      test(`${from} ${allowed ? "may" : "may not"} import ${to}`, () => {
        const { read, faults } = edge(from, to);
        expect(read).toBe(1);
        if (allowed) expect(faults).toEqual([]);
        else expect(faults).toEqual([expect.stringMatching(`^${source(from)}:1 ${from} may not import ${to}`)]);
      });
    }
  }
});

describe("the configuration", () => {
  test.each(["main", "cli", "compose"])("%s imports it", (from) => {
    expect(edge(from, "config").faults).toEqual([]);
  });

  test.each(["event-store", "projections", "channels", "app", "workers", "api", "embedded"])(
    "%s knows its type only",
    (from) => {
      expect(edge(from, "config", "import type").faults).toEqual([]);
      expect(edge(from, "config").faults).toEqual([expect.stringContaining("by `import type` only")]);
    },
  );

  test("an inline `type` still loads it, so it does not count as erased", () => {
    const files = { "src/api/y.ts": 'import { type Config } from "../config.ts";\nexport type B = Config;' };
    expect(judge(layers, files).faults).toHaveLength(1);
  });

  test.each(["contract", "domain"])("%s does not know even its type", (from) => {
    const { faults } = edge(from, "config", "import type");
    expect(faults).toEqual([expect.stringContaining(`${from} may not import`)]);
  });
});

describe("packages", () => {
  const importing = (path: string, name: string) =>
    judge(layers, { "src/main.ts": "", [path]: `import * as x from "${name}";\nx;` }).faults;

  test.each([
    ["src/domain/room.ts", "zod"],
    ["src/event-store/postgres-log.ts", "pg"],
    ["src/event-store/eventstoredb/log.ts", "@eventstore/db-client"],
    ["src/workers/queue.ts", "pg-boss"],
    ["src/platform/redis.ts", "ioredis"],
    ["src/api/http/app.ts", "koa"],
    ["src/api/http/server.ts", "node:http"],
    ["test/api/rooms.test.ts", "vitest"],
  ])("%s may import %s", (path, name) => {
    expect(importing(path, name)).toEqual([]);
  });

  test.each([
    ["src/domain/room.ts", "pg", "domain may not import pg"],
    ["src/domain/room.ts", "node:crypto", "domain may not import node:crypto"],
    ["src/event-store/postgres-log.ts", "@eventstore/db-client", "imported only in src/event-store/eventstoredb/"],
    ["src/event-store/eventstoredb.ts", "@eventstore/db-client", "imported only in src/event-store/eventstoredb/"],
    ["src/workers/queue.ts", "ioredis", "imported only in src/platform/"],
    ["src/api/realtime/gateway.ts", "koa", "imported only in src/api/http/"],
    ["src/main.ts", "pg-boss", "pg-boss is imported only in src/workers/queue.ts"],
    ["src/api/http/rooms.ts", "pg-boss", "pg-boss is imported only in src/workers/queue.ts"],
    ["src/workers/worker.ts", "pg-boss/dist/types", "pg-boss is imported only in src/workers/queue.ts"],
    ["src/api/http/rooms.ts", "left-pad", "left-pad is not declared"],
    ["src/api/http/rooms.ts", "vitest", "vitest is a devDependency"],
    ["scripts/tool.ts", "@scope/absent/part", "@scope/absent is not declared"],
  ])("%s may not import %s", (path, name, fault) => {
    expect(importing(path, name)).toEqual([expect.stringContaining(fault)]);
  });
});

describe("every way to import is seen", () => {
  test.each([
    ["export { a } from", 'export { a } from "../api/x.ts";'],
    ["export * from", 'export * from "../api/x.ts";'],
    ["import()", 'export const a = () => import("../api/x.ts");'],
    ["an import type", 'export type A = import("../api/x.ts").A;'],
    ["import for its effect", 'import "../api/x.ts";'],
    ["a program named by URL", 'export const a = new URL("../api/x.ts", import.meta.url);'],
  ])("%s", (_name, text) => {
    expect(judge(layers, { "src/domain/y.ts": text }).faults).toEqual([
      expect.stringMatching("^src/domain/y.ts:1 domain may not import api"),
    ]);
  });
});

describe("the borders of src", () => {
  test("src imports nothing of the tests", () => {
    const files = { "src/api/y.ts": 'import { a } from "../../test/support/x.ts";\na;' };
    expect(judge(layers, files).faults).toEqual([expect.stringContaining("outside of src")]);
  });

  test("src may read its version from package.json, the domain may not", () => {
    const text = 'import manifest from "../../package.json" with { type: "json" };\nmanifest;';
    expect(judge(layers, { "src/cli/y.ts": text }).faults).toEqual([]);
    expect(judge(layers, { "src/domain/y.ts": text }).faults).toEqual([expect.stringContaining("may not read")]);
  });

  test("a folder that the table does not know has no way in", () => {
    expect(judge(layers, { "src/helpers/y.ts": "" }).faults).toEqual([expect.stringContaining("belongs to no layer")]);
  });

  test("another ending than .ts does not hide a file", () => {
    const files = { "src/domain/y.mjs": 'import { a } from "../api/x.ts";\na;' };
    expect(judge(layers, files).faults).toEqual([expect.stringContaining("domain may not import api")]);
  });

  test("a tree without src proves nothing and fails", () => {
    const { read, faults } = judge(layers, { "test/y.test.ts": "" });
    expect(read).toBe(0);
    expect(faults).toEqual([expect.stringContaining("read no file")]);
  });
});

describe("dependencies", () => {
  test("one that src does not import is found, but for programs", () => {
    const { read, faults } = judge(dependencies, {
      "package.json": JSON.stringify({ dependencies: { zod: "1", pg: "1", "@a/b": "1", "@c/d": "1", node: "1" } }),
      "src/main.ts": 'import "pg/lib/x.js"; const page = import.meta.resolve("@c/d");',
      "test/a.test.ts": 'import "zod";',
    });
    expect(read).toBe(1);
    expect(faults).toEqual([
      "package.json lists zod, which no file of src imports",
      "package.json lists @a/b, which no file of src imports",
    ]);
  });
});
