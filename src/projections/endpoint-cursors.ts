// How far each webhook endpoint has come in the log. Most go with the fan-out, whose checkpoint is theirs; those that are
// behind it have a cursor of their own. Both are kept in the schema `jobs`.
import type pg from "pg";
import type { EndpointId } from "../contract/ids.ts";
import type { Position } from "../event-store/event-store.ts";
import { hasCode, UNDEFINED_TABLE } from "../platform/postgres.ts";

/** The fan-out's name among the checkpoints and the leases of the schema `jobs`. */
export const FAN_OUT = "endpoints";

/** Everything up to the position was requested, of the events of this generation of the endpoint. */
export type EndpointCursor = {
  readonly endpoint: EndpointId;
  readonly generation: number;
  readonly position: Position;
};

/** Its own table, made with those of the queue. */
export const CREATE_CURSORS = `create table if not exists jobs.endpoint_cursors (
  endpoint text primary key, generation integer not null, position text not null)`;

type Queryable = Pick<pg.Pool, "query">;
type Sql = { executeSql(text: string, values?: unknown[]): Promise<unknown> };

/** The later of where an endpoint begins and how far it has come. */
export const furthest = (start: Position, cursor: Position | null | undefined): Position =>
  cursor != null && cursor > start ? cursor : start;

/** Moves cursors, never back within a generation. */
export async function putCursors(sql: Sql, cursors: readonly EndpointCursor[]): Promise<void> {
  if (cursors.length === 0) return;
  await sql.executeSql(
    `insert into jobs.endpoint_cursors as known (endpoint, generation, position)
     select * from unnest($1::text[], $2::int[], $3::text[]) as moved (endpoint, generation, position) order by 1
     on conflict (endpoint) do update set generation = excluded.generation, position = excluded.position
     where excluded.generation > known.generation
       or (excluded.generation = known.generation and excluded.position > known.position)`,
    [
      cursors.map(({ endpoint }) => endpoint),
      cursors.map(({ generation }) => generation),
      cursors.map((one) => one.position),
    ],
  );
}

export async function forgetCursors(sql: Sql, endpoints: readonly EndpointId[]): Promise<void> {
  if (endpoints.length === 0) return;
  await sql.executeSql("delete from jobs.endpoint_cursors where endpoint = any($1::text[])", [[...endpoints]]);
}

export async function allCursors(db: Queryable): Promise<ReadonlyMap<EndpointId, EndpointCursor>> {
  const { rows } = await db.query<EndpointCursor>("select endpoint, generation, position from jobs.endpoint_cursors");
  return new Map(rows.map((row) => [row.endpoint, row]));
}

/** Where the fan-out is, and the cursors of those of these endpoints that are behind it. */
type Progress = { readonly fanOut: Position | null; readonly behind: ReadonlyMap<EndpointId, EndpointCursor> };

/** Reads the cursors, from any node: before the first worker has run there are none. */
export class EndpointCursors {
  readonly #pool: Queryable;

  constructor(pool: Queryable) {
    this.#pool = pool;
  }

  async of(ids: readonly EndpointId[]): Promise<Progress> {
    const text = `select position, null as endpoint, 0 as generation from jobs.reactor_checkpoints where name = $1
      union all select position, endpoint, generation from jobs.endpoint_cursors where endpoint = any($2)`;
    try {
      const { rows } = await this.#pool.query<EndpointCursor>(text, [FAN_OUT, ids]);
      const behind = rows.filter((row) => row.endpoint !== null);
      return {
        fanOut: rows.find((row) => row.endpoint === null)?.position ?? null,
        behind: new Map(behind.map((row) => [row.endpoint, row])),
      };
    } catch (error) {
      if (hasCode(error, UNDEFINED_TABLE)) return { fanOut: null, behind: new Map() };
      throw error;
    }
  }
}
