// The benchmarks: each path against a ceiling or a rival measured in the same run. `npm run bench -- --help` says how.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { chartOf } from "./harness/chart.ts";
import { notMeasured, type Row } from "./harness/row.ts";
import type { Bench, Subject } from "./harness/subject.ts";
import { markdownTable, textTable } from "./harness/table.ts";
import { subjects } from "./subjects.ts";
import { startBenchPostgres } from "./support/postgres.ts";
import { installRivals } from "./support/rival.ts";

const USAGE = `npm run bench -- [options] [name...]

  --rounds <n>    counted rounds, at least 5 unless --quick (default 5)
  --quick         short turns, a log of 100,000 events instead of 1,000,000
  --events <n>    how many events the large log has
  --json          prints {"rows": [...]} and nothing else
  --markdown      prints the table as Markdown
  --chart <file>  writes the table as an SVG

${subjects.map(({ name, about }) => `  ${name.padEnd(14)}  ${about}`).join("\n")}
`;

const MIN_ROUNDS = 5;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: String(MIN_ROUNDS) },
    quick: { type: "boolean", default: false },
    events: { type: "string" },
    json: { type: "boolean", default: false },
    markdown: { type: "boolean", default: false },
    chart: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

const say = (line: string) => void process.stderr.write(`${line}\n`);

/** One that fails leaves its rows unmeasured, with the reason, and the others go on. */
async function rowsOf(subject: Subject, bench: Bench): Promise<readonly Row[]> {
  say(`\n== ${subject.name}: ${subject.about}`);
  try {
    return await subject.run(bench);
  } catch (error) {
    say(error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exitCode = 1;
    const [why = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
    return subject.goals.map((goal) => notMeasured(goal, why));
  }
}

async function main(): Promise<void> {
  if (values.help) return void process.stdout.write(USAGE);
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < (values.quick ? 1 : MIN_ROUNDS)) {
    throw new Error(`--rounds must be a whole number, at least ${MIN_ROUNDS} (1 with --quick)`);
  }
  const events = Number(values.events ?? (values.quick ? 100_000 : 1_000_000));
  if (!Number.isInteger(events) || events < 10_000) throw new Error("--events must be a whole number, at least 10000");
  const unknown = positionals.filter((name) => subjects.every((subject) => subject.name !== name));
  if (unknown.length > 0) throw new Error(`there is no benchmark ${unknown.join(", ")}\n\n${USAGE}`);
  const chosen = subjects.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  installRivals(say);
  await using postgres = await startBenchPostgres();
  const bench: Bench = { rounds, turnMs: values.quick ? 1_000 : 3_000, events, postgres, say };
  const rows: Row[] = [];
  for (const subject of chosen) {
    const added = await rowsOf(subject, bench);
    rows.push(...added);
    if (chosen.length > 1) say(textTable(added));
  }
  if (values.chart !== undefined) writeFileSync(values.chart, await chartOf(rows));
  if (values.json) process.stdout.write(`${JSON.stringify({ rows }, undefined, 2)}\n`);
  else process.stdout.write(`\n${values.markdown ? markdownTable(rows) : textTable(rows)}\n`);
}

await main();
