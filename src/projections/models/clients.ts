// Clients and their API keys. Secrets and providers are folded from the client's stream.
import type { ClientId, KeyId } from "../../contract/ids.ts";
import { type Body, bigint, change, clientOf, projection, put, type RowOf, text } from "../projection.ts";
import type { OperatorRead } from "../read-as.ts";

const columns = {
  client: text<ClientId>(),
  name: text(),
  description: text({ nullable: true }),
  created_at: bigint(),
};

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

const keyColumns = {
  id: text<KeyId>(),
  client: text<ClientId>(),
  name: text(),
  /** SHA-256, hex. */
  hash: text(),
  last4: text(),
  created_at: bigint(),
  expires_at: bigint({ nullable: true }),
};
type ApiKeyRow = RowOf<typeof keyColumns>;

export const apiKeys = projection({
  name: "api_keys",
  version: 1,
  key: ["id"],
  columns: keyColumns,
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

const newKey = ({ id, ...key }: Pick<ApiKeyRow, "id" | "name" | "hash" | "last4">, at: number) =>
  put<ApiKeyRow, Body<ApiKeyRow, "id">>([id], { ...key, created_at: at, expires_at: null });

/** Every key of every client, the oldest first, for a node's directory at its start. */
export const allKeys = (operator: OperatorRead): Promise<readonly ApiKeyRow[]> =>
  operator.rows(operator.over({ k: apiKeys }).selectFrom("k").selectAll().orderBy("created_at").orderBy("id"));
