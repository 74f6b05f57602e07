// API keys, by the hash that a node's directory knows them by. All else of a client is folded from its stream.
import type { ClientId, KeyId } from "../../contract/ids.ts";
import { type Body, bigint, change, projection, put, type RowOf, text } from "../projection.ts";
import type { OperatorRead } from "../read-as.ts";

const columns = {
  id: text<KeyId>(),
  client: text<ClientId>(),
  /** SHA-256, hex. */
  hash: text(),
  created_at: bigint(),
  expires_at: bigint({ nullable: true }),
};
type ApiKeyRow = RowOf<typeof columns>;

export const apiKeys = projection({
  name: "api_keys",
  version: 2,
  key: ["id"],
  columns,
  indexes: [],
  personal: [],
  on: {
    ClientRegistered: (e) => [newKey(e.data.key, e.meta.at)],
    KeyRotated: (e) => [
      change([e.data.old], (row) => ({ ...row, expires_at: e.data.graceUntil })),
      newKey(e.data.key, e.meta.at),
    ],
  },
});

const newKey = ({ id, hash }: Pick<ApiKeyRow, "id" | "hash">, at: number) =>
  put<ApiKeyRow, Body<ApiKeyRow, "id">>([id], { hash, created_at: at, expires_at: null });

/** Every key of every client, the oldest first, for a node's directory at its start. */
export const allKeys = (operator: OperatorRead): Promise<readonly ApiKeyRow[]> =>
  operator.rows(operator.over({ k: apiKeys }).selectFrom("k").selectAll().orderBy("created_at").orderBy("id"));
