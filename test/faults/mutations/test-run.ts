// What the process that runs tests is asked, and what it answers.
import { z } from "zod";

export const RunSchema = z.object({
  /** Files with the text that they have during the run; afterwards they are as before. */
  changed: z.array(z.tuple([z.string(), z.string()])),
  /** A test file, relative to the root. */
  file: z.string(),
  /** Only tests with one of these in their names, which include those of the suites around them. */
  names: z.array(z.string()),
  /** What the changed files have made and other runs would share. */
  remade: z.enum(["nothing", "databases", "everything"]),
});
/** A run of tests. */
export type Run = z.infer<typeof RunSchema>;

const OutcomeSchema = z.object({ name: z.string(), status: z.string(), message: z.string() });
export const AnswerSchema = z.union([
  /** `errors`: of the file and its suites, outside of tests. */
  z.object({ outcomes: z.array(OutcomeSchema), errors: z.array(z.string()) }),
  z.object({ error: z.string() }),
]);
/** What came of a run. */
export type Outcomes = Extract<z.infer<typeof AnswerSchema>, { outcomes: unknown }>;
