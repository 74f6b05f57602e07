// Fails each test during which a frame went over a socket that the AsyncAPI document does not describe.
import { afterAll, afterEach } from "vitest";

const KEY = Symbol.for("chatapi.frame-violations");
const kept = globalThis as { [KEY]?: string[] };

/** What was found since it was last taken. Files that share a process share it, however often this one is loaded. */
export const violations: string[] = kept[KEY] ?? [];
kept[KEY] = violations;

function fail(): void {
  const found = violations.splice(0);
  if (found.length > 0) throw new Error(`frames that the AsyncAPI document does not describe:\n${found.join("\n")}`);
}

afterEach(fail);
afterAll(fail);
