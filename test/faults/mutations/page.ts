// The table of mutations within the page for developers.

const BEGIN = "<!-- mutations: written by npm run test:mutations -->";
const END = "<!-- end of mutations -->";

/** The page with this table in its place. */
export function withTable(page: string, table: string): string {
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if (begin < 0 || end < begin) throw new Error("docs/testing.md has no place for the table of mutations");
  return `${page.slice(0, begin + BEGIN.length)}\n\n${table}\n\n${page.slice(end)}`;
}
