// Judges mutations: a test that passes must fail once its fence is out.
import type { Mutation } from "./mutation.ts";
import type { Runner } from "./runner.ts";
import type { Sources } from "./sources.ts";
import type { Outcomes, Run } from "./test-run.ts";

/** A mutation with the text of what it changes. */
export type Mutant = { readonly mutation: Mutation; readonly changed: ReadonlyMap<string, string> };

/** `caught` names the test that failed, with what it said. */
export type Verdict = { readonly mutation: Mutation } & (
  | { readonly outcome: "caught"; readonly by: string; readonly said: string }
  | { readonly outcome: "survived" | "unsound" | "broken"; readonly why: string }
);

/** Whether the tests that are to catch it pass. Others of the run may have failed, which ends it. */
function passes({ caughtBy }: Mutation, { outcomes }: Outcomes): boolean {
  const own = outcomes.filter(({ name, status }) => name.includes(caughtBy.test) && status !== "skipped");
  return own.length > 0 && own.every(({ status }) => status === "passed");
}

/** Why tests do not pass, in one line. */
function failureOf({ outcomes, errors }: Outcomes): string {
  const failed = outcomes.find(({ status }) => status === "failed");
  return failed === undefined ? (errors[0] ?? "no such test") : `${failed.name}: ${failed.message}`;
}

/** Of waiting: a machine that is busy with other things fails so too. */
const WAITED = /timed? ?out|timeout|never came/i;

async function judge(runner: Runner, sources: Sources, { mutation, changed }: Mutant): Promise<Verdict> {
  const { file, test } = mutation.caughtBy;
  const remade = sources.remadeBy(changed);
  const mutant: Run = { changed: [...changed], file: `test/${file}`, names: [test], remade };
  const tried = async (): Promise<Verdict> => {
    const { outcomes, errors } = await runner.run(mutant);
    const failed = outcomes.find(({ status }) => status === "failed");
    if (failed !== undefined) return { mutation, outcome: "caught", by: failed.name, said: failed.message };
    // Code that cannot be loaded is missed by whatever test there is.
    if (errors[0] !== undefined) return { mutation, outcome: "broken", why: `nothing could be tested: ${errors[0]}` };
    return { mutation, outcome: "survived", why: `test/${file} passes` };
  };
  const verdict = await tried();
  if (verdict.outcome !== "caught" || !WAITED.test(verdict.said)) return verdict;
  const between = await runner.run({ ...mutant, changed: [], remade: "nothing" });
  if (!passes(mutation, between)) return { mutation, outcome: "unsound", why: `without it too: ${failureOf(between)}` };
  return await tried();
}

/** Judges mutations that tests of the same file catch, in turn; first these tests run without any. */
export async function* judgeFile(
  runner: Runner,
  sources: Sources,
  file: string,
  mutants: readonly Mutant[],
): AsyncGenerator<Verdict> {
  const unchanged = (names: readonly string[]) =>
    runner.run({ changed: [], file: `test/${file}`, names: [...names], remade: "nothing" });
  const all = await unchanged(mutants.map(({ mutation }) => mutation.caughtBy.test)).catch(() => undefined);
  for (const mutant of mutants) {
    const { mutation } = mutant;
    try {
      const alone = all !== undefined && passes(mutation, all) ? all : await unchanged([mutation.caughtBy.test]);
      if (passes(mutation, alone)) yield await judge(runner, sources, mutant);
      else yield { mutation, outcome: "unsound", why: `without it too: ${failureOf(alone)}` };
    } catch (error) {
      yield { mutation, outcome: "broken", why: String(error) };
    }
  }
}
