// Runs tests on a copy of the tree, as it is or with one fence taken out, and says which of them failed.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { readFences, withoutFence } from "./fences.ts";
import type { Mutation } from "./mutation.ts";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const COPIED = ["src", "test", "bin", "scripts", "bench", "docs", "package.json", "tsconfig.json", "vitest.config.ts"];
/** A run that takes longer is ended; what it was about counts as not caught. */
const RUN_TIMEOUT_MS = 600_000;
/** So much more for each further file of a run. */
const FILE_TIMEOUT_MS = 60_000;

/** A copy that may be changed; the packages are those of the original. */
export async function copyOfTree(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "chatapi-mutant-"));
  await chmod(path, 0o755);
  for (const name of COPIED) await cp(join(ROOT, name), join(path, name), { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(path, "node_modules"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}

/** The files that a mutation changes, with their new text. Throws when what it changes is not there exactly once. */
export async function mutated(
  root: string,
  mutation: Mutation,
  fences?: Awaited<ReturnType<typeof readFences>>,
): Promise<ReadonlyMap<string, string>> {
  const changed = new Map<string, string>();
  const change = async (file: string, by: (text: string) => string) =>
    changed.set(file, by(changed.get(file) ?? (await readFile(join(root, file), "utf8"))));
  if ("file" in mutation) {
    for (const { find, replace } of mutation.changes) {
      await change(mutation.file, (text) => {
        const times = text.split(find).length - 1;
        if (times !== 1)
          throw new Error(`"${mutation.name}": stands ${times} times in ${mutation.file}, not once: ${find}`);
        return text.replace(find, () => replace);
      });
    }
    return changed;
  }
  const marks = fences ?? (await readFences(root));
  for (const marked of [mutation, ...(mutation.also ?? [])]) {
    const files = marks.get(marked.fence) ?? [];
    const [file] = files;
    if (file === undefined || files.length > 1) {
      throw new Error(`"${mutation.name}": ${marked.fence} is marked ${files.length} times in src, not once`);
    }
    await change(file, (text) => withoutFence(file, text, marked));
  }
  return changed;
}

const ReportSchema = z.object({
  testResults: z.array(
    z.object({
      name: z.string(),
      message: z.string().optional(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string() })),
    }),
  ),
});
export type Outcome = { readonly file: string; readonly name: string; readonly status: string };

/** Runs the files' tests with one of these in their names. Throws when the run brought no report. */
export async function runTests(
  root: string,
  files: readonly string[],
  names: readonly string[],
): Promise<readonly Outcome[]> {
  const report = join(root, "report.json");
  await rm(report, { force: true });
  const named = ["-t", names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")];
  const reporter = ["--reporter=json", `--outputFile=${report}`];
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(VITEST|FAULTS|NODE_ENV)/.test(key)));
  const child = spawn(process.execPath, [vitest, "run", ...files, ...named, ...reporter], {
    ...{ cwd: root, env, stdio: ["ignore", "pipe", "pipe"], timeout: RUN_TIMEOUT_MS + FILE_TIMEOUT_MS * files.length },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (bytes) => (output += String(bytes)));
  await once(child, "exit");
  const text = await readFile(report, "utf8").catch(() => undefined);
  if (text === undefined)
    throw new Error(`the tests of ${files.join(", ")} brought no report:\n${output.slice(-2_000)}`);
  return ReportSchema.parse(JSON.parse(text)).testResults.flatMap(({ name, assertionResults }) =>
    assertionResults.map(({ fullName, status }) => ({ file: name.slice(root.length + 1), name: fullName, status })),
  );
}

/** The names of the tests that failed without the fence; none when it is not missed. The copy is then as it was. */
export async function caught(root: string, mutation: Mutation): Promise<readonly string[]> {
  const changed = await mutated(root, mutation);
  const before = new Map<string, string>();
  for (const file of changed.keys()) before.set(file, await readFile(join(root, file), "utf8"));
  const write = async (texts: ReadonlyMap<string, string>) => {
    for (const [file, text] of texts) await writeFile(join(root, file), text);
  };
  await write(changed);
  try {
    const { file, test } = mutation.caughtBy;
    const outcomes = await runTests(root, [`test/${file}`], [test]);
    return outcomes.filter(({ status }) => status === "failed").map(({ name }) => name);
  } finally {
    await write(before);
  }
}
