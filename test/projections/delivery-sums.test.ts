// Figures about deliveries: sums of days, hours and minutes say what counting the deliveries one by one would.
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Channel, DeliveryStatus } from "../../src/contract/deliveries.ts";
import type { DeliveryId, NotificationId } from "../../src/contract/ids.ts";
import { DAY_MS, HOUR_MS, rfc3339 } from "../../src/contract/time.ts";
import type { DomainEvent } from "../../src/domain/catalogue.ts";
import { deliveryStream } from "../../src/domain/delivery-state.ts";
import { notificationStream } from "../../src/domain/notification.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { deliveries } from "../../src/projections/models/deliveries.ts";
import { deliveryFigures } from "../../src/projections/models/delivery-figures.ts";
import { deliverySums, durationOf, sumOf } from "../../src/projections/models/delivery-sums.ts";
import { notifications } from "../../src/projections/models/notifications.ts";
import { tableName } from "../../src/projections/projection.ts";
import type { ReadAs, ReadSide } from "../../src/projections/read-side.ts";
import { buildMissing, rebuild } from "../../src/projections/rebuild.ts";
import { pick, seeded } from "../faults/support/random.ts";
import { ANNA, BEN, CLIENT, deliveryRequested, OTHER, requestedNotification } from "./log.ts";
import { type Setting, setting } from "./setting.ts";

let given: Setting;
let readSide: ReadSide;
let read: ReadAs;

const START = Date.parse("2026-03-01T22:58:00Z");
const CHANNELS: readonly Channel[] = ["email", "webhook", "websocket"];
const draw = seeded(17);

/** Notifications of all kinds, some with a tag or a room, each with deliveries in all states, over two days and a bit. */
async function fill(): Promise<void> {
  for (let n = 0; n < 40; n += 1) {
    const notification: NotificationId = `ntf_${n}`;
    const channel = pick(draw, CHANNELS);
    const more = {
      category: pick(draw, [null, "news", "orders"]),
      tag: pick(draw, [null, null, "spring", "__proto__"]),
      roomId: pick(draw, [null, null, "room_a", "room_b"] as const),
    };
    let at = START + Math.floor(draw() * 2.2 * DAY_MS);
    if (n % 4 === 0) at = Math.floor(at / HOUR_MS) * HOUR_MS;
    await given.write(notificationStream(notification), [requestedNotification(channel, [ANNA], more)], { at });
    for (let d = 0; d < 4; d += 1) await deliver(`dlv_${n}x${d}`, notification, channel, at + d * 20_000);
    if (n % 10 === 9)
      await given.write(notificationStream(notification), [{ type: "NotificationDeleted", data: {} }], { at });
  }
}

async function deliver(id: DeliveryId, notification: NotificationId, channel: Channel, at: number): Promise<void> {
  let status: DeliveryStatus = "pending";
  const stream = deliveryStream(id);
  const by = (to: DeliveryStatus) => {
    const base = { notification, recipient: BEN, from: status, to };
    status = to;
    return base;
  };
  const about = { n: 1, provider: pick(draw, ["smtp", "backup"]) };
  const took = Math.floor(draw() ** 4 * 100_000);
  const write = (events: readonly DomainEvent[], after = 0) => given.write(stream, events, { at: at + after });
  await write([deliveryRequested(BEN, channel, { notification })]);
  const chance = draw();
  if (chance < 0.1) return;
  if (chance < 0.2) return void (await write([{ type: "DeliveryCancelled", data: by("cancelled") }]));
  if (chance < 0.3)
    return void (await write([{ type: "DeliverySuppressed", data: { ...by("suppressed"), reason: "preference" } }]));
  if (channel === "websocket") {
    if (chance < 0.6) return void (await write([{ type: "DeliveryAcknowledged", data: by("delivered") }], took));
    return void (await write([{ type: "DeliveryExpired", data: { ...by("expired"), reason: "expired" } }], took));
  }
  await write([
    { type: "DeliveryAttemptStarted", data: { ...by("sending"), ...about, leaseUntil: at + 1, domain: null } },
  ]);
  if (chance < 0.4)
    return void (await write([{ type: "DeliveryExhausted", data: { ...by("exhausted"), reason: "gone" } }]));
  const answer = { response: null, providerMessageId: null, recipients: [] };
  const success = channel === "webhook" ? "delivered" : "sent";
  await write([{ type: "DeliverySucceeded", data: { ...by(success), ...about, ...answer } }], took);
  const report = { code: null, index: 0, provider: "smtp", message: null, happenedAt: at + took + 5 };
  if (chance < 0.6) {
    const opened = { ...by(success), ...report, kind: "opened", bounce: null, report: "o" } as const;
    await write([{ type: "DeliveryReported", data: opened }], took + 5);
  }
  if (chance < 0.5 && channel === "email") {
    const bounced = { ...by("bounced"), ...report, kind: "bounced", bounce: "hard", report: "b" } as const;
    await write([{ type: "DeliveryReported", data: bounced }], took + 9);
  }
  if (chance > 0.9) {
    const again = { expiresAt: at + DAY_MS, fallbackAt: null, withheld: false };
    await write([{ type: "DeliveryRedriven", data: { ...by("pending"), ...again } }], took + 9);
  }
}

/** The bucket of a duration. */
const bucketOf = (ms: number): number => {
  const row = { channel: "email", provider: null, status: "sent", delivered_at: null, opened_at: null } as const;
  const { seconds } = sumOf({ ...row, created_at: 0, sent_at: ms }, { channel: "email" });
  return Number(Object.keys(seconds)[0]);
};

type Listed = Awaited<ReturnType<typeof list>>[number];
const list = () =>
  read.rows(
    read
      .over({ d: deliveries, n: notifications })
      .selectFrom("d")
      .innerJoin("n", "n.id", "d.notification_id")
      .select(["d.created_at", "d.sent_at", "d.delivered_at", "d.opened_at", "d.channel", "d.provider", "d.status"])
      .select(["n.category", "n.tag", "n.room_id", "n.channel as type"]),
  );
let all: readonly Listed[] = [];

beforeAll(async () => {
  given = await setting();
  readSide = await given.open();
  read = readSide.readAs(CLIENT);
  await fill();
  await given.write("notification-ntf_other", [requestedNotification("email", [ANNA])], { client: OTHER, at: START });
  await readSide.caughtUp();
  all = await list();
});
afterAll(() => given[Symbol.asyncDispose]());

/** Counted one by one. */
function figuresOf(rows: readonly Listed[]) {
  const count = (holds: (row: Listed) => boolean) => rows.filter(holds).length;
  const times = rows
    .flatMap(({ sent_at, delivered_at, created_at }) => {
      const at = Math.min(sent_at ?? Number.POSITIVE_INFINITY, delivered_at ?? Number.POSITIVE_INFINITY);
      return Number.isFinite(at) ? [at - created_at] : [];
    })
    .sort((a, b) => a - b);
  const near = (fraction: number) => {
    const exact = times[Math.ceil(fraction * times.length) - 1];
    return exact === undefined ? null : durationOf(bucketOf(exact)) / 1_000;
  };
  const counted = rows.filter(({ status }) => status !== "suppressed" && status !== "cancelled");
  const succeeded = counted.filter((row) => row.sent_at !== null || row.delivered_at !== null);
  const of = (...statuses: DeliveryStatus[]) => count(({ status }) => statuses.includes(status));
  return {
    ...{ requested: rows.length, sent: count((row) => row.sent_at !== null) },
    ...{ delivered: count((row) => row.delivered_at !== null), opened: count((row) => row.opened_at !== null) },
    ...{ bounced: of("bounced"), complained: of("complained"), failed: of("exhausted", "expired") },
    ...{ suppressed: of("suppressed"), fell_back: of("fell_back"), cancelled: of("cancelled") },
    delivery_rate: counted.length === 0 ? null : succeeded.length / counted.length,
    ...{ p50_seconds: near(0.5), p95_seconds: near(0.95) },
  };
}

type Query = Parameters<typeof deliveryFigures>[1];
const NAMES: Readonly<Record<Query["group"], (row: Listed) => string | null>> = {
  hour: (row) => rfc3339(Math.floor(row.created_at / HOUR_MS) * HOUR_MS),
  day: (row) => rfc3339(Math.floor(row.created_at / DAY_MS) * DAY_MS),
  channel: (row) => row.channel,
  provider: (row) => row.provider,
  status: (row) => row.status,
  category: (row) => row.category,
  tag: (row) => row.tag,
};
const matches = (query: Query, row: Listed): boolean =>
  row.created_at >= (query.from ?? 0) &&
  row.created_at < (query.to ?? Number.POSITIVE_INFINITY) &&
  (query.types?.includes(row.type) ?? true) &&
  (query.categories?.includes(row.category ?? "") ?? true) &&
  (query.tags?.includes(row.tag ?? "") ?? true) &&
  (query.roomIds?.includes(row.room_id ?? "") ?? true);

async function expectSame(query: Query): Promise<void> {
  const rows = all.filter((row) => matches(query, row));
  const groups = [...Map.groupBy(rows, NAMES[query.group])].sort(
    ([a], [b]) => Number(a === null) - Number(b === null) || (String(a) < String(b) ? -1 : 1),
  );
  expect(await deliveryFigures(read, query), JSON.stringify(query)).toEqual({
    groups: groups.map(([name, members]) => ({ name, figures: figuresOf(members) })),
    totals: figuresOf(rows),
  });
}

const FILTERS: readonly Partial<Query>[] = [
  {},
  { types: ["email"] },
  { categories: ["news", "orders"] },
  { tags: ["spring"] },
  { tags: ["__proto__", "none"], categories: ["news"] },
  { roomIds: ["room_a", "room_b"], types: ["webhook", "websocket"] },
  { roomIds: ["room_a"], tags: ["spring"] },
];
const groupings = Object.keys(NAMES) as Query["group"][];

test.each(groupings)("by %s, with any filter", async (group) => {
  expect(all.length).toBe(160);
  for (const filter of FILTERS) await expectSame({ group, ...filter });
});

test("within bounds that cut days, hours and minutes", async () => {
  const moment = () => START + Math.floor(draw() * 2.4 * DAY_MS);
  for (let n = 0; n < 60; n += 1) {
    const [a, b] = [moment(), n % 3 === 0 ? pick(draw, all).created_at : moment()];
    const bounds = [{ from: a }, { to: b }, { from: Math.min(a, b), to: Math.max(a, b) }, { from: b, to: b + 1 }];
    await expectSame({ group: pick(draw, groupings), ...pick(draw, FILTERS), ...pick(draw, bounds) });
  }
});

test("a duration is told within 1 %, a short one exactly", () => {
  for (let ms = 0; ms < 3_000_000_000; ms = Math.ceil(ms * 1.003 + 1)) {
    const shown = durationOf(bucketOf(ms));
    if (ms <= 50) expect(shown).toBe(ms);
    else expect(Math.abs(shown - ms) / ms).toBeLessThanOrEqual(0.02 / 2.02 + 0.5 / ms);
    expect(bucketOf(ms + 1)).toBeGreaterThanOrEqual(bucketOf(ms));
  }
});

test("another client's deliveries count nowhere, nor do those of endpoints", async () => {
  const other = await deliveryFigures(readSide.readAs(OTHER), { group: "day" });
  expect(other).toMatchObject({ groups: [], totals: { requested: 0, delivery_rate: null, p50_seconds: null } });
});

test("built anew, with what they follow from, they are the same however the log is cut", async () => {
  const built = await rebuild(given.parts, { names: ["delivery_sums"], verify: true });
  expect(built.tables).toHaveLength(3);
  expect(built.differences).toEqual([]);
  await expectSame({ group: "status" });
});

test("another version of the deliveries counts anew", async () => {
  await given.database.pool.query(`update read.${tableName(deliverySums)} set sums = '[]'`);
  const projections = storedProjections.map((one) =>
    one.name === deliveries.name ? { ...one, version: one.version + 1 } : one,
  );
  await buildMissing({ ...given.parts, projections });
  await expectSame({ group: "status" });
});
