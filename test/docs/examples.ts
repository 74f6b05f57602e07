// Reads the guides' examples: fenced blocks of requests, answers and frames, and what is kept from an answer.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

export type Example =
  | { readonly kind: "request"; readonly line: number; readonly text: string }
  | { readonly kind: "answer"; readonly line: number; readonly text: string }
  | { readonly kind: "frames"; readonly line: number; readonly lines: readonly string[] }
  /** `<!-- NAME = member -->`: keeps a member of the last answer under a name. */
  | { readonly kind: "keep"; readonly line: number; readonly name: string; readonly member: string };

const KINDS: Record<string, "request" | "answer" | "frames"> = { http: "request", json: "answer", ws: "frames" };

/** The examples of a guide in docs/, in order. */
export async function examplesOf(guide: string): Promise<readonly Example[]> {
  const file = fileURLToPath(new URL(`../../docs/${guide}`, import.meta.url));
  const lines = (await readFile(file, "utf8")).split("\n");
  const examples: Example[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const keep = /^<!-- ([A-Z]+) = ([a-z_]+) -->$/.exec(lines[at] ?? "");
    if (keep !== null) examples.push({ kind: "keep", line: at + 1, name: keep[1] ?? "", member: keep[2] ?? "" });
    const kind = KINDS[/^```([a-z]+)$/.exec(lines[at] ?? "")?.[1] ?? ""];
    if (kind === undefined) continue;
    const end = lines.indexOf("```", at + 1);
    const body = lines.slice(at + 1, end);
    if (kind === "frames") examples.push({ kind, line: at + 1, lines: body });
    else examples.push({ kind, line: at + 1, text: body.join("\n") });
    at = end;
  }
  return examples;
}

/** Puts what was kept in place of `$NAME`. */
export const filled = (text: string, kept: ReadonlyMap<string, string>): string =>
  text.replaceAll(/\$([A-Z]+)/g, (whole, name: string) => kept.get(name) ?? whole);

/** Whether an answer is as the example says: the same members, and `…` for anything. */
export function matches(example: unknown, answer: unknown): boolean {
  if (example === "…") return answer !== undefined;
  if (typeof example !== "object" || example === null) return example === answer;
  if (typeof answer !== "object" || answer === null || Array.isArray(example) !== Array.isArray(answer)) return false;
  const [wanted, given] = [Object.entries(example), new Map(Object.entries(answer))];
  return wanted.length === given.size && wanted.every(([name, value]) => matches(value, given.get(name)));
}
