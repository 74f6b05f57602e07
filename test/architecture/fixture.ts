// A small source tree in a temporary folder, for rules to find faults in.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { describe, type Rule, runRules } from "../../scripts/rules/rule.ts";
import { readTree } from "../../scripts/rules/tree.ts";

const MANIFEST = {
  dependencies: { zod: "1", pg: "1", "pg-boss": "1", "@eventstore/db-client": "1", ioredis: "1", koa: "1" },
  devDependencies: { vitest: "1" },
};

/** Writes the files (path to text) beside a package.json and gives the folder, which goes when the test ends. */
export function fixture(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), "chatapi-rules-"));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries({ "package.json": JSON.stringify(MANIFEST), ...files })) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

/** What one rule has against these files, one line a fault, its warnings, and how many files it read. */
export function judge(rule: Rule, files: Readonly<Record<string, string>>) {
  const [report] = runRules([rule], readTree(fixture(files)));
  if (report === undefined) throw new Error("no report");
  return { read: report.read, faults: report.failures.map(describe), warnings: report.warnings.map(describe) };
}
