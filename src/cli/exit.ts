// How commands end: the exit codes that scripts rely on, and what is printed on the way.

/** Exit codes, in the manner of sysexits. */
export const EXIT = { ok: 0, failed: 1, different: 2, notFound: 3, usage: 64, config: 78 } as const;

/** One line on standard output. */
export const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** One line on standard error; gives the exit code. */
export function fail(line: string, code: number = EXIT.usage): number {
  process.stderr.write(`${line}\n`);
  return code;
}
