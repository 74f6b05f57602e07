// Figures about deliveries of notifications, by SQL over their rows: the same that counting the lists gives.
import { type Expression, type RawBuilder, type SqlBool, sql } from "kysely";
import type { AnalyticsFigures, AnalyticsGroup } from "../../contract/analytics.ts";
import type { Channel } from "../../contract/deliveries.ts";
import type { Instant } from "../../contract/time.ts";
import { anyOf, type ReadAs } from "../read-as.ts";
import { deliveries } from "./deliveries.ts";
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

const utc = (unit: "hour" | "day") =>
  sql<string | null>`to_char(date_trunc(${sql.lit(unit)}, to_timestamp(d.created_at / 1000) at time zone 'UTC'),
    'YYYY-MM-DD"T"HH24:MI:SS".000Z"')`;
const GROUPS: Readonly<Record<AnalyticsGroup, RawBuilder<string | null>>> = {
  hour: utc("hour"),
  day: utc("day"),
  channel: sql`d.channel`,
  provider: sql`d.provider`,
  status: sql`d.status`,
  category: sql`n.category`,
  tag: sql`n.tag`,
};

const count = (condition: RawBuilder<unknown>) => sql<number>`(count(*) filter (where ${condition}))::int`;
const SUCCEEDED = sql`coalesce(d.sent_at, d.delivered_at) is not null`;
const COUNTED = sql`d.status not in ('suppressed', 'cancelled')`;
const seconds = (fraction: number) => sql<number | null>`(percentile_disc(${sql.lit(fraction)}) within group (
  order by least(d.sent_at, d.delivered_at) - d.created_at) filter (where ${SUCCEEDED}))::float8 / 1000`;

/** By group, in the order of their names; the row whose `total` is 1 is that of all. */
export function deliveryFigures(read: ReadAs, query: FiguresQuery) {
  const { from, to, types, roomIds, categories, tags, group } = query;
  const conditions: Expression<SqlBool>[] = [sql`d.endpoint_id is null`];
  if (from !== undefined) conditions.push(sql`d.created_at >= ${from}`);
  if (to !== undefined) conditions.push(sql`d.created_at < ${to}`);
  if (types !== undefined) conditions.push(anyOf("n.channel", types));
  if (roomIds !== undefined) conditions.push(anyOf("n.room_id", roomIds));
  if (categories !== undefined) conditions.push(anyOf("n.category", categories));
  if (tags !== undefined) conditions.push(anyOf("n.tag", tags));
  return read.rows<{ name: string | null; total: number } & AnalyticsFigures>(
    read
      .over({ d: deliveries, n: notifications })
      .selectFrom("d")
      // Unique, so that PostgreSQL leaves it out where nothing of it is asked.
      .leftJoin("n", "n.id", "d.notification_id")
      .select([GROUPS[group].as("name"), sql<number>`grouping(${GROUPS[group]})`.as("total")])
      .select([
        sql<number>`count(*)::int`.as("requested"),
        count(sql`d.sent_at is not null`).as("sent"),
        count(sql`d.delivered_at is not null`).as("delivered"),
        count(sql`d.opened_at is not null`).as("opened"),
        count(sql`d.status = 'bounced'`).as("bounced"),
        count(sql`d.status = 'complained'`).as("complained"),
        count(sql`d.status in ('exhausted', 'expired')`).as("failed"),
        count(sql`d.status = 'suppressed'`).as("suppressed"),
        count(sql`d.status = 'fell_back'`).as("fell_back"),
        count(sql`d.status = 'cancelled'`).as("cancelled"),
        sql<number | null>`(count(*) filter (where ${COUNTED} and ${SUCCEEDED}))::float8
          / nullif(count(*) filter (where ${COUNTED}), 0)`.as("delivery_rate"),
        seconds(0.5).as("p50_seconds"),
        seconds(0.95).as("p95_seconds"),
      ])
      .where((eb) => eb.and(conditions))
      .groupBy(sql`grouping sets ((${GROUPS[group]}), ())`)
      .orderBy(sql`2, 1`),
  );
}
