// Gathers look-ups: while one round trip is under way, what is asked meanwhile waits and goes together in the next.

type Waiting<R, V> = { readonly request: R; readonly answers: ((answer: Answer<V>) => void)[] };
/** A failure that concerns one key alone. */
export type Failed = { readonly error: Error };
type Answer<V> = V | Failed | undefined;

/** Looks a key up. Gives undefined for one that does not exist; throws what `load` threw, or the error it gave for this key. */
type LookUp<R, V> = (name: string, request: R) => Promise<V | undefined>;

const hasFailed = (answer: unknown): answer is Failed =>
  typeof answer === "object" && answer !== null && "error" in answer;

/**
 * Makes a look-up around `load`, which is given requests by name, at most `atOnce`, never runs twice at once, and never sees a name
 * twice. What waits is bounded by those who wait.
 */
export function gathered<R, V extends object>(
  load: (requests: ReadonlyMap<string, R>) => Promise<ReadonlyMap<string, V | Failed>>,
  atOnce: number,
): LookUp<R, V> {
  const waiting = new Map<string, Waiting<R, V>>();
  let running = false;

  async function run(): Promise<void> {
    running = true;
    await null; // so that what is asked for together goes together
    while (waiting.size > 0) {
      const taken = [...waiting].slice(0, atOnce);
      for (const [name] of taken) waiting.delete(name);
      const found = await load(new Map(taken.map(([name, { request }]) => [name, request]))).catch(
        (error: unknown) => ({ error: error instanceof Error ? error : new Error(String(error)) }),
      );
      for (const [name, { answers }] of taken) {
        for (const answer of answers) answer(hasFailed(found) ? found : found.get(name));
      }
    }
    running = false;
  }

  return async (name, request) => {
    const answer = await new Promise<Answer<V>>((resolve) => {
      const there = waiting.get(name);
      if (there === undefined) waiting.set(name, { request, answers: [resolve] });
      else there.answers.push(resolve);
      if (!running) void run();
    });
    if (hasFailed(answer)) throw answer.error;
    return answer;
  };
}
