// The rule on names: no everyday word where the field has a term.

import { posix } from "node:path";
import { Visitor } from "oxc-parser";
import type { Finding, Rule } from "./rule.ts";
import { lineAt, type SourceFile } from "./tree.ts";

type Refused = { readonly pattern: RegExp; readonly instead: string; readonly within?: RegExp };

/** Each refused word with its forms, and what to say. A few have a usual meaning elsewhere: refused `within` some files. */
const REFUSED: readonly Refused[] = [
  { pattern: /^turns?$/, instead: "batch, tick or queue" },
  { pattern: /^company$/, instead: "linger" },
  { pattern: /^reach(es|ed|ing)?$/, instead: "position or await" },
  { pattern: /^told$/, instead: "notified or published" },
  { pattern: /^ow(e|es|ed|ing)$/, instead: "due" },
  { pattern: /^offer(s|ed|ing)?$/, instead: "push or open delivery" },
  { pattern: /^ask(s|ed|ing)?$/, instead: "request or query" },
  { pattern: /^(meets?|meeting)$/, instead: "ensure" },
  { pattern: /^words?$/, instead: "term, text or reason" },
  { pattern: /^stands?$/, instead: "is or position" },
  { pattern: /^wholes?$/, instead: "complete" },
  { pattern: /^sites?$/, instead: "pages" },
  { pattern: /^premises?$/, instead: "prior events" },
  { pattern: /^doubt(s|ed)?$/, instead: "suspect" },
  { pattern: /^places?$/, instead: "slot or position" },
  { pattern: /^lines?$/, instead: "queue", within: /^(src|test)\/(workers|event-store\/postgres)\// },
];

/** The words of an identifier or a file's name, in lower case. */
export function wordsOf(name: string): readonly string[] {
  return name
    .replaceAll(/([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])/g, "$1$3 $2")
    .split(/[^A-Za-z0-9]+/)
    .filter((word) => word !== "")
    .map((word) => word.toLowerCase());
}

/** What is wrong with a name, or `undefined`. */
function faultOf(name: string, path: string): string | undefined {
  for (const word of wordsOf(name)) {
    const refused = REFUSED.find(({ pattern, within }) => pattern.test(word) && within?.test(path) !== false);
    if (refused !== undefined) return `${name}: "${word}" is no term of the field; say ${refused.instead}`;
  }
  return undefined;
}

/**
 * The names in a file, each with the offset where it is first. What is imported, or read of another's
 * object, is named elsewhere.
 */
function namesIn({ program }: SourceFile): ReadonlyMap<string, number> {
  const names = new Map<string, number>();
  const read = new Set<number>();
  const imported = new Set<string>();
  const add = ({ name, start }: { readonly name: string; readonly start: number }) => {
    if (!read.has(start) && !imported.has(name) && !names.has(name)) names.set(name, start);
  };
  new Visitor({
    MemberExpression: ({ computed, property }) => void (computed || read.add(property.start)),
    ImportSpecifier: ({ imported: made, local }) => {
      if (made.start === local.start) imported.add(local.name);
      else read.add(made.start);
    },
    TSQualifiedName: ({ right }) => void read.add(right.start),
    Identifier: add,
    PrivateIdentifier: add,
  }).visit(program);
  return names;
}

/** Names of files, and in them: in src all, of the tests what they export. */
export const words: Rule = {
  name: "words",
  check(tree) {
    const findings: Finding[] = [];
    const files = [...tree.files.values()].filter(({ path }) => /^(src|test)\//.test(path));
    for (const file of files) {
      const { path, text } = file;
      const names = path.startsWith("src/")
        ? [...namesIn(file)].map(([name, offset]) => ({ name, line: lineAt(text, offset) }))
        : file.exports;
      for (const { name, line } of names) {
        const message = faultOf(name, path);
        if (message !== undefined) findings.push({ file: path, line, message });
      }
      const message = faultOf(posix.basename(path).replace(/\..*$/, ""), path);
      if (message !== undefined) findings.push({ file: path, message: `the file's name, ${message}` });
    }
    return { read: files.length, failures: findings };
  },
};
