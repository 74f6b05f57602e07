// Runs tests on a copy of the tree, as it is or with one fence taken out, and says which of them failed.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdtemp, readFile, realpath, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readFences, withoutFence } from "./fences.ts";
import type { Mutation } from "./mutation.ts";
import { AnswerSchema, type Outcomes, type Run } from "./test-run.ts";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const COPIED = ["src", "test", "bin", "scripts", "bench", "docs", "package.json", "tsconfig.json", "vitest.config.ts"];

/** A copy that may be changed; the packages are those of the original. */
async function copyOfTree(): Promise<string> {
  const path = await realpath(await mkdtemp(join(tmpdir(), "chatapi-mutant-")));
  await chmod(path, 0o755);
  for (const name of COPIED) await cp(join(ROOT, name), join(path, name), { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(path, "node_modules"));
  return path;
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

/** Runs tests in a copy of the tree of its own, one run after the other. Dispose it, or its PostgreSQL stays. */
export class Runner implements AsyncDisposable {
  /** The copy. Between runs it is as the tree was. */
  readonly path: string;
  readonly #child: ChildProcess;

  private constructor(path: string) {
    this.path = path;
    const env = Object.fromEntries(
      Object.entries(process.env).filter(([key]) => !/^(VITEST|FAULTS|NODE_ENV)/.test(key)),
    );
    const program = fileURLToPath(new URL("test-process.ts", import.meta.url));
    this.#child = fork(program, [], { cwd: path, env, execArgv: [], stdio: ["ignore", "ignore", "inherit", "ipc"] });
  }

  static async open(): Promise<Runner> {
    return new Runner(await copyOfTree());
  }

  /** Throws when the run ended without outcomes. */
  async run(run: Run): Promise<Outcomes> {
    const gone = new AbortController();
    const onExit = () => gone.abort(new Error("the process that runs tests ended"));
    this.#child.once("exit", onExit);
    try {
      const answer = once(this.#child, "message", { signal: gone.signal });
      this.#child.send(run);
      const parsed = AnswerSchema.parse((await answer)[0]);
      if ("error" in parsed) throw new Error(parsed.error);
      return parsed;
    } finally {
      this.#child.off("exit", onExit);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.disconnect();
      await exited;
    }
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 });
  }
}
