// Analytics: figures about deliveries of notifications, from the read models.
import type { AnalyticsQuery, AnalyticsReport } from "../contract/deliveries.ts";
import { deliveryFigures } from "../projections/models/delivery-figures.ts";
import type { Call } from "./services.ts";

/** The figures by group, and of all together. */
export async function notificationAnalytics({ read }: Call, query: AnalyticsQuery): Promise<AnalyticsReport> {
  const { from, to, type: types, room_id: roomIds, category: categories, tag: tags, group_by: group } = query;
  const { groups, totals } = await deliveryFigures(read, { from, to, types, roomIds, categories, tags, group });
  return { data: groups.map(({ name, figures }) => ({ [group]: name, ...figures })), totals };
}
