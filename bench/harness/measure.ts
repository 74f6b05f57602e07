// Measuring candidates against each other: rounds in which each has its turn, and what the rounds say together.

/** One way of doing the work; `turn` does it for one round and gives how much of it was done per second. */
export type Candidate = { readonly name: string; readonly turn: (round: number) => Promise<number> };

/** What each candidate reached in each round, by name. */
export type Rounds = ReadonlyMap<string, readonly number[]>;

/**
 * Gives every candidate one turn a round. The order turns with the rounds, so that nobody always runs on what another
 * left warm, and a disturbance of the machine meets all of them alike. The first round is not counted: it warms up.
 */
export async function interleave(candidates: readonly Candidate[], rounds: number): Promise<Rounds> {
  const reached = new Map<string, number[]>(candidates.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round += 1) {
    for (let place = 0; place < candidates.length; place += 1) {
      const candidate = candidates[(place + round) % candidates.length];
      if (candidate === undefined) continue;
      const result = await candidate.turn(round);
      if (round > 0) reached.get(candidate.name)?.push(result);
    }
  }
  return reached;
}

/** The middle value; of an even number the mean of the two in the middle. Throws a RangeError without values. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("no values");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** Milliseconds of one run of the work: the median of many, one after the other. */
export async function typicalMs(times: number, work: () => Promise<unknown>): Promise<number> {
  const took: number[] = [];
  for (let time = 0; time < times; time += 1) {
    const start = performance.now();
    await work();
    took.push(performance.now() - start);
  }
  return median(took);
}

/** The value that `share` of the values do not exceed (nearest rank). Throws a RangeError without values. */
export function quantile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError("no values");
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** How far the values lie apart: from the least to the greatest, in parts of the median. */
export function spread(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / median(values);
}

/** One candidate's results over another's, round by round. */
export function ratios(rounds: Rounds, over: string, under: string): readonly number[] {
  const below = rounds.get(under) ?? [];
  return (rounds.get(over) ?? []).map((value, round) => value / (below[round] ?? Number.NaN));
}

/** Runs `lanes` loops of `work` side by side for a time; gives how many times it ended per second. */
export async function perSecond(lanes: number, ms: number, work: (lane: number) => Promise<number>): Promise<number> {
  let done = 0;
  const start = performance.now();
  const until = start + ms;
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      while (performance.now() < until) {
        // In two steps: `+=` would take the sum as it was before the wait.
        const ended = await work(lane);
        done += ended;
      }
    }),
  );
  return (done * 1_000) / (performance.now() - start);
}
