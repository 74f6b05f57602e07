// What a mutation is: one fence taken out of the source, and the test that must notice.

type Change = { readonly find: string; readonly replace: string };

export type Mutation = {
  /** The fence that is gone. */
  readonly name: string;
  /** Under the project's root. */
  readonly file: string;
  /** Each `find` stands exactly once in the file. One suffices, unless what is read has to match what is written. */
  readonly changes: readonly Change[];
  readonly caughtBy: {
    readonly file: string;
    /** A part of the names of its tests, with those of the suites around them. */
    readonly test: string;
  };
  /** Only where this can be had. */
  readonly needs?: "EventStoreDB";
};

/** The usual one: a single place. */
export const mutation = (
  name: string,
  file: string,
  find: string,
  replace: string,
  caughtBy: string,
  test: string,
): Mutation => ({
  name,
  file: `src/${file}`,
  changes: [{ find, replace }],
  caughtBy: { file: `test/${caughtBy}`, test },
});
