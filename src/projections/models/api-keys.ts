// API keys: their hashes, and until when they hold.
import type { ClientId, KeyId } from "../../contract/ids.ts";
import { bigint, change, projection, put, type RowOf, text } from "../projection.ts";
import type { OperatorRead } from "../read-as.ts";
import { sql } from "../sql.ts";
import { clientOf } from "../stream-ids.ts";

const columns = {
  id: text<KeyId>(),
  client: text<ClientId>(),
  name: text(),
  /** SHA-256, hex. */
  hash: text(),
  last4: text(),
  created_at: bigint(),
  expires_at: bigint({ nullable: true }),
};
type ApiKeyRow = RowOf<typeof columns>;

export const apiKeys = projection({
  name: "api_keys",
  version: 1,
  key: ["id"],
  columns,
  indexes: [],
  personal: [],
  on: {
    ClientRegistered: (e) => [newKey(e.stream, e.data.key, e.meta.at)],
    KeyRotated: (e) => [
      change([e.data.old], (row) => ({ ...row, expires_at: e.data.graceUntil })),
      newKey(e.stream, e.data.key, e.meta.at),
    ],
  },
});

function newKey(stream: string, key: { id: KeyId; name: string; hash: string; last4: string }, at: number) {
  const { id, name, hash, last4 } = key;
  return put<ApiKeyRow, Omit<ApiKeyRow, "id">>([id], {
    client: clientOf(stream),
    ...{ name, hash, last4 },
    created_at: at,
    expires_at: null,
  });
}

/** Every key of every client, the oldest first, for a node's directory at its start. */
export const allKeys = (operator: OperatorRead): Promise<readonly ApiKeyRow[]> =>
  operator.rows(sql`select * from ${apiKeys} k order by created_at, id`);
