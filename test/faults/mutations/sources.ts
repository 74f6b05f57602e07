// What a test can notice: its own file, all that it loads or starts, and the data beside the code.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";

const GLOBAL_SET_UP = "test/support/global-postgres.ts";
const DATABASES = "test/support/postgres.ts";
const TABLES = "test/support/database-with-tables.ts";
/** Loaded for every test, with the program that runs them. */
const ALWAYS = [GLOBAL_SET_UP, "test/support/frame-violations.ts", "test/faults/mutations/test-process.ts"];
const SETTINGS = ["vitest.config.ts", "package.json", "package-lock.json", "tsconfig.json"];
/** A file that is imported, or a program that is started by its path, relative to the root or to the file that names it. */
const NAMED = /["'`]([\w./-]+\.ts)["'`]/g;
/** Erased before it runs. */
const TYPES = /^(?:import|export) type [^;]*;/gm;

const hash = (...parts: readonly string[]): string => {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(`${part.length}:${part}`);
  return sum.digest("hex");
};

/** The sources as they are now. */
export function readSources(root: string) {
  const texts = new Map<string, string | undefined>();
  const textOf = (path: string): string | undefined => {
    if (!texts.has(path))
      texts.set(path, existsSync(join(root, path)) ? readFileSync(join(root, path), "utf8") : undefined);
    return texts.get(path);
  };
  const data = ["src", "test"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.endsWith(".ts"))
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  const settings = SETTINGS.map((path) => join(root, path));
  const beside = hash(
    process.version,
    ...[...settings, ...data.toSorted()].map((path) => readFileSync(path, "latin1")),
  );

  const named = new Map<string, readonly string[]>();
  const namedIn = (path: string, text: string): readonly string[] => {
    const names = [...text.replaceAll(TYPES, "").matchAll(NAMED)].map(([, name = ""]) => name);
    return [...names, ...names.map((name) => posix.join(posix.dirname(path), name))];
  };
  const reachableFrom = (starts: readonly string[]): ReadonlySet<string> => {
    const seen = new Set<string>();
    const visit = (path: string) => {
      const text = textOf(path);
      if (text === undefined || seen.has(path)) return;
      seen.add(path);
      const next = named.get(path) ?? namedIn(path, text);
      named.set(path, next);
      for (const one of next) visit(one);
    };
    for (const start of starts) visit(start);
    return seen;
  };
  const ofSetUp = reachableFrom([GLOBAL_SET_UP]);
  const ofTables = reachableFrom([TABLES]);
  const keys = new Map<string, string>();
  const keyOfFile = (path: string): string => {
    const known = keys.get(path);
    if (known !== undefined) return known;
    const reachable = [...reachableFrom([path, ...ALWAYS])].toSorted();
    const key = hash(beside, ...reachable.flatMap((one) => [one, textOf(one) ?? ""]));
    keys.set(path, key);
    return key;
  };

  return {
    /** The same as long as these tests, all that they can notice, and the change are the same. */
    keyOf: (file: string, test: string, changed: ReadonlyMap<string, string>): string =>
      hash(keyOfFile(file), test, ...[...changed].flat(), ...[...changed.keys()].map((one) => textOf(one) ?? "")),
    /** Whether tests of this file work on PostgreSQL, or start whole servers. */
    usesDatabase: (path: string): boolean => reachableFrom([path]).has(DATABASES),
    /** What changed files may have made that runs share: PostgreSQL itself, or the database with tables. */
    remadeBy: (changed: ReadonlyMap<string, string>) => {
      const paths = [...changed.keys()];
      if (paths.some((path) => ofSetUp.has(path))) return "everything";
      return paths.some((path) => ofTables.has(path)) ? "databases" : "nothing";
    },
  };
}
export type Sources = ReturnType<typeof readSources>;
