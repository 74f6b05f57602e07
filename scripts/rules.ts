// The architecture rules over this repository: prints what they find, fails the run on any failure.

import { fileURLToPath } from "node:url";
import { reasons, size } from "./rules/files.ts";
import { barrels, circles, resolves, unused } from "./rules/graph.ts";
import { layers } from "./rules/layers.ts";
import { purity } from "./rules/purity.ts";
import { describe, runRules } from "./rules/rule.ts";
import { readTree } from "./rules/tree.ts";

const root = process.argv[2] ?? fileURLToPath(new URL("..", import.meta.url));
const reports = runRules([layers, purity, circles, barrels, resolves, unused, size, reasons], readTree(root));

for (const { rule, read, failures, warnings } of reports) {
  for (const warning of warnings) console.log(`warning  ${rule}: ${describe(warning)}`);
  for (const failure of failures) console.error(`error    ${rule}: ${describe(failure)}`);
  console.log(`${failures.length === 0 ? "ok      " : "FAILED  "} ${rule}, ${read} files read`);
}
if (reports.some((report) => report.failures.length > 0)) process.exitCode = 1;
