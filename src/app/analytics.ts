// Analytics: figures about deliveries of notifications, read from the folded tables whenever they are asked for.
import type { AnalyticsFigures, AnalyticsQuery, AnalyticsReport } from "../contract/analytics.ts";
import { deliveryFigures } from "../projections/models/delivery-figures.ts";
import type { Call } from "./services.ts";

const NONE: AnalyticsFigures = {
  ...{ requested: 0, sent: 0, delivered: 0, opened: 0, bounced: 0, complained: 0, failed: 0 },
  ...{ suppressed: 0, fell_back: 0, cancelled: 0, delivery_rate: null, p50_seconds: null, p95_seconds: null },
};

/** The figures by group, and of all together. */
export async function notificationAnalytics({ read }: Call, query: AnalyticsQuery): Promise<AnalyticsReport> {
  const { from, to, type: types, room_id: roomIds, category: categories, tag: tags, group_by: group } = query;
  const rows = await deliveryFigures(read, { from, to, types, roomIds, categories, tags, group });
  const data = rows.flatMap(({ name, total, ...figures }) => (total === 0 ? [{ [group]: name, ...figures }] : []));
  const [all] = rows.flatMap(({ name: _name, total, ...figures }) => (total === 1 ? [figures] : []));
  return { data, totals: all ?? NONE };
}
