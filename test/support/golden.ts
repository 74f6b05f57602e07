// What is checked in as it once was: values kept as JSON, compared by structure.
import { readFileSync, writeFileSync } from "node:fs";
import { expect } from "vitest";

/** `UPDATE_GOLDEN=1` writes what is there now instead of comparing. Run `npm run format`, and review the difference. */
const UPDATE = process.env.UPDATE_GOLDEN === "1";

/** Expects the value to be what the file holds; the order of keys does not count. */
export function expectGolden(file: URL, value: unknown): void {
  if (UPDATE) writeFileSync(file, JSON.stringify(value));
  expect(JSON.parse(JSON.stringify(value))).toEqual(JSON.parse(readFileSync(file, "utf8")));
}
