// The seed of everything that tests draw at random: another one for each commit, so that a run that fails fails again.
import { execFileSync } from "node:child_process";
import fc from "fast-check";

/** `npm run test:faults` runs for hours and draws anew each day. Without a repository it is the same always. */
function ownSeed(): number {
  if (process.env.FAULTS === "long") return Math.floor(Date.now() / 86_400_000);
  try {
    const head = execFileSync("git", ["rev-parse", "HEAD"], { cwd: import.meta.dirname, stdio: "pipe" }).toString();
    return Number.parseInt(head.slice(0, 7), 16);
  } catch {
    return 1;
  }
}

/** `FAULTS_SEED` takes a seed again that a failure printed. */
export const seed: number = Number(process.env.FAULTS_SEED ?? ownSeed());

fc.configureGlobal({ seed });
/** fast-check, with this seed. */
export default fc;
