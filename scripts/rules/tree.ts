// The source tree as the architecture rules see it: every file parsed once, with what it imports and exports.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { type Comment, type Program, parseSync, type TSImportTypeQualifier, Visitor } from "oxc-parser";

/** The folders that hold code, relative to the root. */
export const CODE_FOLDERS = ["src", "test", "bench", "scripts"] as const;

// Other endings than .ts are read too, so that no rule can be escaped by a file's name.
const CODE_FILE = /\.[cm]?[jt]sx?$/;

/** One import, re-export, `import()`, `import("…")` type, `import.meta.resolve("…")` or `new URL("…", import.meta.url)` of a file. */
export type Import = {
  /** As written. */
  specifier: string;
  /** The file meant, relative to the root; `null` for a package or a Node module. */
  target: string | null;
  /** The exported names that are used, `default` included; `all` when the whole module is taken. */
  names: readonly string[] | "all";
  /** Erased before it runs. */
  typeOnly: boolean;
  line: number;
};

/** One parsed file. */
export type SourceFile = {
  /** Relative to the root, with `/`. */
  path: string;
  text: string;
  program: Program;
  comments: readonly Comment[];
  imports: readonly Import[];
  /** What it exports; `*` stands for an `export * from`. */
  exports: readonly { name: string; line: number; isType: boolean }[];
  /** What the parser could not read. */
  errors: readonly string[];
};

/** All code below one root, with the packages that its package.json declares. */
export type Tree = {
  root: string;
  files: ReadonlyMap<string, SourceFile>;
  dependencies: ReadonlySet<string>;
  devDependencies: ReadonlySet<string>;
};

/** The line, from 1, of an offset in a text. */
export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < offset; at = text.indexOf("\n", at + 1)) line += 1;
  return line;
}

function firstName(qualifier: TSImportTypeQualifier): string {
  return qualifier.type === "Identifier" ? qualifier.name : firstName(qualifier.left);
}

function importsOf(path: string, text: string, program: Program): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, names: Import["names"], typeOnly: boolean, offset: number) => {
    const target = specifier.startsWith(".") ? posix.join(posix.dirname(path), specifier) : null;
    found.push({ specifier, target, names, typeOnly, line: lineAt(text, offset) });
  };
  const nameOf = (name: { type: string; name?: string; value?: unknown }) => name.name ?? String(name.value);
  new Visitor({
    ImportDeclaration(node) {
      const names = node.specifiers.map((specifier) =>
        specifier.type === "ImportSpecifier"
          ? nameOf(specifier.imported)
          : specifier.type === "ImportDefaultSpecifier"
            ? "default"
            : "*",
      );
      // `import { type A }` still loads the module when it runs: only `import type` counts as erased.
      add(node.source.value, names.includes("*") ? "all" : names, node.importKind === "type", node.start);
    },
    ExportNamedDeclaration(node) {
      if (node.source === null) return;
      const names = node.specifiers.map((specifier) => nameOf(specifier.local));
      add(node.source.value, names, node.exportKind === "type", node.start);
    },
    ExportAllDeclaration(node) {
      add(node.source.value, "all", node.exportKind === "type", node.start);
    },
    ImportExpression(node) {
      if (node.source.type === "Literal" && typeof node.source.value === "string") {
        add(node.source.value, "all", false, node.start);
      }
    },
    CallExpression({ callee, arguments: [first], start }) {
      // How a file of a package is found that is read, not run.
      const resolves =
        callee.type === "MemberExpression" &&
        callee.object.type === "MetaProperty" &&
        callee.property.type === "Identifier" &&
        callee.property.name === "resolve";
      if (resolves && first?.type === "Literal" && typeof first.value === "string") add(first.value, [], false, start);
    },
    TSImportType(node) {
      add(node.source.value, node.qualifier === null ? "all" : [firstName(node.qualifier)], true, node.start);
    },
    NewExpression(node) {
      // How a program of its own (a worker, a child process) is named.
      const [first] = node.arguments;
      if (node.callee.type !== "Identifier" || node.callee.name !== "URL" || first?.type !== "Literal") return;
      const value = first.value;
      if (typeof value === "string" && value.startsWith(".") && CODE_FILE.test(value))
        add(value, [], false, node.start);
    },
  }).visit(program);
  return found;
}

function parse(path: string, text: string): SourceFile {
  const parsed = parseSync(path, text);
  const exports = parsed.module.staticExports.flatMap((statement) =>
    statement.entries.map((entry) => ({
      name: entry.exportName.kind === "Default" ? "default" : (entry.exportName.name ?? "*"),
      line: lineAt(text, entry.start),
      isType: entry.isType,
    })),
  );
  const { program, comments } = parsed;
  const errors = parsed.errors.map((error) => error.message);
  return { path, text, program, comments, imports: importsOf(path, text, program), exports, errors };
}

function declared(root: string): Pick<Tree, "dependencies" | "devDependencies"> {
  const manifest: unknown = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const names = (section: "dependencies" | "devDependencies") => {
    const found: unknown = manifest !== null && typeof manifest === "object" ? Reflect.get(manifest, section) : null;
    return new Set(found !== null && typeof found === "object" ? Object.keys(found) : []);
  };
  return { dependencies: names("dependencies"), devDependencies: names("devDependencies") };
}

/** Reads and parses all code below `root`. Throws when `root` has no package.json. */
export function readTree(root: string): Tree {
  const files = new Map<string, SourceFile>();
  for (const folder of CODE_FOLDERS) {
    if (!existsSync(join(root, folder))) continue;
    const entries = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).sort();
    for (const entry of entries) {
      const path = posix.join(folder, entry.replaceAll("\\", "/"));
      if (!CODE_FILE.test(path) || path.includes("/node_modules/")) continue;
      files.set(path, parse(path, readFileSync(join(root, path), "utf8")));
    }
  }
  return { root, files, ...declared(root) };
}
