// A mutation: one fence taken out of the source, and the test that must fail then.
//
// A fence is named by a marker in the source, so that renaming and moving code breaks no entry of the list:
//
//   // fence: if-match                      on a line of its own directly above a statement, a class member, a property
//   if (ifMatch !== etag) throw …           of an object, a `case` or a link of a chain (`.where(…)`)
//
//   if (/* fence: if-match */ a !== b || c) directly before an expression: the longest one that starts there, but of
//                                           `&&`, `||` and `??` the operand, of `?:` the condition
//
//   WHERE /* fence: rls */ client = $1      inside SQL text: up to `/* end */`, else to the end of the line
//
// An entry of the list then reads
//
//   {
//     fence: "if-match",
//     name: "If-Match",
//     mutate: drop,
//     caughtBy: { file: "specs/room-messages.test.ts", test: "holds to the seq of the message's last change" },
//   },
//
// with one of these changes, made on the syntax tree (in SQL on its text):
//
//   drop                  takes out the statement, member, property, `case`, link, argument, element or operand of `&&`, `||`, `??`
//   condition(false)      sets the condition of the `if`, loop or `?:`, or the marked expression
//   replaceWith("code")   gives other code for what the statement computes: the initial value, what is returned, thrown or
//                         assigned, the value of a property; else the marked expression or SQL itself
//   substitute("a", "b")  replaces text that stands exactly once in the marked node
//
// `also` takes out a second fence with the first, where what is read has to match what is written. Several entries may name
// one fence; each marker in `src` must have an entry, and each entry a marker that is there exactly once.
//
// The older form, `mutation(name, file, find, replace, …)`, names a file and text that stands exactly once in it. Entries are
// converted when the code that they change moves.

/** What becomes of a marked node. */
export type Change =
  | { readonly kind: "drop" }
  | { readonly kind: "condition"; readonly value: boolean }
  | { readonly kind: "replaceWith"; readonly code: string }
  | { readonly kind: "substitute"; readonly find: string; readonly replace: string };

/** Takes the marked code out. */
export const drop: Change = { kind: "drop" };
/** Makes the marked condition constant. */
export const condition = (value: boolean): Change => ({ kind: "condition", value });
/** Puts other code in place of what the marked code computes. */
export const replaceWith = (code: string): Change => ({ kind: "replaceWith", code });
/** Replaces a text that stands exactly once in the marked code. */
export const substitute = (find: string, replace: string): Change => ({ kind: "substitute", find, replace });

/** A marked fence and what becomes of it. */
export type Marked = { readonly fence: string; readonly mutate: Change };

/** Literal text of one file. Each `find` stands exactly once in the file. */
type Literal = {
  readonly file: string;
  readonly changes: readonly { readonly find: string; readonly replace: string }[];
};

export type Mutation = ((Marked & { readonly also?: readonly Marked[] }) | Literal) & {
  /** The fence that is gone, in words. */
  readonly name: string;
  readonly caughtBy: {
    /** Under `test`. */
    readonly file: string;
    /** A part of the names of its tests, with those of the suites around them. */
    readonly test: string;
  };
  /** Only where this can be had. */
  readonly needs?: "EventStoreDB";
};

/** An entry of the older form. */
export const mutation = (
  name: string,
  file: string,
  find: string,
  replace: string,
  caughtBy: string,
  test: string,
): Mutation => ({ name, file: `src/${file}`, changes: [{ find, replace }], caughtBy: { file: caughtBy, test } });
