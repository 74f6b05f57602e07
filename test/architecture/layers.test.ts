// The import rules catch each edge that the design's picture does not have, and let through those that it has.

import { describe, expect, test } from "vitest";
import { layers } from "../../scripts/rules/layers.ts";
import { judge } from "./fixture.ts";

const FILES = ["main", "config", "failpoint"];
const target = (layer: string) => (FILES.includes(layer) ? `src/${layer}.ts` : `src/${layer}/x.ts`);
const source = (layer: string) => target(layer).replace("/x.ts", "/y.ts");

function edge(from: string, to: string, keyword = "import") {
  const up = source(from).split("/").length === 3 ? "../" : "./";
  return judge(layers, { [source(from)]: `${keyword} { a } from "${up}${target(to).slice(4)}";\nexport const b = a;` });
}

const PARTS = ["domain", "event-store", "projections", "channels", "workers", "api", "embedded"];

// The picture once more, as the design says it and not as the rule's table does.
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  "event-store": ["domain"],
  projections: ["domain", "event-store"],
  channels: ["domain"],
  workers: ["domain", "event-store", "projections", "channels"],
  api: ["domain", "event-store", "projections", "channels"],
  embedded: ["domain"],
  runtime: PARTS,
  main: [...PARTS, "runtime"],
  cli: [...PARTS, "runtime", "main"],
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
  test.each(["main", "cli", "runtime"])("%s imports it", (from) => {
    expect(edge(from, "config").faults).toEqual([]);
  });

  test.each(["event-store", "projections", "channels", "workers", "api", "embedded"])(
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

  test("the domain does not know even its type", () => {
    expect(edge("domain", "config", "import type").faults).toEqual([expect.stringContaining("domain may not import")]);
  });
});

describe("the failpoints", () => {
  test.each(["event-store", "projections", "workers", "api", "embedded", "runtime", "cli", "config"])(
    "stand between the steps of %s",
    (from) => {
      expect(edge(from, "failpoint").faults).toEqual([]);
    },
  );

  test.each(["domain", "channels", "bus"])("%s takes no steps that a crash could separate", (from) => {
    expect(edge(from, "failpoint").faults).toEqual([expect.stringContaining(`${from} may not import failpoint`)]);
  });

  test("know nothing of the parts that they stand in", () => {
    expect(edge("failpoint", "domain").faults).toEqual([expect.stringContaining("failpoint may not import domain")]);
  });
});

describe("packages", () => {
  const importing = (path: string, name: string) =>
    judge(layers, { "src/main.ts": "", [path]: `import * as x from "${name}";\nx;` }).faults;

  test.each([
    ["src/domain/room.ts", "zod"],
    ["src/event-store/postgres-log.ts", "pg"],
    ["src/event-store/eventstore-db.ts", "@eventstore/db-client"],
    ["src/event-store/eventstore-db/reader.ts", "@eventstore/db-client"],
    ["src/workers/queue.ts", "pg-boss"],
    ["src/main.ts", "pg-boss"],
    ["src/runtime/workers.ts", "pg-boss"],
    ["src/api/http/server.ts", "node:http"],
    ["test/api/rooms.test.ts", "vitest"],
  ])("%s may import %s", (path, name) => {
    expect(importing(path, name)).toEqual([]);
  });

  test.each([
    ["src/domain/room.ts", "pg", "domain may not import pg"],
    ["src/domain/room.ts", "node:crypto", "domain may not import node:crypto"],
    ["src/event-store/postgres-log.ts", "@eventstore/db-client", "imported only in src/event-store/eventstore-db.ts"],
    ["src/event-store/eventstore-db-too.ts", "@eventstore/db-client", "imported only in src/event-store/eventstore-db"],
    ["src/api/http/rooms.ts", "pg-boss", "pg-boss is imported only in src/workers/"],
    ["src/projections/run.ts", "pg-boss/dist/types", "pg-boss is imported only in src/workers/"],
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
