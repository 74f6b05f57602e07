// The list of mutations is up to date: each fence is marked where it is taken out, and a test that has to fail does.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { fixture } from "../architecture/fixture.ts";
import { mutations, withTable } from "./mutations/all.ts";
import { readFences, withoutFence } from "./mutations/fences.ts";
import { judgeFile, type Mutant, type Verdict } from "./mutations/judge.ts";
import { type Change, condition, drop, type Mutation, replaceWith, substitute } from "./mutations/mutation.ts";
import { mutated, ROOT, Runner } from "./mutations/runner.ts";
import { readSources } from "./mutations/sources.ts";

const FAST = "number of an attempt that is started";

const source = (path: string) => readFile(join(ROOT, path), "utf8");
const fencesOf = (one: Mutation) => ("fence" in one ? [one, ...(one.also ?? [])].map(({ fence }) => fence) : []);

describe("the list of mutations", () => {
  let fences: Awaited<ReturnType<typeof readFences>>;
  beforeAll(async () => {
    fences = await readFences(ROOT);
  });

  test("has at least forty, each under a name of its own", () => {
    expect(mutations.length).toBeGreaterThanOrEqual(40);
    expect(new Set(mutations.map((one) => one.name)).size).toBe(mutations.length);
  });

  test.each(mutations.map((one) => [one.name, one] as const))(
    "finds its fence, and its test: %s",
    async (_name, one) => {
      const changed = await mutated(ROOT, one, fences);
      expect(changed.size).toBeGreaterThan(0);
      for (const [path, text] of changed) expect(text).not.toBe(await source(path));
      expect(await source(`test/${one.caughtBy.file}`)).toMatch(/from "vitest"|eventStoreContract\(/);
    },
  );

  test("has each marker that is in the source, and each marker is there once", async () => {
    const listed = new Set(mutations.flatMap(fencesOf));
    expect([...fences].filter(([id, paths]) => !listed.has(id) || paths.length > 1)).toEqual([]);
  });

  test("stands in the page for developers", async () => {
    const page = await source("docs/testing.md");
    expect(withTable(page)).toBe(page);
  });

  test("an entry whose text or marker is not there, or there twice, is out of date", async () => {
    const caughtBy = { file: "", test: "" };
    const literal = (find: string): Mutation => ({
      ...{ name: "literal", caughtBy },
      ...{ file: "src/domain/delivery.ts", changes: [{ find, replace: "" }] },
    });
    await expect(mutated(ROOT, literal("what nobody has ever written"))).rejects.toThrow("0 times");
    await expect(mutated(ROOT, literal("const"))).rejects.toThrow(/stands \d+ times/);
    const unmarked: Mutation = { name: "marked", caughtBy, fence: "what-nobody-has-ever-marked", mutate: drop };
    await expect(mutated(ROOT, unmarked)).rejects.toThrow("marked 0 times");
    expect(() => withoutFence("a.ts", "// fence: x\na();\n// fence: x\nb();", { fence: "x", mutate: drop })).toThrow(
      "2 times",
    );
  });
});

describe("a change of what is marked", () => {
  const changes: readonly (readonly [string, string, Change, string])[] = [
    ["a statement goes", "// fence: x\nif (a) throw b;\nc();", drop, ";\nc();"],
    ["comments may follow the marker", "// fence: x\n// Why.\na();\nb();", drop, "// Why.\n;\nb();"],
    ["a member of a class goes", "class A {\n// fence: x\na() {}\nb() {}\n}", drop, "class A {\n\nb() {}\n}"],
    ["a property goes with its comma", "f({\n// fence: x\na: 1,\nb: 2 });", drop, "f({\n\nb: 2 });"],
    ["the last property goes", "f({ a: 1,\n/* fence: x */ b: 2 });", drop, "f({ a: 1, });"],
    ["an argument goes", "f(a, /* fence: x */ b(c));", drop, "f(a, );"],
    ["a link of a chain goes", "from(a)\n// fence: x\n.where(b, c)\n.all();", drop, "from(a)\n.all();"],
    ["an operand goes", "return_(/* fence: x */ a !== b || c);", drop, "return_(c);"],
    ["a later operand goes", "return_(a && /* fence: x */ b(c));", drop, "return_(a);"],
    ["a condition of an if", "// fence: x\nif (a && b) c();", condition(false), "if (false) c();"],
    ["a marked condition", "if (/* fence: x */ a > b && c) d();", condition(true), "if (true && c) d();"],
    ["the condition of a choice", "f(/* fence: x */ a ? b : c);", condition(true), "f(true ? b : c);"],
    [
      "the condition of a choice that is kept",
      "// fence: x\nconst a = b ? c : d;",
      condition(true),
      "const a = true ? c : d;",
    ],
    ["an initial value", "// fence: x\nexport const a = b(c);", replaceWith("1"), "export const a = 1;"],
    [
      "what is returned",
      "const f = () => {\n// fence: x\nreturn a;\n};",
      replaceWith("b"),
      "const f = () => {\nreturn b;\n};",
    ],
    ["what is assigned", "// fence: x\nthis.a = await b();", replaceWith("c"), "this.a = c;"],
    ["what is called", "// fence: x\nawait a();", replaceWith("b()"), "b();"],
    ["the value of a property", "f({\n// fence: x\na: b, c });", replaceWith("1"), "f({\na: 1, c });"],
    ["the value of a property without one", "f({ a, /* fence: x */ b });", replaceWith("1"), "f({ a, b: 1 });"],
    ["a marked expression", "f(/* fence: x */ a.b(c) + d);", replaceWith("1"), "f(1);"],
    ["text of what is marked", "// fence: x\na(b, c);\nb();", substitute("b, ", ""), "a(c);\nb();"],
    [
      "SQL to the end of its line",
      "f(`where /* fence: x */ a = $1\n  and b`);",
      replaceWith("true"),
      "f(`where true\n  and b`);",
    ],
    ["SQL to its end", "f(`where /* fence: x */ a = $1 /* end */ and b`);", condition(true), "f(`where true and b`);"],
    ["SQL that ends on a later line", "f(`/* fence: x */ a\nb /* end */ c`);", drop, "f(` c`);"],
    ["SQL of several lines", "f(`/* fence: x */\na\nb\n/* end */ c`);", drop, "f(` c`);"],
    ["SQL to the end of its text", 'f("where /* fence: x */ a = $1", b);', replaceWith("true"), 'f("where true", b);'],
  ];
  const bare = (text: string) => text.replaceAll(/\/\/ fence: x\n|\/\* (fence: x|end) \*\//g, "").replaceAll(/\s/g, "");

  test.each(changes)("%s", (_name, text, mutate, expected) => {
    expect(bare(withoutFence("a.ts", text, { fence: "x", mutate }))).toBe(bare(expected));
  });

  test.each([
    ["nothing behind the marker", "a();\n// fence: x\n", drop, "marks no code"],
    ["a statement without a value", "// fence: x\nif (a) b();", replaceWith("c"), "computes no value"],
    ["an expression that cannot go", "const a = (/* fence: x */ b);", drop, "cannot be dropped"],
    ["a text that is not there", "// fence: x\na();\nb();", substitute("b", "c"), "0 times"],
    ["code that does not parse", "// fence: x\nconst a = b;", replaceWith("("), "does not parse"],
  ] as const)("is refused for %s", (_name, text, mutate, message) => {
    expect(() => withoutFence("a.ts", text, { fence: "x", mutate })).toThrow(message);
  });
});

describe("mutations that are judged", { timeout: 240_000 }, () => {
  const one = mutations.find(({ name }) => name === FAST);
  if (one === undefined) throw new Error("there is no such mutation");
  const { file, test: caughtBy } = one.caughtBy;
  const harmless: Mutation = {
    ...{ name: "harmless", caughtBy: { file, test: caughtBy }, file: "src/domain/delivery.ts" },
    changes: [{ find: "// Commands, and", replace: "// Commands and" }],
  };
  const cases: readonly Mutation[] = [
    one,
    harmless,
    { ...one, name: "no test", caughtBy: { file, test: "what nobody has ever tested" } },
    {
      ...harmless,
      name: "no code",
      changes: [{ find: "// Commands, and", replace: 'throw new Error("no code"); //' }],
    },
    { ...one, name: "one by its suite", caughtBy: { file, test: `starting an attempt ${caughtBy}` } },
  ];

  test("are caught, survive, or have no test; the copy is whole again afterwards", async () => {
    await using runner = await Runner.open();
    const verdicts: Verdict[] = [];
    const mutants: Mutant[] = [];
    for (const mutation of cases) mutants.push({ mutation, changed: await mutated(ROOT, mutation) });
    for await (const verdict of judgeFile(runner, readSources(ROOT), file, mutants)) verdicts.push(verdict);
    const caught = { outcome: "caught", by: expect.stringContaining("of another number than the next does nothing") };
    expect(verdicts.map(({ mutation: { name }, ...verdict }) => [name, verdict])).toEqual([
      [FAST, expect.objectContaining(caught)],
      ["harmless", { outcome: "survived", why: `test/${file} passes` }],
      ["no test", { outcome: "unsound", why: "without it too: no such test" }],
      ["no code", { outcome: "broken", why: expect.stringContaining("no code") }],
      ["one by its suite", expect.objectContaining(caught)],
    ]);
    for (const path of (await mutated(ROOT, one)).keys()) {
      expect(await readFile(join(runner.path, path), "utf8")).toBe(await source(path));
    }
  });

  test("are judged again when their test, what it loads or what they change is another", async () => {
    const root = fixture({
      ...Object.fromEntries(["package-lock.json", "tsconfig.json", "vitest.config.ts"].map((path) => [path, ""])),
      "src/a.ts": "export const a = 1;",
      "src/b.ts": "export const b = 1;",
      "src/cli.ts": 'import "./b.ts";',
      "test/a.test.ts": 'import { a } from "../src/a.ts"; a;',
      "test/cli.test.ts": 'spawn("src/cli.ts");',
      "test/data.json": "1",
    });
    const write = (path: string, text: string) => writeFile(join(root, path), text);
    const keys = () => {
      const sources = readSources(root);
      return ["a", "cli"].map((name) => sources.keyOf(`test/${name}.test.ts`, "x", new Map([["src/a.ts", "changed"]])));
    };
    const [ofA, ofCli] = keys();
    expect(keys()).toEqual([ofA, ofCli]);
    await write("src/b.ts", "export const b = 2;");
    const [sameA, otherCli] = keys();
    expect([sameA === ofA, otherCli === ofCli]).toEqual([true, false]);
    for (const [path, text] of [
      ["src/a.ts", "export const a = 2;"],
      ["test/a.test.ts", "other"],
      ["test/data.json", "2"],
    ] as const) {
      const before = keys();
      await write(path, text);
      expect(keys()[0], path).not.toBe(before[0]);
    }
    expect(readSources(root).keyOf("test/a.test.ts", "y", new Map())).not.toBe(
      readSources(root).keyOf("test/a.test.ts", "x", new Map()),
    );
  });

  test("have PostgreSQL or its tables made anew when they change how these are made", () => {
    const { remadeBy } = readSources(ROOT);
    const by = (path: string) => remadeBy(new Map([[path, ""]]));
    expect(by("src/embedded/postgres.ts")).toBe("everything");
    expect(by("src/projections/models/all.ts")).toBe("databases");
    expect(by("src/app/rooms.ts")).toBe("nothing");
  });
});
