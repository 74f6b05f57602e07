// Where each event stands, by client, type, actor and time: what it takes to find events, and nothing of what they say.
import type { ClientId } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import { bigint, integer, projection, put, type RowOf, text } from "../projection.ts";
import type { ReadAs } from "../read-as.ts";
import { all, sql } from "../sql.ts";

const columns = {
  client: text<ClientId>(),
  position: text<Position>(),
  id: text(),
  type: text(),
  stream: text(),
  revision: integer(),
  at: bigint(),
  actor_type: text<"key" | "user" | "system" | "operator">(),
  actor_id: text(),
  correlation: text(),
  causation: text(),
};
export type AuditRow = RowOf<typeof columns>;

export const audit = projection({
  name: "audit",
  version: 1,
  key: ["client", "position"],
  columns,
  indexes: ["(client, type, position)", "(stream, position)"],
  personal: [],
  each: ({ id, type, stream, revision, position, meta }) => {
    if (meta.client === null) return [];
    const { at, actor, correlation, causation } = meta;
    const facts = { id, type, stream, revision, at, correlation, causation };
    return [put([meta.client, position], { ...facts, actor_type: actor.type, actor_id: actor.id })];
  },
  on: {},
});

type AuditList = {
  types?: readonly string[];
  after?: Position;
  /** `from` inclusive and `to` exclusive. */
  from?: Instant;
  to?: Instant;
  /** The ids of keys, subjects, or what else acted; any of them. */
  actor?: string | readonly string[];
  limit: number;
};

/** Oldest first; the next page is what comes after the last row's position. */
export function auditPage(read: ReadAs, list: AuditList): Promise<readonly AuditRow[]> {
  const { types, after, from, to, limit } = list;
  const actors = typeof list.actor === "string" ? [list.actor] : list.actor;
  const where = all(
    after === undefined ? undefined : sql`position > ${after}`,
    types === undefined ? undefined : types.length === 1 ? sql`type = ${types[0] ?? ""}` : sql`type = any(${types})`,
    from === undefined ? undefined : sql`at >= ${from}`,
    to === undefined ? undefined : sql`at < ${to}`,
    actors === undefined ? undefined : sql`actor_id = any(${actors})`,
  );
  return read.rows(sql`select * from ${audit} a where ${where} order by position limit ${limit}`);
}

/** The events of some streams together, oldest first; the next page is what comes after the last row's position. */
export const streamPositions = (
  read: ReadAs,
  streams: readonly string[],
  { after, limit }: { after?: Position; limit: number },
): Promise<readonly AuditRow[]> =>
  read.rows(
    sql`select * from ${audit} a where stream = any(${streams}) and position > ${after ?? ""} order by position limit ${limit}`,
  );
