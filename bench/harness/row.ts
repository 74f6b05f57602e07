// One line of the table: a number, its goal, and what it was measured against.
import { median, type Rounds, ratios, spread } from "./measure.ts";

/** A number that is measured, whether or not it could be. */
export type Goal = {
  readonly name: string;
  readonly goal: number;
  readonly direction: "at least" | "at most";
  /** `x` is a ratio. */
  readonly unit: "x" | "/s" | "ms" | "ms/s" | "MB";
};

export type Row = Goal & {
  /** The median of the rounds; null when it was not measured, `baseline` then says why. */
  readonly result: number | null;
  readonly holds: boolean;
  /** From the least to the greatest round, in parts of the median. */
  readonly spread: number | null;
  /** What it is measured against, with its figure. */
  readonly baseline: string;
  /** Our own figure behind a ratio. */
  readonly ours: string;
};

/** Judges what the rounds gave. */
export function rowOf(goal: Goal, values: readonly number[], told: { baseline: string; ours?: string }): Row {
  const result = median(values);
  const holds = goal.direction === "at least" ? result >= goal.goal : result <= goal.goal;
  return { ...goal, result, holds, spread: spread(values), baseline: told.baseline, ours: told.ours ?? "" };
}

/** A number that could not be measured here. */
export const notMeasured = (goal: Goal, why: string): Row => ({
  ...goal,
  ...{ result: null, holds: false, spread: null, baseline: `not measured: ${why}`, ours: "" },
});

/** Judges the ratio of two candidates, with the median of each beside it. */
export function ratioRow(goal: Goal, rounds: Rounds, over: string, under: string, unit = "/s"): Row {
  const figure = (name: string) => `${name}: ${shown(median(rounds.get(name) ?? []))} ${unit}`;
  return rowOf(goal, ratios(rounds, over, under), { baseline: figure(under), ours: figure(over) });
}

/** A number as people read it: three significant digits, thousands parted. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(4, digits) });
}
