// Takes out one fence after the other, expects its test to fail, and writes the table of them: `npm run test:mutations`.
// Arguments are parts of names, to try only those; see the usage below.
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { missingEventStore } from "../../support/eventstored.ts";
import { mutations, withTable } from "./all.ts";
import { readFences } from "./fences.ts";
import { judgeFile, type Mutant, type Verdict } from "./judge.ts";
import type { Mutation } from "./mutation.ts";
import { mutated, ROOT, Runner } from "./runner.ts";
import { readSources } from "./sources.ts";

const USAGE = `usage: npm run test:mutations [-- <part of a name>... | --again | --table | --help]
  without arguments    tries every mutation, and writes the table of docs/testing.md
  <part of a name>     tries only mutations whose name contains one of the parts
  --again              tries also those that were caught with the same sources before
  --table              writes the table, and tries none`;

/** Mutations that were caught, by a key of all that the verdict rests on: a run that was ended goes on where it was. */
const CAUGHT_BEFORE = join(ROOT, "node_modules/.cache/chatapi-mutations.ndjson");
const CaughtSchema = z.object({ key: z.string(), by: z.string() });

function readArguments() {
  try {
    const options = {
      again: { type: "boolean" },
      table: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    } as const;
    const { values, positionals } = parseArgs({ options, allowPositionals: true });
    if (values.table && (positionals.length > 0 || values.again)) throw new Error("--table takes no names");
    return { ...values, parts: positionals };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${USAGE}`);
    process.exit(64);
  }
}

async function writeTable(): Promise<void> {
  const page = join(ROOT, "docs/testing.md");
  await writeFile(page, withTable(await readFile(page, "utf8")));
}

async function readCaught(): Promise<Map<string, string>> {
  const text = await readFile(CAUGHT_BEFORE, "utf8").catch(() => "");
  const lines = text.split("\n").filter((line) => line !== "");
  return new Map(lines.map((line) => CaughtSchema.parse(JSON.parse(line))).map(({ key, by }) => [key, by]));
}

const { parts, again, table, help } = readArguments();
if (help) console.log(USAGE);
if (table) await writeTable();
if (help || table) process.exit();

const begun = performance.now();
const chosen = mutations.filter(({ name }) => parts.length === 0 || parts.some((part) => name.includes(part)));
const isMissing = ({ needs }: Mutation) => needs === "EventStoreDB" && missingEventStore !== undefined;
const sources = readSources(ROOT);
const before = again ? new Map<string, string>() : await readCaught();
const keys = new Map<Mutation, string>();
const [known, tried]: [Mutation[], Mutant[]] = [[], []];
const fences = await readFences(ROOT);
for (const mutation of chosen) {
  const changed = await mutated(ROOT, mutation, fences); // a list that is out of date ends it here
  const key = sources.keyOf(`test/${mutation.caughtBy.file}`, mutation.caughtBy.test, changed);
  keys.set(mutation, key);
  if (isMissing(mutation)) continue;
  if (before.has(key)) known.push(mutation);
  else tried.push({ mutation, changed });
}

const counts = { caught: 0, survived: 0, unsound: 0, broken: 0 };
const faults: string[] = [];
async function report(verdict: Verdict, seconds: number): Promise<void> {
  const { mutation, outcome } = verdict;
  counts[outcome] += 1;
  const about = outcome === "caught" ? `${verdict.by}: ${verdict.said}` : verdict.why;
  console.log(`${outcome.padEnd(8)} ${mutation.name} (${seconds.toFixed(1)} s) ${about}`);
  if (outcome !== "caught") faults.push(`${outcome}: ${mutation.name}: ${about}`);
  else await appendFile(CAUGHT_BEFORE, `${JSON.stringify({ key: keys.get(mutation), by: verdict.by })}\n`);
}

// Those that take a second first; then those with most: at the end, no process is left with much alone.
const isSlow = (file: string): number => Number(sources.usesDatabase(`test/${file}`));
const queue = [...Map.groupBy(tried, ({ mutation }) => mutation.caughtBy.file)].toSorted(
  ([file, some], [other, others]) => isSlow(file) - isSlow(other) || others.length - some.length,
);
console.log(`${chosen.length} mutations, ${tried.length} to try, with tests of ${queue.length} files`);

let isStopping = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    console.error(`${signal}: ends after the mutations that are being tried; the same command goes on from there`);
    isStopping = true;
  });
}

/** Judges one file's mutations after the other. */
async function work(): Promise<void> {
  await using runner = await Runner.open();
  for (let next = queue.shift(); next !== undefined && !isStopping; next = queue.shift()) {
    let since = performance.now();
    for await (const verdict of judgeFile(runner, sources, ...next)) {
      await report(verdict, (performance.now() - since) / 1_000);
      since = performance.now();
      if (isStopping) break;
    }
  }
}

await mkdir(dirname(CAUGHT_BEFORE), { recursive: true });
// Tests wait for timers and disks more than they compute.
await Promise.all(Array.from({ length: Math.min(availableParallelism(), queue.length) }, work));

for (const one of known)
  console.log(`caught   ${one.name} (with the same sources before) ${before.get(keys.get(one) ?? "")}`);
for (const one of chosen.filter(isMissing)) console.log(`not run  ${one.name}: ${missingEventStore}`);
const minutes = ((performance.now() - begun) / 60_000).toFixed(1);
console.log(
  `\n${chosen.length} mutations in ${minutes} min: ${counts.caught + known.length} caught (${known.length} before), ${counts.survived} survived,` +
    ` ${counts.unsound} whose test fails without them, ${counts.broken} without a verdict,` +
    ` ${chosen.filter(isMissing).length} not run`,
);
for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exitCode = 1;
else if (parts.length === 0 && !isStopping) await writeTable();
