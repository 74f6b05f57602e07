// What a large inbox and many deliveries cost to read: a page with its counts, and figures by day.
import type pg from "pg";
import type { Subject as Person } from "../../src/contract/ids.ts";
import { deliveries } from "../../src/projections/models/deliveries.ts";
import { deliveryFigures } from "../../src/projections/models/delivery-figures.ts";
import { deliverySums } from "../../src/projections/models/delivery-sums.ts";
import { inbox } from "../../src/projections/models/inbox.ts";
import { countInboxes, inboxBlocks, listInbox } from "../../src/projections/models/inbox-list.ts";
import { notifications } from "../../src/projections/models/notifications.ts";
import { type Projection, type Row, type RowMove, tableName } from "../../src/projections/projection.ts";
import { columnTypes, type ReadAs } from "../../src/projections/read-as.ts";
import { copyRows } from "../../src/projections/row-store.ts";
import { fillRows } from "../../test/support/fill-rows.ts";
import { interleave, typicalMs } from "../harness/measure.ts";
import { type Goal, ratioRow, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { openReadModels } from "../support/log.ts";

const atMost = { direction: "at most", unit: "x" } as const;
const page: Goal = { ...atMost, name: "15 inbox page and counts, 10⁶ unread notifications over 10³", goal: 3 };
const figures: Goal = { ...atMost, name: "15 analytics by day, 10⁶ deliveries over 10³", goal: 3 };

const FEW = 1_000;
const PAGE = 20;
const REQUESTS = 50;
const DAYS = 30;
const READER: Person = "sub_reader";
/** Rows that sums are derived from at once. */
const CHUNK = 20_000;

/** What follows from all rows of another read model, by the code that follows from a batch's. */
async function derive(pool: pg.Pool, of: Projection): Promise<void> {
  const { derived } = of;
  if (derived === undefined) throw new Error(`${of.name} follows from nothing`);
  const from = `read.${tableName(derived.from)}`;
  const beside = derived.beside === undefined ? "null" : "to_json(n)";
  const joined =
    derived.beside === undefined
      ? ""
      : `join read.${tableName(derived.beside.projection)} n on n.id = d.notification_id`;
  const rows = new Map<string, Row>();
  for (let after = ""; ; ) {
    const text = `select to_json(d) as after, ${beside} as beside from ${from} d ${joined}
      where d.position > $1 order by d.position limit ${CHUNK}`;
    const found = await pool.query<{ after: Row; beside: Row | null }>({ text, values: [after], types: columnTypes });
    const moves: RowMove[] = found.rows.map((one) => ({
      before: undefined,
      after: one.after,
      beside: one.beside ?? undefined,
    }));
    for (const change of derived.changes(moves)) {
      const name = JSON.stringify(change.key);
      const body = change.kind === "upsert" ? change.fold(rows.get(name)) : null;
      const key = Object.fromEntries(of.key.map((column, index) => [column, change.key[index] ?? null]));
      if (body) rows.set(name, { ...body, ...key });
    }
    const last = found.rows.at(-1)?.after.position;
    if (typeof last !== "string") break;
    after = last;
  }
  const client = await pool.connect();
  await copyRows(client, of, tableName(of), [...rows.values()]);
  client.release();
}

/** So many WebSocket notifications to one user in a month, each with its delivery, all unread. */
async function filled({ postgres, say }: Bench, open: AsyncDisposableStack, count: number): Promise<ReadAs> {
  say(`${shown(count)} notifications`);
  const { log, client, readSide } = await openReadModels(postgres, open);
  const at = `(1767225600000 + n * ${Math.floor((DAYS * 86_400_000) / count)}::bigint)`;
  const own = { client: `'${client}'`, position: "'bench.' || lpad(to_hex(n * 4), 16, '0')", created_at: at };
  const about = { channel: "'websocket'", category: "'category ' || n % 5" };
  await fillRows(log.pool, notifications, count, { ...own, ...about, id: "'ntf_' || n" });
  const source = { id: "'dlv_' || n", notification_id: "'ntf_' || n", subject: `'${READER}'` };
  const outcome = {
    status: "case when n % 50 = 0 then 'expired' else 'delivered' end",
    delivered_at: `case when n % 50 <> 0 then ${at} + n::bigint * 7919 % 60000 end`,
  };
  await fillRows(log.pool, deliveries, count, { ...own, ...about, ...source, ...outcome });
  await fillRows(log.pool, inbox, count, { ...own, ...source, item: "'new'" });
  for (const one of [inboxBlocks, deliverySums]) await derive(log.pool, one);
  await log.pool.query("vacuum analyze");
  return readSide.readAs(client);
}

export const largeInbox: Subject = {
  name: "large-inbox",
  about: "reading a large inbox, and figures about many deliveries",
  goals: [page, figures],
  async run(bench) {
    await using open = new AsyncDisposableStack();
    const few = await filled(bench, open, FEW);
    const many = await filled(bench, open, bench.events);
    const names = { many: shown(bench.events), few: shown(FEW) };
    const row = async (goal: Goal, work: (read: ReadAs, count: number) => Promise<unknown>) => {
      const candidates = [
        { name: names.few, turn: () => typicalMs(REQUESTS, () => work(few, FEW)) },
        { name: names.many, turn: () => typicalMs(REQUESTS, () => work(many, bench.events)) },
      ];
      return ratioRow(goal, await interleave(candidates, bench.rounds), names.many, names.few, "ms");
    };
    return [
      await row(page, async (read, count) => {
        const { rows } = await listInbox(read, READER, { statuses: ["unread", "read"], limit: PAGE });
        const [counts] = await countInboxes(read, [READER]);
        if (rows.length !== PAGE || counts?.unread_count !== count)
          throw new Error("the inbox is not as it was filled");
      }),
      await row(figures, async (read, count) => {
        const { totals, groups } = await deliveryFigures(read, { group: "day" });
        if (totals.requested !== count || groups.length < DAYS) throw new Error("not all deliveries are counted");
      }),
    ];
  },
};
