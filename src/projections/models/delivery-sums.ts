// How many deliveries of notifications are where, by minute, hour and day: what analytics reads instead of the deliveries.
import type { Channel, DeliveryStatus } from "../../contract/deliveries.ts";
import type { ClientId } from "../../contract/ids.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS } from "../../contract/time.ts";
import { type Body, bigint, integer, json, projection, type RowMove, type RowOf, text, upsert } from "../projection.ts";
import { type DeliveryRow, deliveries } from "./deliveries.ts";
import { type NotificationRow, notifications } from "./notifications.ts";

/** Lengths of the intervals that are summed. */
const WIDTHS = [MINUTE_MS, HOUR_MS, DAY_MS];

/**
 * Tags and rooms may be as many as notifications, so that rows by them are apart, and only for deliveries that have one. Each
 * delivery is in `bare` (without tag and room) or in both `all` (as if it were) and `each` (by its tag and room).
 */
export type SumPart = "bare" | "all" | "each";

/** Deliveries that are alike, counted. */
export type Sum = {
  /** The notification's channel, and its own: mails of fallbacks differ. */
  readonly type: Channel;
  readonly channel: Channel;
  readonly provider: string | null;
  readonly status: DeliveryStatus;
  requested: number;
  /** Those that ever were. */
  sent: number;
  delivered: number;
  opened: number;
  /** Of those that succeeded, how many took so long: by bucket. */
  seconds: { [bucket: number]: number };
};

const columns = {
  client: text<ClientId>(),
  width: integer(),
  part: text<SumPart>(),
  start: bigint(),
  /** Empty: none. */
  category: text(),
  tag: text(),
  room_id: text(),
  /** By what they count, in this order. */
  sums: json<Sum[]>(),
};
type SumsRow = RowOf<typeof columns>;

export const deliverySums = projection({
  name: "delivery_sums",
  version: 1,
  key: ["client", "width", "part", "start", "category", "tag", "room_id"],
  columns,
  indexes: [
    "(client, tag, width, start) where part = 'each' and tag <> ''",
    "(client, room_id, width, start) where part = 'each' and room_id <> ''",
  ],
  personal: [],
  on: {},
  derived: {
    from: deliveries,
    // It was requested before, and keeps its channel, category, tag and room.
    beside: {
      projection: notifications,
      keyOf: ({ notification_id }: DeliveryRow) => (notification_id === null ? null : [notification_id]),
    },
    changes: (moves: readonly RowMove<DeliveryRow, NotificationRow>[]) => {
      const added = new Map<string, { readonly key: readonly (string | number)[]; readonly sums: Sums }>();
      const add = (row: DeliveryRow | undefined, notification: NotificationRow | undefined, by: 1 | -1) => {
        // Deliveries of endpoints count nowhere.
        if (row === undefined || notification === undefined) return;
        const sum = sumOf(row, notification);
        for (const key of keysOf(row, notification)) {
          const name = JSON.stringify(key);
          const known = added.get(name) ?? { key, sums: new Sums() };
          added.set(name, known);
          known.sums.add(sum, by);
        }
      };
      for (const { before, after, beside } of moves) {
        add(before, beside, -1);
        add(after, beside, 1);
      }
      // Many a change, such as a longer lease, counts for nothing: the rows are not even read then.
      const changed = [...added.values()].filter(({ sums }) => sums.list().length > 0);
      return changed.map(({ key, sums }) =>
        upsert<SumsRow, Body<SumsRow, Keys>>(key, (row) => {
          const all = sums.plus(row?.sums ?? []).list();
          return all.length === 0 ? null : { sums: all };
        }),
      );
    },
  },
});
type Keys = "width" | "part" | "start" | "category" | "tag" | "room_id";

/** The rows that a delivery counts in. */
function* keysOf({ client, created_at }: DeliveryRow, { category, tag, room_id }: NotificationRow) {
  const isBare = tag === null && room_id === null;
  for (const width of WIDTHS) {
    const key = (part: SumPart, ...names: [string, string]) => {
      return [client, width, part, Math.floor(created_at / width) * width, category ?? "", ...names];
    };
    yield key(isBare ? "bare" : "all", "", "");
    if (!isBare) yield key("each", tag ?? "", room_id ?? "");
  }
}

/** What is counted of a delivery. */
export type Counted = Pick<
  DeliveryRow,
  "channel" | "provider" | "status" | "created_at" | "sent_at" | "delivered_at" | "opened_at"
>;

/** One delivery. */
export function sumOf(row: Counted, notification: Pick<NotificationRow, "channel">): Sum {
  const { channel, provider, status, created_at, sent_at, delivered_at, opened_at } = row;
  const succeeded = sent_at === null ? delivered_at : Math.min(sent_at, delivered_at ?? sent_at);
  return {
    ...{ type: notification.channel, channel, provider, status, requested: 1 },
    sent: Number(sent_at !== null),
    delivered: Number(delivered_at !== null),
    opened: Number(opened_at !== null),
    seconds: succeeded === null ? {} : { [bucketOf(succeeded - created_at)]: 1 },
  };
}

/** Sums that others are added to, those alike together. */
class Sums {
  readonly #sums = new Map<string, Sum>();

  add(sum: Sum, by: 1 | -1 = 1): void {
    const { type, channel, provider, status } = sum;
    const name = JSON.stringify([type, channel, provider, status]);
    const known = this.#sums.get(name);
    const into = known ?? { ...sum, requested: 0, sent: 0, delivered: 0, opened: 0, seconds: {} };
    if (known === undefined) this.#sums.set(name, into);
    into.requested += by * sum.requested;
    into.sent += by * sum.sent;
    into.delivered += by * sum.delivered;
    into.opened += by * sum.opened;
    for (const bucket in sum.seconds) {
      into.seconds[bucket] = (into.seconds[bucket] ?? 0) + by * (sum.seconds[bucket] ?? 0);
      if (into.seconds[bucket] === 0) delete into.seconds[bucket];
    }
  }

  /** With others, as new ones. */
  plus(others: readonly Sum[]): Sums {
    const all = new Sums();
    for (const sum of others) all.add(sum);
    for (const sum of this.#sums.values()) all.add(sum);
    return all;
  }

  /** In the order of what they count, without those that count nothing. */
  list(): Sum[] {
    const counting = [...this.#sums].filter(
      ([, { requested, sent, delivered, opened, seconds }]) =>
        requested !== 0 || sent !== 0 || delivered !== 0 || opened !== 0 || Object.keys(seconds).length > 0,
    );
    return counting.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, sum]) => sum);
  }
}

// Buckets of durations: exact to the millisecond up to 50, from there each 2 % wide.
const EXACT_MS = 50;
const WIDER = 1.02;

/** The bucket of a duration in ms. */
const bucketOf = (ms: number): number => {
  const rounded = Math.max(0, Math.round(ms));
  return rounded <= EXACT_MS ? rounded : EXACT_MS + Math.ceil(Math.log(rounded / EXACT_MS) / Math.log(WIDER));
};

/** A duration that differs from all in the bucket by 1 % at most. */
export const durationOf = (bucket: number): number =>
  bucket <= EXACT_MS ? bucket : Math.round((EXACT_MS * 2 * WIDER ** (bucket - EXACT_MS)) / (1 + WIDER));
