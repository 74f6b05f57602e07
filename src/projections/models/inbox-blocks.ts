// How many unmarked items an inbox has, by blocks of log positions: counting them costs the same however many there are.
import { type RawBuilder, sql } from "kysely";
import type { ClientId, Subject } from "../../contract/ids.ts";
import { type Position, parsePosition } from "../../event-store/event-store.ts";
import { type Body, bigint, integer, projection, type RowMove, type RowOf, text, upsert } from "../projection.ts";
import { type InboxRow, inbox } from "./inbox.ts";

/**
 * Positions of a small and of a large block. Positions are numbers of events in one log and bytes in another: a log of 10^9 events
 * has 15 large blocks, one of 100 GB 1,500. At most 4,096 small ones are looked at, and the items of one.
 */
const SMALL = 2 ** 14;
const LARGE = 2 ** 26;

const columns = {
  client: text<ClientId>(),
  subject: text<Subject>(),
  width: integer(),
  /** An item is in block position / width. */
  block: bigint(),
  count: integer(),
};
type BlockRow = RowOf<typeof columns>;

/** Items that have no mark of their own: `new` ones. What marks on the whole inbox made of them is known when it is read. */
export const inboxBlocks = projection({
  name: "inbox_blocks",
  version: 1,
  key: ["client", "subject", "width", "block"],
  columns,
  indexes: [],
  personal: [],
  on: {},
  derived: {
    from: inbox,
    changes: (moves: readonly RowMove<InboxRow>[]) => {
      const counts = new Map<string, { readonly key: readonly (string | number)[]; by: number }>();
      const add = (row: InboxRow | undefined, by: number) => {
        if (row?.item !== "new") return;
        const position = Number(parsePosition(row.position)?.value ?? 0n);
        for (const width of [SMALL, LARGE]) {
          const key = [row.client, row.subject, width, Math.floor(position / width)];
          const name = JSON.stringify(key);
          const known = counts.get(name);
          if (known === undefined) counts.set(name, { key, by });
          else known.by += by;
        }
      };
      for (const { before, after } of moves) {
        add(before, -1);
        add(after, 1);
      }
      const changed = [...counts.values()].filter(({ by }) => by !== 0);
      return changed.map(({ key, by }) =>
        upsert<BlockRow, Body<BlockRow, "client" | "subject" | "width" | "block">>(key, (row) => {
          const count = (row?.count ?? 0) + by;
          return count === 0 ? null : { count };
        }),
      );
    },
  },
});

/** Hexadecimal digits of a position's number, which follow the log's id. */
const DIGITS = 16;

/**
 * How many `new` items of a subject are after a position, over items `i` and blocks `x`: large blocks, small ones of the
 * position's large block, and the items of its small block. The position may be empty: all of them.
 */
export const newItemsAfter = (subject: RawBuilder<Subject>, after: RawBuilder<Position>): RawBuilder<number> => {
  const number = sql<number>`coalesce(('x' || right(nullif(${after}, ''), ${sql.lit(DIGITS)}))::bit(64)::bigint, -1)`;
  const end = sql`left(${after}, -${sql.lit(DIGITS)}) || lpad(to_hex((p.n / ${sql.lit(SMALL)} + 1) * ${sql.lit(SMALL)}), ${sql.lit(DIGITS)}, '0')`;
  return sql<number>`(select
    (select coalesce(sum(x.count), 0) from x where x.subject = ${subject} and x.width = ${sql.lit(LARGE)}
      and x.block > case when p.n < 0 then -1 else p.n / ${sql.lit(LARGE)} end)
    + (select coalesce(sum(x.count), 0) from x where x.subject = ${subject} and x.width = ${sql.lit(SMALL)}
      and p.n >= 0 and x.block > p.n / ${sql.lit(SMALL)} and x.block < (p.n / ${sql.lit(LARGE)} + 1) * ${sql.lit(LARGE / SMALL)})
    + (select count(*) from i where i.subject = ${subject} and i.item = 'new' and p.n >= 0
      and i.position > ${after} and i.position < ${end})
    from (select ${number} as n offset 0) p)`;
};
