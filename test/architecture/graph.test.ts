// The rules on the import graph catch circles, barrels, imports of nothing, and exports that nobody uses.

import { describe, expect, test } from "vitest";
import { barrels, circles, folderCircles, onlyTests, resolves, unused } from "../../scripts/rules/graph.ts";
import { judge } from "./fixture.ts";

describe("circles", () => {
  test("a way back over two files is one", () => {
    const { read, faults } = judge(circles, {
      "src/domain/a.ts": 'import { b } from "./b.ts";\nexport const a = b;',
      "src/domain/b.ts": '\nimport { c } from "./c.ts";\nexport const b = c;',
      "src/domain/c.ts": '\n\nimport { a } from "./a.ts";\nexport const c = a;',
    });
    expect(read).toBe(3);
    expect(faults).toEqual([
      "src/domain/c.ts:3 imports in a circle: src/domain/a.ts -> src/domain/b.ts -> src/domain/c.ts -> src/domain/a.ts",
    ]);
  });

  test("types alone make one as well", () => {
    const { faults } = judge(circles, {
      "src/domain/a.ts": 'import type { B } from "./b.ts";\nexport type A = B;',
      "src/domain/b.ts": 'import type { A } from "./a.ts";\nexport type B = A;',
    });
    expect(faults).toHaveLength(1);
  });

  test("two ways to one file are none", () => {
    const { faults } = judge(circles, {
      "src/domain/a.ts": 'import { b } from "./b.ts";\nimport { c } from "./c.ts";\nexport const a = b + c;',
      "src/domain/b.ts": 'import { c } from "./c.ts";\nexport const b = c;',
      "src/domain/c.ts": "export const c = 1;",
    });
    expect(faults).toEqual([]);
  });
});

describe("folder circles", () => {
  test("two folders that import each other are one, though no two files do", () => {
    const { read, faults } = judge(folderCircles, {
      "src/app/a.ts": 'import { b } from "./rooms/b.ts";\nexport const a = b;',
      "src/app/rooms/b.ts": "export const b = 1;",
      "src/app/rooms/c.ts": '\nimport type { D } from "../d.ts";\nexport type C = D;',
      "src/app/d.ts": "export type D = 1;",
    });
    expect(read).toBe(4);
    expect(faults).toEqual([
      "src/app is in a circle of 2 folders: src/app -> src/app/rooms (1), src/app/rooms -> src/app (1)",
      "src/app/a.ts:1 imports src/app -> src/app/rooms, one of few that close this circle",
      "src/app/rooms/c.ts:2 imports src/app/rooms -> src/app, one of few that close this circle",
    ]);
  });

  test("a circle over three folders is one", () => {
    const { faults } = judge(folderCircles, {
      "src/a/a.ts": 'import "../b/b.ts";',
      "src/b/b.ts": 'import "../c/c.ts";',
      "src/c/c.ts": 'import "../a/other.ts";',
      "src/a/other.ts": "",
    });
    expect(faults[0]).toMatch("circle of 3 folders");
  });

  test("one way between folders is none, and the composition is no folder", () => {
    const { faults } = judge(folderCircles, {
      "src/a/a.ts": 'import "../b/b.ts";\nimport "../config.ts";',
      "src/b/b.ts": "",
      "src/config.ts": "",
      "src/main.ts": 'import "./a/a.ts";',
    });
    expect(faults).toEqual([]);
  });
});

describe("barrels", () => {
  test.each([
    ["export *", 'export * from "./a.ts";'],
    ["export { }", 'export { a } from "./a.ts";'],
    ["import, then export", 'import { a } from "./a.ts";\nexport { a };'],
    ["types", 'export type { A } from "./a.ts";'],
  ])("a file with nothing but re-exports (%s)", (_name, text) => {
    const { read, faults } = judge(barrels, { "src/domain/index.ts": text, "src/domain/a.ts": "export const a = 1;" });
    expect(read).toBe(2);
    expect(faults).toEqual([expect.stringMatching("^src/domain/index.ts only re-exports")]);
  });

  test("a file that makes something of its own is none", () => {
    const text = 'import { a } from "./a.ts";\nconst b = a;\nexport { b };';
    expect(judge(barrels, { "src/domain/b.ts": text }).faults).toEqual([]);
  });
});

describe("resolves", () => {
  test("an import of a file that is not there", () => {
    const { read, faults } = judge(resolves, {
      "src/domain/a.ts": 'import { b } from "./b";\nb;',
      "src/domain/b.ts": "",
    });
    expect(read).toBe(2);
    expect(faults).toEqual(["src/domain/a.ts:1 imports a file that is not there: ./b"]);
  });

  test("a file that does not parse", () => {
    const { faults } = judge(resolves, { "src/domain/a.ts": "export const = ;" });
    expect(faults).toEqual([expect.stringMatching("^src/domain/a.ts does not parse")]);
  });
});

describe("unused", () => {
  const main = (text: string) => ({ "src/main.ts": text });

  test.each([
    ["a value", "export const a = 1;\nexport const dead = 2;"],
    ["a function", "export const a = 1;\nexport function dead() {}"],
    ["a type", "export const a = 1;\nexport type dead = string;"],
    ["an interface", "export const a = 1;\nexport interface dead {}"],
    ["one of a list", "const a = 1;\nexport { a, a as dead };"],
    ["one that its own file uses", "export const a = 1;\nexport const dead = a; dead;"],
    [
      "one that its own file imports",
      'export const a = 1;\nexport const dead = 1; import { dead as x } from "./a.ts"; x;',
    ],
  ])("%s that nobody imports", (_name, text) => {
    const { read, faults } = judge(unused, { ...main('import { a } from "./a.ts";\na;'), "src/a.ts": text });
    expect(read).toBe(2);
    expect(faults).toEqual(["src/a.ts:2 exports dead, which nobody imports"]);
  });

  test.each([
    ["a default", 'import a from "./a.ts";\na;', "export default 1;"],
    ["another name", 'import { a as b } from "./a.ts";\nb;', "export const a = 1;"],
    ["the whole module", 'import * as all from "./a.ts";\nall;', "export const a = 1, b = 2;"],
    ["import()", 'await import("./a.ts");', "export const a = 1;"],
    ["a type", 'export type B = import("./a.ts").A.B;', "export type A = { B: 1 };"],
  ])("use by %s counts", (_name, text, made) => {
    expect(judge(unused, { ...main(text), "src/a.ts": made }).faults).not.toContainEqual(
      expect.stringMatching("^src/a.ts"),
    );
  });

  test("use by a test counts", () => {
    const files = { "test/a.test.ts": 'import { a } from "../src/a.ts";\na;', "src/a.ts": "export const a = 1;" };
    expect(judge(unused, files).faults).toEqual([]);
  });

  test("a re-export is a use, and must be used itself", () => {
    const { faults } = judge(unused, {
      ...main('import { b } from "./b.ts";\nb;'),
      "src/b.ts": 'export { a } from "./a.ts";\nexport const b = 1;',
      "src/a.ts": "export const a = 1;",
    });
    expect(faults).toEqual(["src/b.ts:1 exports a, which nobody imports"]);
  });

  test("a file that nobody imports, entry points aside", () => {
    const { faults } = judge(unused, {
      "src/main.ts": "",
      "src/cli/chatapi.ts": "",
      "src/api/lost.ts": "console.log(1);",
    });
    expect(faults).toEqual(["src/api/lost.ts is imported by nobody"]);
  });

  test("a tree without src proves nothing and fails", () => {
    expect(judge(unused, { "test/y.test.ts": "" }).faults).toEqual([expect.stringContaining("read no file")]);
  });
});

describe("only tests", () => {
  const made = { "src/a.ts": "export const a = 1;\nexport const b = 2;\nexport type C = 1;" };

  test.each([
    ["a test", "test/a.test.ts"],
    ["a benchmark", "bench/a.ts"],
  ])("what %s alone imports is found", (_name, path) => {
    const { read, faults } = judge(onlyTests, {
      ...made,
      "src/main.ts": 'import { a } from "./a.ts";\na;',
      [path]: 'import { b, type C } from "../src/a.ts";\nexport const d: C = b;',
    });
    expect(read).toBe(2);
    expect(faults).toEqual(["src/a.ts exports b, which only tests or benchmarks import"]);
  });

  test("what src imports as well is not", () => {
    const both = { "src/main.ts": 'import { b } from "./a.ts";', "test/a.test.ts": 'import { b } from "../src/a.ts";' };
    expect(judge(onlyTests, { ...made, ...both }).faults).toEqual([]);
  });
});
