// What only benchmarks need: packages of bench/package.json, which the project itself neither has nor is checked with.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("..", import.meta.url));

/** Installs the packages of bench/package-lock.json when they are not there. Throws when that fails. */
export function installRivals(say: (line: string) => void): void {
  if (existsSync(`${FOLDER}node_modules`)) return;
  say("installing what is compared with (bench/package.json)");
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], { cwd: FOLDER, stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Error("the packages of bench/package.json could not be installed");
}

/** Loads one of them. The caller says what it takes it for. */
export const loadRival = (name: string): Promise<unknown> => import(name);

/** A file inside one of them. */
export const rivalFile = (path: string): string => `${FOLDER}node_modules/${path}`;
