// Runs tests of the copy of the tree in its working directory, as its parent asks over IPC. Vitest, the modules that it has
// transformed and the PostgreSQL of its global set-up stay for all runs; each run has test workers of its own.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { createVitest, type TestCase, type TestModule, type TestSuite, type Vitest } from "vitest/node";
import { type Outcomes, type Run, RunSchema } from "./test-run.ts";

/** A run that takes longer is ended without a verdict. */
const RUN_TIMEOUT_MS = 300_000;

const root = process.cwd();
let running: Vitest | undefined;

/** Nothing is printed, and the first test that fails ends a run: it is all that a verdict needs. */
async function vitest(): Promise<Vitest> {
  running ??= await createVitest({ root, watch: false, reporters: [{}], bail: 1 });
  return running;
}

async function closeVitest(): Promise<void> {
  await running?.close();
  running = undefined;
}

/** Drops what tests have left, the template with all tables first of all, which later runs would copy. */
async function dropDatabases(): Promise<void> {
  const url = running?.getRootProject().getProvidedContext().postgresUrl;
  if (url === undefined) return;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const others = "select datname from pg_database where not datistemplate and datname <> all ($1)";
    const kept = [new URL(url).pathname.slice(1), "postgres"];
    for (const { datname } of (await client.query<{ datname: string }>(others, [kept])).rows)
      await client.query(`drop database ${client.escapeIdentifier(datname)} with (force)`);
  } finally {
    await client.end();
  }
}

async function renew(remade: Run["remade"]): Promise<void> {
  if (remade === "everything") await closeVitest();
  // One that PostgreSQL vacuums just then cannot be dropped.
  if (remade === "databases") await dropDatabases().catch(closeVitest);
}

async function write(texts: Run["changed"]): Promise<void> {
  for (const [file, text] of texts) {
    await writeFile(join(root, file), text);
    running?.invalidateFile(join(root, file));
  }
}

async function withChanges<T>({ changed, remade }: Run, run: () => Promise<T>): Promise<T> {
  const before: Run["changed"] = [];
  for (const [file] of changed) before.push([file, await readFile(join(root, file), "utf8")]);
  try {
    await write(changed);
    await renew(remade);
    return await run();
  } finally {
    await write(before);
    await renew(remade);
  }
}

const MAX_MESSAGE = 200;
const firstLine = (text: string): string => (text.split("\n", 1)[0] ?? "").slice(0, MAX_MESSAGE);
const errorsOf = (one: TestModule | TestSuite): readonly string[] =>
  one.errors().map(({ message }) => firstLine(message));

function nameOf(test: TestCase | TestSuite): string {
  return test.parent.type === "module" ? test.name : `${nameOf(test.parent)} ${test.name}`;
}

/** Vitest puts ` > ` between the names of suites and tests. */
const patternOf = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(" ", "(?: >)? ");

async function runTests(run: Run): Promise<Outcomes> {
  const path = join(root, run.file);
  const tests = await vitest();
  const specifications = (await tests.globTestSpecifications([run.file])).filter(({ moduleId }) => moduleId === path);
  if (specifications.length === 0) throw new Error(`${run.file} is no file of tests`);
  tests.setGlobalTestNamePattern(new RegExp(run.names.map(patternOf).join("|")));
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    // The second time it ends workers that do not end by themselves.
    for (let times = 0; times < 2; times += 1) void tests.cancelCurrentRun("keyboard-input").catch(() => undefined);
  }, RUN_TIMEOUT_MS);
  const { testModules, unhandledErrors } = await tests.runTestSpecifications(specifications);
  clearTimeout(timer);
  if (timedOut) throw new Error(`${run.file} took longer than ${RUN_TIMEOUT_MS / 1_000} s`);
  const modules = testModules.filter(({ moduleId }) => moduleId === path);
  const outcomes = modules.flatMap(({ children }) =>
    [...children.allTests()].map((test) => {
      const { state, errors } = test.result();
      return { name: nameOf(test), status: state, message: firstLine(errors?.[0]?.message ?? "") };
    }),
  );
  const suites = modules.flatMap((module) => [module, ...module.children.allSuites()]);
  return {
    outcomes,
    errors: [...suites.flatMap(errorsOf), ...unhandledErrors.map((error) => firstLine(String(error)))],
  };
}

process.on("message", async (message) => {
  const run = RunSchema.parse(message);
  const answer = await withChanges(run, () => runTests(run)).catch((error: unknown) => ({ error: String(error) }));
  process.exitCode = 0; // tests that fail set it
  process.send?.(answer);
});
// The parent says when it ends, also when a terminal tells all of its processes.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => undefined);
process.once("disconnect", async () => {
  await closeVitest();
  process.exit();
});
