// The table of all rows as text: for a terminal, and for a page.
import { type Row, shown } from "./row.ts";

const HEADINGS = ["", "path", "goal", "result", "spread", "ours", "against"] as const;

const suffix = ({ unit }: Row): string => (unit === "x" ? "" : ` ${unit}`);

function cells(row: Row): readonly string[] {
  const sign = row.direction === "at least" ? "≥" : "≤";
  const mark = row.result === null ? "-" : row.holds ? "ok" : "MISSED";
  const result = row.result === null ? "-" : `${shown(row.result)}${suffix(row)}`;
  const spread = row.spread === null ? "-" : `${Math.round(row.spread * 100)} %`;
  return [mark, row.name, `${sign} ${shown(row.goal)}${suffix(row)}`, result, spread, row.ours, row.baseline];
}

/** Columns that line up. */
export function textTable(rows: readonly Row[]): string {
  const lines = [HEADINGS, ...rows.map(cells)];
  const widths = HEADINGS.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** The same as Markdown. */
export function markdownTable(rows: readonly Row[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(HEADINGS), line(HEADINGS.map(() => "---")), ...rows.map((row) => line(cells(row)))].join("\n");
}
