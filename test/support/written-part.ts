// The parts of guides that commands write: between two marks, so that a test finds one that is out of date.

/** The page with this text as the part that `npm run <script>` writes. */
export function withPart(page: string, { part, script }: { part: string; script: string }, text: string): string {
  const begin = `<!-- ${part}: written by npm run ${script} -->`;
  const end = `<!-- end of ${part} -->`;
  const [before, rest] = [page.indexOf(begin), page.indexOf(end)];
  if (before < 0 || rest < before) throw new Error(`the page has no place for ${part}`);
  return `${page.slice(0, before + begin.length)}\n\n${text}\n\n${page.slice(rest)}`;
}
