// Figures about deliveries of notifications, from sums of whole days, hours and minutes and, at the ends, the deliveries themselves.
import { type Expression, type SqlBool, sql } from "kysely";
import type { AnalyticsFigures, AnalyticsGroup, Channel } from "../../contract/deliveries.ts";
import { DAY_MS, HOUR_MS, type Instant, MINUTE_MS, rfc3339 } from "../../contract/time.ts";
import { anyOf, type ReadAs } from "../read-as.ts";
import { deliveries } from "./deliveries.ts";
import { type Counted, deliverySums, durationOf, type Sum, type SumPart, sumOf } from "./delivery-sums.ts";
import { notifications } from "./notifications.ts";

type FiguresQuery = {
  /** `from` inclusive and `to` exclusive bound the creation of the deliveries. */
  from?: Instant | undefined;
  to?: Instant | undefined;
  types?: readonly Channel[] | undefined;
  roomIds?: readonly string[] | undefined;
  categories?: readonly string[] | undefined;
  tags?: readonly string[] | undefined;
  group: AnalyticsGroup;
};

type Figures = {
  /** In the order of their names, those without one last. */
  readonly groups: readonly { readonly name: string | null; readonly figures: AnalyticsFigures }[];
  readonly totals: AnalyticsFigures;
};

/** The figures by group, and of all together: the same that counting the lists gives, durations within 1 %. */
export async function deliveryFigures(read: ReadAs, query: FiguresQuery): Promise<Figures> {
  const { group, types } = query;
  const totals = new Tally();
  const groups = new Map<string | null, Tally>();
  const add = (sum: Sum, about: About) => {
    if (types !== undefined && !types.includes(sum.type)) return;
    const name = nameIn(group, sum, about);
    const tally = groups.get(name) ?? new Tally();
    groups.set(name, tally);
    tally.add(sum);
    totals.add(sum);
  };
  const pieces = cover(
    query.from ?? 0,
    query.to ?? FOREVER,
    group === "hour" ? [HOUR_MS, MINUTE_MS] : [DAY_MS, HOUR_MS, MINUTE_MS],
  );
  const complete = pieces.filter(({ width }) => width !== null);
  for (const { sums, ...about } of await readSums(read, query, complete)) for (const sum of sums) add(sum, about);
  for (const piece of pieces) {
    if (piece.width !== null) continue;
    for (const { type, ...row } of await readDeliveries(read, query, piece)) {
      add(sumOf(row, { channel: type }), { start: row.created_at, category: row.category, tag: row.tag });
    }
  }
  const named = [...groups].sort(
    ([a], [b]) => Number(a === null) - Number(b === null) || ((a ?? "") < (b ?? "") ? -1 : 1),
  );
  return { groups: named.map(([name, tally]) => ({ name, figures: tally.figures() })), totals: totals.figures() };
}

/** What is known of deliveries besides what their sums say. Categories and tags are empty, or null, when there is none. */
type About = { readonly start: Instant; readonly category: string | null; readonly tag: string | null };

function nameIn(group: AnalyticsGroup, sum: Sum, { start, category, tag }: About): string | null {
  switch (group) {
    case "hour":
      return rfc3339(Math.floor(start / HOUR_MS) * HOUR_MS);
    case "day":
      return rfc3339(Math.floor(start / DAY_MS) * DAY_MS);
    case "category":
      return category || null;
    case "tag":
      return tag || null;
    default:
      return sum[group];
  }
}

const FOREVER = Number.MAX_SAFE_INTEGER;
/** A range of time in whole intervals of a width; null: in no whole ones. */
type Piece = { readonly width: number | null; readonly from: Instant; readonly to: Instant };

/** A range of time in the widest intervals, in order. */
function cover(from: Instant, to: Instant, [width, ...narrower]: readonly number[]): readonly Piece[] {
  if (from >= to) return [];
  if (width === undefined) return [{ width: null, from, to }];
  const start = Math.ceil(from / width) * width;
  const end = to === FOREVER ? FOREVER : Math.floor(to / width) * width;
  if (start >= end) return cover(from, to, narrower);
  return [...cover(from, start, narrower), { width, from: start, to: end }, ...cover(end, to, narrower)];
}

/** Which rows of sums have each delivery once that a query asks about. */
function partsOf({ group, tags, roomIds }: FiguresQuery): readonly SumPart[] {
  if (tags !== undefined || roomIds !== undefined) return ["each"];
  return group === "tag" ? ["bare", "each"] : ["bare", "all"];
}

async function readSums(read: ReadAs, query: FiguresQuery, pieces: readonly Piece[]) {
  if (pieces.length === 0) return [];
  const { categories, tags, roomIds } = query;
  const found: (About & { readonly sums: readonly Sum[] })[] = [];
  for (const part of partsOf(query)) {
    // Written out, so that PostgreSQL knows which indexes serve.
    const conditions: Expression<SqlBool>[] = [sql`d.part = ${sql.lit(part)}`];
    if (categories !== undefined) conditions.push(anyOf("d.category", categories));
    if (tags !== undefined) conditions.push(sql`d.tag <> ''`, anyOf("d.tag", tags));
    if (roomIds !== undefined) conditions.push(sql`d.room_id <> ''`, anyOf("d.room_id", roomIds));
    const pieceRows = sql<object>`unnest(${pieces.map(({ width }) => width)}::int[],
      ${pieces.map(({ from }) => from)}::bigint[], ${pieces.map(({ to }) => to)}::bigint[])`;
    const rows = await read.rows(
      read
        .over({ d: deliverySums })
        .selectFrom(pieceRows.as<"s">(sql`s(width, lower, upper)`))
        .innerJoin("d", (join) =>
          join.on((eb) =>
            eb.and([sql<SqlBool>`d.width = s.width and d.start >= s.lower and d.start < s.upper`, ...conditions]),
          ),
        )
        .select(["d.start", "d.category", "d.tag", "d.sums"]),
    );
    found.push(...rows);
  }
  return found;
}

function readDeliveries(read: ReadAs, query: FiguresQuery, { from, to }: Piece) {
  const { types, categories, tags, roomIds } = query;
  const conditions: Expression<SqlBool>[] = [
    sql`d.endpoint_id is null and d.created_at >= ${from} and d.created_at < ${to}`,
  ];
  if (types !== undefined) conditions.push(anyOf("n.channel", types));
  if (categories !== undefined) conditions.push(anyOf("n.category", categories));
  if (tags !== undefined) conditions.push(anyOf("n.tag", tags));
  if (roomIds !== undefined) conditions.push(anyOf("n.room_id", roomIds));
  return read.rows<Counted & { type: Channel; category: string | null; tag: string | null }>(
    read
      .over({ d: deliveries, n: notifications })
      .selectFrom("d")
      .innerJoin("n", "n.id", "d.notification_id")
      .select(["d.channel", "d.provider", "d.status", "d.created_at", "d.sent_at", "d.delivered_at", "d.opened_at"])
      .select(["n.channel as type", "n.category", "n.tag"])
      .where((eb) => eb.and(conditions)),
  );
}

/** Sums of one group added up. */
class Tally {
  #requested = 0;
  #sent = 0;
  #delivered = 0;
  #opened = 0;
  /** Those neither suppressed nor cancelled, and those of them that succeeded. */
  #counted = 0;
  #succeeded = 0;
  readonly #byStatus = new Map<string, number>();
  readonly #seconds = new Map<number, number>();

  add({ status, requested, sent, delivered, opened, seconds }: Sum): void {
    this.#requested += requested;
    this.#sent += sent;
    this.#delivered += delivered;
    this.#opened += opened;
    this.#byStatus.set(status, (this.#byStatus.get(status) ?? 0) + requested);
    const isCounted = status !== "suppressed" && status !== "cancelled";
    if (isCounted) this.#counted += requested;
    for (const [name, count] of Object.entries(seconds)) {
      const bucket = Number(name);
      this.#seconds.set(bucket, (this.#seconds.get(bucket) ?? 0) + count);
      if (isCounted) this.#succeeded += count;
    }
  }

  figures(): AnalyticsFigures {
    const of = (status: Sum["status"]) => this.#byStatus.get(status) ?? 0;
    const [p50, p95] = this.#percentiles([0.5, 0.95]);
    return {
      ...{ requested: this.#requested, sent: this.#sent, delivered: this.#delivered, opened: this.#opened },
      ...{ bounced: of("bounced"), complained: of("complained"), failed: of("exhausted") + of("expired") },
      ...{ suppressed: of("suppressed"), fell_back: of("fell_back"), cancelled: of("cancelled") },
      delivery_rate: this.#counted === 0 ? null : this.#succeeded / this.#counted,
      ...{ p50_seconds: p50 ?? null, p95_seconds: p95 ?? null },
    };
  }

  /** For each fraction the shortest duration in seconds that so many did not exceed; none without any. */
  #percentiles(fractions: readonly number[]): readonly number[] {
    const buckets = [...this.#seconds].sort(([a], [b]) => a - b);
    const all = buckets.reduce((sum, [, count]) => sum + count, 0);
    return fractions.flatMap((fraction) => {
      let before = 0;
      for (const [bucket, count] of buckets) {
        before += count;
        if (before >= fraction * all) return [durationOf(bucket) / 1_000];
      }
      return [];
    });
  }
}
