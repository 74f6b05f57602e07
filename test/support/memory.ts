// The memory that is in use, without what only waits to be collected.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Figures of this process in bytes, after a collection: those before it depend on when the engine last collected. */
export function memoryInUse(): NodeJS.MemoryUsage {
  collect();
  return process.memoryUsage();
}
