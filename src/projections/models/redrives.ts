// Redrives: how far each one is.
import type { ClientId, RedriveId } from "../../contract/ids.ts";
import type { Position } from "../../event-store/event-store.ts";
import { bigint, change, integer, projection, put, type RowOf, redriveOf, text } from "../projection.ts";
import { first, type OperatorRead, type ReadAs } from "../read-as.ts";

const columns = {
  id: text<RedriveId>(),
  client: text<ClientId>(),
  status: text<"running" | "done">(),
  matched: integer(),
  done: integer(),
  /** Those of the current page, which are not among `done` yet. */
  selected: integer(),
  created_at: bigint(),
  updated_at: bigint(),
  finished_at: bigint({ nullable: true }),
  position: text<Position>(),
};
export type RedriveRow = RowOf<typeof columns>;

export const redrives = projection({
  name: "redrives",
  version: 1,
  key: ["id"],
  columns,
  indexes: ["(position) where status = 'running'"],
  personal: [],
  on: {
    RedriveRequested: (e) => [
      put([redriveOf(e.stream)], {
        ...{ status: "running", matched: e.data.matched, done: 0, selected: 0 },
        ...{ created_at: e.meta.at, updated_at: e.meta.at, finished_at: null, position: e.position },
      }),
    ],
    RedrivePageSelected: (e) => [
      change([redriveOf(e.stream)], (row) => ({
        ...row,
        done: row.done + row.selected,
        selected: e.data.deliveries.length,
        updated_at: e.meta.at,
      })),
    ],
    RedriveFinished: (e) => [
      change([redriveOf(e.stream)], (row) => ({
        ...row,
        status: "done" as const,
        done: row.done + row.selected,
        selected: 0,
        updated_at: e.meta.at,
        finished_at: e.meta.at,
      })),
    ],
  },
});

export const redriveById = async (read: ReadAs, id: RedriveId): Promise<RedriveRow | undefined> =>
  first(await read.rows(read.over({ r: redrives }).selectFrom("r").selectAll().where("id", "=", id)));

/** Redrives that are not over, oldest first. */
export const runningRedrives = (
  operator: OperatorRead,
  limit: number,
  after: Position | null = null,
): Promise<readonly RedriveRow[]> =>
  operator.rows(
    operator
      .over({ r: redrives })
      .selectFrom("r")
      .selectAll()
      .where("status", "=", "running")
      .where("position", ">", after ?? ("" as Position))
      .orderBy("position")
      .limit(limit),
  );
