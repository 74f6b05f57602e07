// Where time, randomness and I/O must arrive as arguments: deciders and folds give the same on every run.

import { Visitor } from "oxc-parser";
import type { Finding, Rule } from "./rule.ts";
import { lineAt, type SourceFile } from "./tree.ts";

type Pure = {
  folder: string;
  /** Global names that may not be used at all, beside the clock and the dice. */
  globals: readonly string[];
};

/** The pure parts of src. The runners of projections wait and log, so they keep their timers. */
export const PURE: readonly Pure[] = [
  {
    folder: "src/domain/",
    globals: ["setTimeout", "setInterval", "setImmediate", "queueMicrotask", "fetch", "process", "console"],
  },
  { folder: "src/projections/", globals: [] },
];

/** Members that read the clock or throw dice. */
const IMPURE_MEMBERS: Readonly<Record<string, readonly string[]>> = {
  Date: ["now"],
  Math: ["random"],
  performance: ["now", "timeOrigin"],
  process: ["hrtime", "uptime"],
  crypto: ["randomUUID", "randomUUIDv7", "randomBytes", "randomInt", "randomFill", "randomFillSync", "getRandomValues"],
};

/** The same, as named imports of a module. */
const IMPURE_IMPORTS: Readonly<Record<string, readonly string[]>> = {
  "node:crypto": [...(IMPURE_MEMBERS.crypto ?? []), "webcrypto"],
  "node:perf_hooks": ["performance"],
  "node:process": ["hrtime", "uptime"],
  uuid: ["v1", "v4", "v6", "v7"],
};

function impurities(file: SourceFile, forbidden: readonly string[]): Finding[] {
  const found: Finding[] = [];
  const report = (offset: number, what: string) =>
    found.push({ file: file.path, line: lineAt(file.text, offset), message: `${what}: take it as an argument` });
  const objects = new Map(Object.entries(IMPURE_MEMBERS));
  new Visitor({
    ImportDeclaration(node) {
      const names = IMPURE_IMPORTS[node.source.value];
      if (names === undefined) return;
      for (const specifier of node.specifiers) {
        if (specifier.type !== "ImportSpecifier") objects.set(specifier.local.name, names);
        else if (specifier.imported.type === "Identifier" && names.includes(specifier.imported.name)) {
          report(specifier.start, `${specifier.imported.name} of ${node.source.value}`);
        }
      }
    },
    MemberExpression(node) {
      const { object, property } = node;
      // `globalThis.crypto.randomUUID` as well as `crypto.randomUUID`.
      const owner =
        object.type === "Identifier"
          ? object.name
          : object.type === "MemberExpression" && object.property.type === "Identifier"
            ? object.property.name
            : null;
      const member =
        property.type === "Identifier" ? property.name : property.type === "Literal" ? property.value : null;
      if (owner === null || typeof member !== "string") return;
      if (objects.get(owner)?.includes(member)) report(node.start, `${owner}.${member}`);
      if (owner === "globalThis" && forbidden.includes(member)) report(node.start, `globalThis.${member}`);
      else if (object.type === "Identifier" && forbidden.includes(owner)) report(node.start, owner);
    },
    NewExpression(node) {
      if (node.callee.type === "Identifier" && node.callee.name === "Date" && node.arguments.length === 0) {
        report(node.start, "new Date()");
      }
    },
    CallExpression(node) {
      if (node.callee.type !== "Identifier") return;
      if (node.callee.name === "Date") report(node.start, "Date()");
      if (forbidden.includes(node.callee.name)) report(node.start, node.callee.name);
    },
  }).visit(file.program);
  return found;
}

/** No clock, no dice in deciders and folds; no I/O in deciders. */
export const purity: Rule = {
  name: "purity",
  check(tree) {
    let read = 0;
    const failures: Finding[] = [];
    for (const { folder, globals } of PURE) {
      const files = [...tree.files.values()].filter((file) => file.path.startsWith(folder));
      if (files.length === 0) failures.push({ file: folder, message: "is named as pure, but holds no code" });
      for (const file of files) failures.push(...impurities(file, globals));
      read += files.length;
    }
    return { read, failures };
  },
};
