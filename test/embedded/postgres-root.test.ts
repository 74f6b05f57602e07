// The embedded PostgreSQL started by root, and its programs from an install that is unfinished or out of reach.

import { chmod, chown, cp, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, extname, join } from "node:path";
import { expect, test } from "vitest";
import { startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { installedBinaries, preparePostgresBinaries } from "../../src/embedded/postgres-binaries.ts";
import { dataFolder, postmasterPid, query } from "./data-folder.ts";

const asRoot = process.getuid?.() === 0;
/** "nobody" on most systems: an account with a name. */
const OTHER = { uid: 65_534, gid: 65_534 };
const NAMELESS = { uid: 54_321, gid: 54_321 };

const uidOf = async (pid: number) => (await stat(`/proc/${pid}`)).uid;

test.runIf(asRoot)("it runs as the owner of the data folder, in there, when that is not root", async () => {
  await using folder = await dataFolder();
  await mkdir(folder.path, { mode: 0o700 });
  await chown(folder.path, OTHER.uid, OTHER.gid);
  await using _postgres = await startEmbeddedPostgres({
    dataDir: folder.path,
    log: () => {},
    settings: { fsync: "off" },
  });
  expect(await uidOf(await postmasterPid(join(folder.path, "postgres")))).toBe(OTHER.uid);
  // So that an ordinary start by the folder's owner works as well later on.
  for (const name of await readdir(folder.path, { recursive: true })) {
    const found = await lstat(join(folder.path, name)).catch(() => undefined); // PostgreSQL is at work in there
    expect([name, found?.uid ?? OTHER.uid]).toEqual([name, OTHER.uid]);
  }
});

test.runIf(asRoot)("it runs as a system account when the owner of the data folder has no name", async () => {
  await using folder = await dataFolder();
  await mkdir(folder.path, { mode: 0o755 });
  await chown(folder.path, NAMELESS.uid, NAMELESS.gid);
  await using _postgres = await startEmbeddedPostgres({
    dataDir: folder.path,
    log: () => {},
    settings: { fsync: "off" },
  });
  expect([0, NAMELESS.uid]).not.toContain(await uidOf(await postmasterPid(join(folder.path, "postgres"))));
});

test.runIf(asRoot)("below a folder that only root can enter, its data goes elsewhere and is found again", async () => {
  await using folder = await dataFolder({ hidden: true });
  const lines: string[] = [];
  const start = () =>
    startEmbeddedPostgres({ dataDir: folder.path, log: (line) => lines.push(line), settings: { fsync: "off" } });
  const pointer = join(folder.path, "postgres-location");
  let home: string | undefined;
  try {
    await using first = await start();
    home = (await readFile(pointer, "utf8")).trim();
    expect(lines).toEqual([expect.stringContaining(`its data is in ${home}`)]);
    expect(await uidOf(await postmasterPid(home))).not.toBe(0);
    await query(first.url, "create table kept as select 1 as n");
    await first[Symbol.asyncDispose]();

    await using second = await start();
    expect(await query(second.url, "select n from kept")).toEqual([{ n: 1 }]);
    await second[Symbol.asyncDispose]();
    expect(lines).toHaveLength(1);

    // Losing it must not look like a fresh start.
    await rm(home, { recursive: true, force: true });
    await expect(start()).rejects.toThrow(`keeps its database in ${home}, which is not there`);
  } finally {
    if (home !== undefined) await rm(home, { recursive: true, force: true });
  }
});

/** An install by npm with scripts off: nothing executable, no links. */
async function bareInstall(parent: string) {
  const installed = await installedBinaries();
  const dir = join(parent, "native");
  const plain = async (path: string) => extname(path) !== ".a" && !(await lstat(path)).isSymbolicLink();
  await cp(installed.dir, dir, { recursive: true, filter: plain });
  for (const name of await readdir(join(dir, "bin"))) await chmod(join(dir, "bin", name), 0o644);
  return { ...installed, dir };
}

test("an install without its scripts is repaired in its place", async () => {
  await using folder = await dataFolder();
  const bare = await bareInstall(folder.path);
  expect(await preparePostgresBinaries(bare, undefined, join(folder.path, "copy"))).toEqual(bare);
  expect(await readdir(folder.path)).toEqual(["native"]);
});

test.runIf(asRoot)("programs that PostgreSQL's account cannot reach are copied once, in working order", async () => {
  await using hidden = await dataFolder({ hidden: true });
  await using reachable = await dataFolder();
  await mkdir(reachable.path, { mode: 0o755 });
  const bare = await bareInstall(hidden.path);
  const prepare = () => preparePostgresBinaries(bare, NAMELESS, reachable.path);
  const copied = await prepare();
  expect(dirname(copied.dir)).toBe(reachable.path);
  const made = (await stat(copied.dir)).ino;
  await prepare();
  expect((await stat(copied.dir)).ino).toBe(made);
  expect(await readdir(reachable.path)).toHaveLength(1);
});

test("programs that are beyond repair are one clear line", async () => {
  await using folder = await dataFolder();
  const broken = { ...(await installedBinaries()), dir: join(folder.path, "native") };
  await mkdir(join(broken.dir, "bin"), { recursive: true });
  await writeFile(join(broken.dir, "bin", "postgres"), "not a program");
  const preparing = preparePostgresBinaries(broken, undefined, folder.path);
  await expect(preparing).rejects.toThrow(
    /^the PostgreSQL programs of .* cannot be run \(.*\): run "npm ci" again, or/,
  );
});
