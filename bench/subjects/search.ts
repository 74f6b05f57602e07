// What a search costs in many messages of one client, in ten languages, with row-level security on.
import pg from "pg";
import { parseQuery } from "../../src/domain/search.ts";
import { type MessageSearch, searchMessages } from "../../src/projections/models/message-search.ts";
import type { ReadAs } from "../../src/projections/read-as.ts";
import { median, quantile } from "../harness/measure.ts";
import { type Goal, rowOf, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { canMeasure, ownMs, processorMs, threadMs } from "../support/processor-time.ts";
import { openSearchable, READERS, textOf } from "../support/searchable.ts";
import { LANGUAGES } from "../support/texts.ts";

const atMost = { direction: "at most", unit: "ms", goal: 50 } as const;
const byKey: Goal = { ...atMost, name: "16 search by a client key, 10⁶ messages, p95" };
const byReader = (rooms: number): Goal => ({
  ...atMost,
  name: `16 search by a user in ${shown(rooms)} rooms, 10⁶ messages, p95`,
});

const PARTS = 4;
const PAGE = 20;

type Asked = { readonly kind: string; readonly query: string };

/** What people look for in messages of a language: text of one message, by words as they come. */
function queriesFor(n: number): readonly Asked[] {
  const text = textOf(n);
  const words = text
    .replace(/[.、]/g, " ")
    .split(" ")
    .filter((word) => word !== "");
  const [first = "", second = first] = words;
  const byLength = words.toSorted((one, other) => one.length - other.length);
  const [shortest, longest] = [byLength[0] ?? first, byLength.at(-1) ?? first];
  const characters = [...longest];
  const queries = text.includes(" ")
    ? {
        "common word": shortest,
        "rare word": longest,
        "two words": `${first} ${longest}`,
        phrase: `"${first} ${second}"`,
        without: `${longest} -${first}`,
        prefix: `${characters.slice(0, -2).join("")}*`,
      }
    : {
        "one character": characters[0] ?? "",
        "two characters": characters.slice(0, 2).join(""),
        "four characters": characters.slice(2, 6).join(""),
        "part of a sentence": longest,
        "two parts": `${first} ${second}`,
        "part without": `${longest} -${second}`,
      };
  return Object.entries(queries).map(([kind, query]) => ({ kind, query }));
}

/** Of each language, from messages of every age. */
const queriesIn = (messages: number): readonly Asked[] =>
  LANGUAGES.flatMap((_, language) =>
    Array.from({ length: PARTS }, (_part, part) => {
      const nth = Math.floor((messages / PARTS / LANGUAGES.length) * (part + 0.5));
      return queriesFor(nth * LANGUAGES.length + language);
    }).flat(),
  );

type Search = Pick<MessageSearch, "terms" | "limit"> & Partial<MessageSearch>;
type Plan = {
  /** Planning and carrying out, by PostgreSQL's clock. */
  readonly ms: number;
  /** Processor time of its session; not a number where the system does not say. */
  readonly processorMs: number;
  readonly text: string;
};
type Explain = (search: Search, options?: { readonly within: boolean }) => Promise<Plan>;

/** The queries of a search. */
async function queriesOf(read: ReadAs, search: Search) {
  const calls: pg.QueryConfig<unknown[]>[] = [];
  const capturing: ReadAs = {
    ...read,
    rows(built) {
      const { sql, parameters } = built.compile();
      calls.push({ text: `explain (analyze, buffers, timing off) ${sql}`, values: [...parameters] });
      return read.rows(built);
    },
  };
  await searchMessages(capturing, search);
  return calls;
}

/** A session in which PostgreSQL says what it does for a client's queries; `within`: inside the function too. */
async function openExplain(read: ReadAs, superuserUrl: string, open: AsyncDisposableStack): Promise<Explain> {
  const session = open.adopt(new pg.Client({ connectionString: superuserUrl }), (one) => one.end());
  await session.connect();
  const { rows: sessions } = await session.query<{ pid: number }>("select pg_backend_pid() as pid");
  const spent = () => (canMeasure ? threadMs(sessions[0]?.pid ?? 0) : Number.NaN);
  const inside: string[] = [];
  session.on("notice", ({ message = "" }) => inside.push(message.replaceAll(/^(.{200}).*$/gm, "$1…")));
  await session.query("load 'auto_explain'");
  for (const [name, value] of Object.entries(AUTO_EXPLAIN)) await session.query(`set ${name} = ${value}`);
  return async (search, { within } = { within: false }) => {
    const queries = await queriesOf(read, search);
    inside.length = 0;
    await session.query(`set auto_explain.log_min_duration = ${within ? 0 : -1}`);
    await session.query("begin");
    await session.query("select set_config('chatapi.client', $1, true)", [read.client]);
    for (const setting of CONFINED) await session.query(`set local ${setting}`);
    const before = spent();
    const plans: string[] = [];
    for (const query of queries) {
      const { rows } = await session.query<{ "QUERY PLAN": string }>(query);
      plans.push(rows.map((row) => row["QUERY PLAN"]).join("\n"));
    }
    const processorMs = spent() - before;
    await session.query("rollback");
    const times = plans.join("\n").matchAll(/^(?:Planning|Execution) Time: ([\d.]+) ms$/gm);
    const ms = [...times].reduce((sum, [, time]) => sum + Number(time), 0);
    return {
      ms,
      processorMs,
      text: [...plans, ...inside.filter((plan) => plan.includes("message_search"))].join("\n"),
    };
  };
}

const CONFINED = ["role = pg_database_owner", "enable_seqscan = off", "enable_bitmapscan = off"];
const AUTO_EXPLAIN = {
  "auto_explain.log_nested_statements": "on",
  "auto_explain.log_analyze": "on",
  "auto_explain.log_buffers": "on",
  "auto_explain.log_timing": "off",
  "auto_explain.log_parameter_max_length": "0",
  client_min_messages: "log",
};

const halfAndMost = (values: readonly number[]): string =>
  `p50 ${shown(quantile(values, 0.5))} ms, p95 ${shown(quantile(values, 0.95))} ms`;

type Searching = Bench & { readonly read: ReadAs; readonly explain: Explain; readonly asked: readonly Asked[] };

async function measure(searching: Searching, goal: Goal, more: Partial<MessageSearch>) {
  const { rounds, postgres, say, read, explain, asked } = searching;
  const p95: number[] = [];
  const spent: number[] = [];
  const walls = new Map<string, number[]>();
  const searchOf = ({ query }: Asked): Search => ({ terms: parseQuery(query), limit: PAGE, ...more });
  let slowest = { ms: 0, one: asked[0] ?? { kind: "", query: "" } };
  let found = 0;
  for (let round = 0; round <= rounds; round += 1) {
    const took: number[] = [];
    const before = processorMs(postgres.pid()) + ownMs();
    for (const one of asked) {
      const start = performance.now();
      const { rows } = await searchMessages(read, searchOf(one));
      const ms = performance.now() - start;
      found += rows.length;
      took.push(ms);
      if (round > 0) walls.set(one.kind, [...(walls.get(one.kind) ?? []), ms]);
      if (round > 0 && ms > slowest.ms) slowest = { ms, one };
    }
    if (round === 0) continue; // warms up
    spent.push((processorMs(postgres.pid()) + ownMs() - before) / asked.length);
    p95.push(quantile(took, 0.95));
  }
  if (found === 0) throw new Error("nothing was found");
  const plans: (Omit<Plan, "text"> & { readonly kind: string })[] = [];
  for (const one of asked) plans.push({ ...(await explain(searchOf(one))), kind: one.kind });
  for (const [kind, took] of walls) {
    const planned = plans.filter((plan) => plan.kind === kind);
    const clock = planned.map(({ ms }) => ms);
    const busy = planned.map(({ processorMs }) => processorMs);
    say(`  ${kind}: ${halfAndMost(took)}; in PostgreSQL ${halfAndMost(clock)}, processor ${halfAndMost(busy)}`);
  }
  for (const one of [slowest.one, asked[1] ?? slowest.one]) {
    const { ms, text } = await explain(searchOf(one), { within: true });
    say(`${goal.name}: ${one.kind} ${one.query}, ${shown(ms)} ms\n${text}`);
  }
  const all = [...walls.values()].flat();
  const inPostgres = halfAndMost(plans.map(({ ms }) => ms));
  const busy = halfAndMost(plans.map(({ processorMs }) => processorMs));
  const [half, worst, processor] = [quantile(all, 0.5), quantile(all, 1), median(spent)].map(shown);
  return rowOf(goal, p95, {
    baseline: `${shown(asked.length)} queries`,
    ours: `p50 ${half} ms, worst ${worst} ms; in PostgreSQL ${inPostgres}, processor ${busy}; with Node ${processor} ms a search`,
  });
}

export const search: Subject = {
  name: "search",
  about: "searching the messages of one client, in ten languages",
  goals: [byKey, ...[...READERS.keys()].map(byReader)],
  async run(bench) {
    await using open = new AsyncDisposableStack();
    const { database, client, readSide } = await openSearchable(bench, open, bench.events);
    const read = readSide.readAs(client);
    const explain = await openExplain(read, database.superuserUrl, open);
    const searching = { ...bench, read, explain, asked: queriesIn(bench.events) };
    const rows = [await measure(searching, byKey, {})];
    for (const [count, viewer] of READERS) rows.push(await measure(searching, byReader(count), { viewer }));
    return rows;
  },
};
