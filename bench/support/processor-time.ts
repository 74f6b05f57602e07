// Processor time of processes and all their children, as Linux counts it in /proc: it says what an operation costs, however
// much of the machine a load generator takes.
import { readdirSync, readFileSync } from "node:fs";

/** Linux counts in hundredths of a second, whatever the kernel's own clock. */
const TICK_MS = 10;

/** Whether this system has /proc. */
export const canMeasure = process.platform === "linux";

type Stat = { readonly pid: number; readonly parent: number; readonly ownMs: number; readonly endedMs: number };

/** The fields after the name in parentheses, which may hold anything. */
function statOf(pid: string): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const ticks = (at: number) => Number(fields[at]) * TICK_MS;
    return {
      pid: Number(pid),
      parent: Number(fields[1]),
      ownMs: ticks(11) + ticks(12),
      endedMs: ticks(13) + ticks(14),
    };
  } catch {
    return undefined; // it ended meanwhile: its parent counts it
  }
}

/** Milliseconds that a process, its children and theirs took so far, those that have ended among them. */
export function processorMs(root: number): number {
  const stats = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => statOf(pid) ?? []);
  const sumOf = (stat: Stat): number =>
    stats
      .filter(({ parent }) => parent === stat.pid)
      .reduce((sum, child) => sum + sumOf(child), stat.ownMs + stat.endedMs);
  const found = stats.find(({ pid }) => pid === root);
  return found === undefined ? 0 : sumOf(found);
}

/** Milliseconds that each of a process and its children took so far, by process id. */
export const processorMsEach = (root: number): ReadonlyMap<number, number> =>
  new Map(
    readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap((pid) => statOf(pid) ?? [])
      .filter(({ pid, parent }) => pid === root || parent === root)
      .map(({ pid, ownMs }) => [pid, ownMs]),
  );

/** Milliseconds of the children of this process that have ended. */
export const endedChildrenMs = (): number => statOf("self")?.endedMs ?? 0;

/** The process that started another one; 0 when that is gone. */
export const parentOf = (pid: number): number => statOf(String(pid))?.parent ?? 0;

/** Milliseconds of this process alone. */
export const ownMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};

/** Milliseconds of one process's first thread, to the microsecond: what one short piece of work took of it. */
export const threadMs = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/schedstat`, "latin1").split(" ")[0]) / 1_000_000;
