// Where the embedded PostgreSQL is kept: its account, its folder and its cluster.
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { failpoint } from "../platform/failpoint.ts";
import { absent, canAccess, exists, giveTo, type Owner, run, spawnAs, syncFolder, unprivilegedOwner } from "./os.ts";
import { installedBinaries, type PostgresBinaries, preparePostgresBinaries } from "./postgres-binaries.ts";

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
  const binaries = await preparePostgresBinaries(await installedBinaries(), owner, dir);
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
  const binaries = await preparePostgresBinaries(await installedBinaries(), owner, dir);
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
