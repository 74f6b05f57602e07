// Rules on the shape of the import graph: no circles, no barrels, nothing exported that nobody uses.

import { posix } from "node:path";
import type { Finding, Rule } from "./rule.ts";
import type { SourceFile, Tree } from "./tree.ts";

/** Programs that are started by path and imported by nobody. */
export const ENTRY_POINTS: readonly string[] = ["src/main.ts", "src/cli/chatapi.ts"];

/** No circle of imports; `import type` counts as well, since two files that need each other's types are one. */
export const circles: Rule = {
  name: "circles",
  check(tree) {
    const failures: Finding[] = [];
    const done = new Set<string>();
    const path: string[] = [];
    const visit = (file: SourceFile): void => {
      path.push(file.path);
      for (const { target, line } of file.imports) {
        const next = target === null ? undefined : tree.files.get(target);
        if (next === undefined || done.has(next.path)) continue;
        const start = path.indexOf(next.path);
        if (start === -1) visit(next);
        else {
          const message = `imports in a circle: ${[...path.slice(start), next.path].join(" -> ")}`;
          failures.push({ file: file.path, line, message });
        }
      }
      path.pop();
      done.add(file.path);
    };
    for (const file of tree.files.values()) if (!done.has(file.path)) visit(file);
    return { read: tree.files.size, failures };
  },
};

/** Between two folders, as many imports are named one by one when a circle is found. */
const FEW_IMPORTS = 4;

const folderOf = (path: string) => posix.dirname(path);

/** Folders that reach each other: the strongly connected parts of the graph, of those with more than one folder. */
function knots(edges: ReadonlyMap<string, ReadonlySet<string>>): readonly (readonly string[])[] {
  const from = (start: string) => {
    const seen = new Set<string>();
    const visit = (folder: string) => {
      for (const next of edges.get(folder) ?? []) {
        if (seen.has(next)) continue;
        seen.add(next);
        visit(next);
      }
    };
    visit(start);
    return seen;
  };
  const reachable = new Map([...edges.keys()].map((folder) => [folder, from(folder)]));
  const done = new Set<string>();
  return [...reachable].flatMap(([folder, others]) => {
    if (done.has(folder)) return [];
    const knot = [...others].filter((other) => reachable.get(other)?.has(folder));
    for (const one of knot) done.add(one);
    return knot.length > 1 ? [knot.toSorted()] : [];
  });
}

/**
 * No circle between the folders of src, each the direct folder of its files; a folder and one in it count as two. The files
 * directly in src are the composition: which of them may be known below is the layers' rule.
 */
export const folderCircles: Rule = {
  name: "folder circles",
  check(tree) {
    const files = [...tree.files.values()].filter(({ path }) => path.startsWith("src/"));
    const edges = new Map<string, Set<string>>();
    const imports: { readonly from: string; readonly to: string; readonly file: string; readonly line: number }[] = [];
    for (const file of files) {
      const from = folderOf(file.path);
      for (const { target, line } of file.imports) {
        if (target === null || !tree.files.has(target)) continue;
        const to = folderOf(target);
        if (to === from || to === "src") continue;
        edges.set(from, (edges.get(from) ?? new Set()).add(to));
        imports.push({ from, to, file: file.path, line });
      }
    }
    const failures = knots(edges).flatMap((knot) => {
      const inside = imports.filter(({ from, to }) => knot.includes(from) && knot.includes(to));
      const pairs = Map.groupBy(inside, ({ from, to }) => `${from} -> ${to}`);
      const counts = [...pairs].toSorted(([, a], [, b]) => a.length - b.length);
      const list = counts.map(([pair, all]) => `${pair} (${all.length})`).join(", ");
      const [file = ""] = knot;
      const rare = counts.flatMap(([pair, all]) =>
        all.length > FEW_IMPORTS ? [] : all.map((one) => ({ pair, ...one })),
      );
      const message = (pair: string) => `imports ${pair}, one of few that close this circle`;
      const ways = rare.map(({ file, line, pair }) => ({ file, line, message: message(pair) }));
      return [{ file, message: `is in a circle of ${knot.length} folders: ${list}` }, ...ways];
    });
    return { read: files.length, failures };
  },
};

function isBarrel({ program }: SourceFile): boolean {
  let exported = false;
  for (const statement of program.body) {
    if (statement.type === "ImportDeclaration") continue;
    if (statement.type === "ExportAllDeclaration") exported = true;
    else if (statement.type === "ExportNamedDeclaration" && statement.declaration === null) exported = true;
    else return false;
  }
  return exported;
}

/** No file that only hands on what others export: an import names the file where the thing is made. */
export const barrels: Rule = {
  name: "barrels",
  check(tree) {
    const failures = [...tree.files.values()]
      .filter(isBarrel)
      .map((file) => ({ file: file.path, message: "only re-exports: import from where the thing is made" }));
    return { read: tree.files.size, failures };
  },
};

/** A relative import names a file that exists, to the letter: else the other rules would look past it. */
export const resolves: Rule = {
  name: "resolves",
  check(tree) {
    const failures: Finding[] = [];
    for (const file of tree.files.values()) {
      for (const { target, specifier, line } of file.imports) {
        if (target === null || target.endsWith(".json") || tree.files.has(target)) continue;
        failures.push({ file: file.path, line, message: `imports a file that is not there: ${specifier}` });
      }
      for (const message of file.errors) failures.push({ file: file.path, message: `does not parse: ${message}` });
    }
    return { read: tree.files.size, failures };
  },
};

function usesOf(tree: Tree, counts: (file: SourceFile) => boolean = () => true): Map<string, Set<string>> {
  const uses = new Map<string, Set<string>>();
  for (const file of tree.files.values()) {
    if (!counts(file)) continue;
    for (const { target, names } of file.imports) {
      // A file that imports itself does not bring itself to life.
      if (target === null || target === file.path) continue;
      const used = uses.get(target) ?? new Set();
      for (const name of names === "all" ? ["*"] : names) used.add(name);
      uses.set(target, used);
    }
  }
  return uses;
}

/** What src exports, types included, is imported somewhere, and so is each of its files but the entry points. */
export const unused: Rule = {
  name: "unused",
  check(tree) {
    const uses = usesOf(tree);
    const failures: Finding[] = [];
    const files = [...tree.files.values()].filter((file) => file.path.startsWith("src/"));
    for (const file of files) {
      const used = uses.get(file.path);
      // What types a package takes effect by being there.
      if (used === undefined && !ENTRY_POINTS.includes(file.path) && !file.path.endsWith(".d.ts")) {
        failures.push({ file: file.path, message: "is imported by nobody" });
        continue;
      }
      if (used?.has("*")) continue;
      for (const { name, line } of file.exports) {
        // The names behind an `export *` are judged where they are made.
        if (name === "*" || used?.has(name)) continue;
        failures.push({ file: file.path, line, message: `exports ${name}, which nobody imports` });
      }
    }
    return { read: files.length, failures };
  },
};

/** What src exports, types aside, is imported in src, not by tests, benchmarks or scripts alone: what only they need lives with them. */
export const onlyTests: Rule = {
  name: "only tests",
  check(tree) {
    const uses = usesOf(tree);
    const own = usesOf(tree, ({ path }) => path.startsWith("src/"));
    const files = [...tree.files.values()].filter((file) => file.path.startsWith("src/"));
    const failures = files.flatMap((file) => {
      const inside = own.get(file.path);
      if (inside?.has("*")) return [];
      const anywhere = uses.get(file.path);
      const names = file.exports.filter(
        ({ name, isType }) => !isType && !inside?.has(name) && (anywhere?.has(name) || anywhere?.has("*")),
      );
      if (names.length === 0) return [];
      const list = names.map(({ name }) => name).join(", ");
      return [{ file: file.path, message: `exports ${list}, which only tests or benchmarks import` }];
    });
    return { read: files.length, failures };
  },
};
