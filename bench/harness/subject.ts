// What a benchmark is: a path that people pay for, and the rows of the table that it fills.
import type { BenchPostgres } from "../support/postgres.ts";
import type { Goal, Row } from "./row.ts";

/** What every benchmark is given. */
export type Bench = {
  /** Counted rounds. */
  readonly rounds: number;
  /** How long one turn of a candidate lasts. */
  readonly turnMs: number;
  /** How many events a large log has. */
  readonly events: number;
  /** PostgreSQL with its full promise of durability. */
  readonly postgres: BenchPostgres;
  /** Says on stderr what is going on. */
  readonly say: (line: string) => void;
};

export type Subject = {
  /** How it is called on the command line. */
  readonly name: string;
  readonly about: string;
  readonly goals: readonly Goal[];
  /** Gives a row for each of its goals. */
  readonly run: (bench: Bench) => Promise<readonly Row[]>;
};
