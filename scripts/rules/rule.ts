// What an architecture rule is, and how several are run over one tree.

import type { Tree } from "./tree.ts";

/** Something a rule found: where, and in words what to do about it. */
export type Finding = { file: string; line?: number; message: string };

/** What one rule says of a tree. `read` counts the files that it looked at: none is a fault of its own. */
export type Verdict = { read: number; failures: readonly Finding[]; warnings?: readonly Finding[] };

/** One rule over the whole tree. */
export type Rule = { name: string; check: (tree: Tree) => Verdict };

/** The verdict of one rule, under its name. */
export type Report = { rule: string; read: number; failures: readonly Finding[]; warnings: readonly Finding[] };

/** Runs each rule. A rule that read no file fails: it would pass whatever the code does. */
export function runRules(rules: readonly Rule[], tree: Tree): readonly Report[] {
  return rules.map(({ name, check }) => {
    const { read, failures, warnings = [] } = check(tree);
    const blind = read === 0 ? [{ file: tree.root, message: "this rule read no file, so it proves nothing" }] : [];
    return { rule: name, read, failures: [...blind, ...failures], warnings };
  });
}

/** A finding as one line that editors can follow. */
export function describe(finding: Finding): string {
  return `${finding.file}${finding.line === undefined ? "" : `:${finding.line}`} ${finding.message}`;
}
