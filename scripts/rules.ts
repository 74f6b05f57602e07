// The architecture rules over this repository: prints what they find, fails the run on any failure.

import { fileURLToPath } from "node:url";
import { fragments, reasons, size } from "./rules/files.ts";
import { barrels, circles, folderCircles, onlyTests, resolves, unused } from "./rules/graph.ts";
import { dependencies, layers } from "./rules/layers.ts";
import { purity } from "./rules/purity.ts";
import { describe, runRules } from "./rules/rule.ts";
import { readTree } from "./rules/tree.ts";
import { words } from "./rules/words.ts";

const RULES = [
  ...[layers, dependencies, purity, circles, folderCircles, barrels, resolves, unused, onlyTests],
  ...[size, fragments, reasons, words],
];

const root = process.argv[2] ?? fileURLToPath(new URL("..", import.meta.url));
const reports = runRules(RULES, readTree(root));

for (const { rule, read, failures, warnings } of reports) {
  for (const warning of warnings) console.log(`warning  ${rule}: ${describe(warning)}`);
  for (const failure of failures) console.error(`error    ${rule}: ${describe(failure)}`);
  const warned = warnings.length === 0 ? "" : `, ${warnings.length} warnings`;
  console.log(`${failures.length === 0 ? "ok      " : "FAILED  "} ${rule}, ${read} files read${warned}`);
}
if (reports.some((report) => report.failures.length > 0)) process.exitCode = 1;
