// The clients: name and description. What else a client has (secrets, providers) is folded from its stream.
import type { ClientId } from "../../contract/ids.ts";
import { bigint, change, projection, put, type RowOf, text } from "../projection.ts";
import type { OperatorRead } from "../read-as.ts";
import { sql } from "../sql.ts";
import { clientOf } from "../stream-ids.ts";

const columns = {
  client: text<ClientId>(),
  name: text(),
  description: text({ nullable: true }),
  created_at: bigint(),
};
export type ClientRow = RowOf<typeof columns>;

export const clients = projection({
  name: "clients",
  version: 1,
  key: ["client"],
  columns,
  indexes: [],
  personal: [],
  on: {
    ClientRegistered: (e) => [
      put([clientOf(e.stream)], { name: e.data.name, description: e.data.description, created_at: e.meta.at }),
    ],
    ClientUpdated: (e) => [
      change([clientOf(e.stream)], (row) => ({ ...row, name: e.data.name, description: e.data.description })),
    ],
  },
});

/** At most `limit` clients after the given one, in the order of their ids. */
export const clientsAfter = (
  operator: OperatorRead,
  after: ClientId | null,
  limit: number,
): Promise<readonly ClientRow[]> =>
  operator.rows(sql`select * from ${clients} c where client > ${after ?? ""} order by client limit ${limit}`);
