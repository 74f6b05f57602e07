// No regular expression of src takes more than linear time, whatever it meets: one caller's text would stop the process.
import { Visitor } from "oxc-parser";
import { checkSync } from "recheck";
import { describe, expect, test, vi } from "vitest";
import { lineAt, readTree, type SourceFile } from "../../scripts/rules/tree.ts";
import { fixture } from "./fixture.ts";

const TIMEOUT_MS = 60_000;
const ROOT = new URL("../..", import.meta.url).pathname;

type Expression = { readonly at: string; readonly source: string; readonly flags: string };

/** The expressions that a file writes down. */
function literalsOf({ path, text, program }: SourceFile): readonly Expression[] {
  const found: Expression[] = [];
  new Visitor({
    Literal(node) {
      if (!("regex" in node)) return;
      const { pattern, flags } = node.regex;
      found.push({ at: `${path}:${lineAt(text, node.start)}`, source: pattern, flags });
    },
  }).visit(program);
  return found;
}

const makesOne = ({ text }: SourceFile): boolean => text.includes("new RegExp(");

/** The expressions that files of ours make while they are loaded; what packages make is theirs. */
async function madeBy(paths: readonly string[]): Promise<readonly Expression[]> {
  const made: Expression[] = [];
  const Original = RegExp;
  vi.resetModules();
  vi.stubGlobal(
    "RegExp",
    new Proxy(Original, {
      construct(target, [source, flags = ""]: [string, string?]) {
        // The frame after this function's own: of a file of ours, or of a package that one loads.
        const [, , maker = ""] = (new Error("made here").stack ?? "").split("\n");
        const at = /\/(src\/[\w/.-]+:\d+)/.exec(maker)?.[1];
        if (at !== undefined) made.push({ at, source: String(source), flags });
        return new target(source, flags);
      },
    }),
  );
  try {
    for (const path of paths) await import(`${ROOT}${path}`);
  } finally {
    vi.unstubAllGlobals();
    vi.resetModules();
  }
  return made;
}

/** Those that the checker cannot read: a fixed list of strings, which none but the first character of a text begins. */
const FINITE = ["^\\p{RGI_Emoji}$"];

/** Those that are not linear, or of which that could not be shown, each with why. */
function faultsOf(expressions: readonly Expression[]): readonly string[] {
  return expressions.flatMap(({ at, source, flags }) => {
    if (FINITE.includes(source)) return [];
    const verdict = checkSync(source, flags, { timeout: TIMEOUT_MS });
    if (verdict.status === "safe") return [];
    const why = verdict.status === "vulnerable" ? verdict.complexity.type : verdict.error.kind;
    return [`${at} ${why}: /${source}/${flags}`];
  });
}

const inSrc = (tree: ReturnType<typeof readTree>) =>
  [...tree.files.values()].filter(({ path }) => path.startsWith("src/"));

describe("regular expressions", { timeout: 180_000 }, () => {
  test("of src are linear, those that it makes of strings too", async () => {
    const files = inSrc(readTree(ROOT));
    const literals = files.flatMap(literalsOf);
    const makers = files.filter(makesOne).map(({ path }) => path);
    const made = await madeBy(makers);
    expect(literals.length).toBeGreaterThan(80);
    for (const path of makers)
      expect(
        made.some(({ at }) => at.startsWith(path)),
        path,
      ).toBe(true);
    expect(faultsOf([...literals, ...made])).toEqual([]);
  });

  test("that take more than linear time are caught", () => {
    const tree = readTree(
      fixture({
        "src/a.ts": "export const a = /^(a+)+$/;",
        "src/b.ts": "export const b = (text: string) => text.replace(/\\s+$/, '');",
        "src/c.ts": "export const c = /^[a-z]{1,63}$/;",
      }),
    );
    expect(faultsOf(inSrc(tree).flatMap(literalsOf))).toEqual([
      "src/a.ts:1 exponential: /^(a+)+$/",
      "src/b.ts:1 polynomial: /\\s+$/",
    ]);
  });
});
