// Takes out one fence after the other, expects its test to fail, and writes the table of them: `npm run test:mutations`.
// Arguments are parts of names, to try only those; `--table` alone writes the table and tries none.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { missingEventStore } from "../../support/eventstored.ts";
import { mutations, tableOf, withTable } from "./all.ts";
import { caught, copyOfTree, mutated, ROOT, runTests } from "./runner.ts";

async function writeTable(): Promise<void> {
  const page = join(ROOT, "docs/testing.md");
  await writeFile(page, withTable(await readFile(page, "utf8")));
}

const USAGE = `usage: npm run test:mutations [-- <part of a name>... | --table | --help]
  without arguments    tries every mutation, and writes the table of docs/testing.md
  <part of a name>     tries only mutations whose name contains one of the parts
  --table              writes the table, and tries none`;

const wanted = process.argv.slice(2);
const option = wanted.find((one) => one.startsWith("-"));
if (option !== undefined && (option !== "--table" || wanted.length > 1)) {
  const isHelp = option === "--help" || option === "-h";
  (isHelp ? console.log : console.error)(
    isHelp ? USAGE : `${option}: ${option === "--table" ? "takes no names" : "there is no such option"}\n${USAGE}`,
  );
  process.exit(isHelp ? 0 : 64);
}
if (wanted[0] === "--table") {
  await writeTable();
  process.exit();
}
const chosen = mutations.filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)));
const skipped = chosen.filter(({ needs }) => needs === "EventStoreDB" && missingEventStore !== undefined);
const tried = chosen.filter((one) => !skipped.includes(one));
const faults: string[] = [];

for (const one of chosen) await mutated(ROOT, one); // a list that is out of date ends it here
await using copy = await copyOfTree();

const files = [...new Set(tried.map((one) => `test/${one.caughtBy.file}`))];
console.log(`Without mutations: tests of ${files.length} files`);
const names = [...new Set(tried.map((one) => one.caughtBy.test))];
const outcomes = await runTests(copy.path, files, names);
const sound = tried.filter(({ name, caughtBy: { file, test } }) => {
  const own = outcomes.filter((one) => one.file === `test/${file}` && one.name.includes(test));
  const passed = own.some(({ status }) => status === "passed") && own.every(({ status }) => status !== "failed");
  if (!passed) faults.push(`${name}: its test does not pass, or is not there, without the mutation`);
  return passed;
});

for (const one of sound) {
  const begun = performance.now();
  const failed = await caught(copy.path, one).catch((error: unknown) => {
    faults.push(`${one.name}: ${String(error)}`);
    return undefined;
  });
  const seconds = `${((performance.now() - begun) / 1_000).toFixed(1)} s`;
  if (failed?.length === 0) faults.push(`${one.name}: survived test/${one.caughtBy.file}`);
  console.log(`${failed?.length ? "caught  " : "SURVIVED"} ${one.name} (${seconds}) ${failed?.[0] ?? ""}`);
}

for (const { name } of skipped) console.log(`not run  ${name}: ${missingEventStore}`);
console.log(`\n${tableOf(chosen)}\n`);
console.log(`${chosen.length} mutations, ${sound.length} tried, ${skipped.length} not run, ${faults.length} faults`);
for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exitCode = 1;
else if (wanted.length === 0) await writeTable();
