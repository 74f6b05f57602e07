// The wrapping key of development mode: made once in the data folder. Whoever loses it loses what is sealed.
import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { failpoint } from "../platform/failpoint.ts";
import { absent, syncFolder } from "./os.ts";

/** The ring that is kept in the data folder, made when it is not there. It is whole and on the disk when this returns. */
export async function ownEncryptionKeys(dataDir: string): Promise<readonly string[]> {
  const file = join(dataDir, "encryption-keys");
  await mkdir(dataDir, { recursive: true });
  const there = await readFile(file, "utf8").catch(absent);
  return (there ?? (await make(file, dataDir))).trim().split(/[\s,]+/);
}

/** Under another name first: a process that is killed meanwhile must not leave a file without a key. */
async function make(file: string, dataDir: string): Promise<string> {
  const made = `${randomBytes(32).toString("base64")}\n`;
  await writeFile(`${file}.new`, made, { mode: 0o600, flush: true });
  failpoint("own-key-written/in-place");
  await rename(`${file}.new`, file);
  await syncFolder(dataDir);
  return made;
}
