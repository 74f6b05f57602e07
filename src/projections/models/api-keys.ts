// API keys that were not revoked, by the hash that a node's directory knows them by. All else of a client is folded from its stream.
import type { Scope } from "../../contract/fields.ts";
import type { ClientId, KeyId } from "../../contract/ids.ts";
import { type Body, bigint, change, json, projection, put, type RowOf, remove, text } from "../projection.ts";
import type { OperatorRead } from "../read-as.ts";

const columns = {
  id: text<KeyId>(),
  client: text<ClientId>(),
  /** SHA-256, hex. */
  hash: text(),
  /** Null: all. */
  scopes: json<Scope[]>({ nullable: true }),
  created_at: bigint(),
  /** When it ends, by its expiry or after a rotation. */
  expires_at: bigint({ nullable: true }),
};
type ApiKeyRow = RowOf<typeof columns>;

export const apiKeys = projection({
  name: "api_keys",
  version: 3,
  key: ["id"],
  columns,
  indexes: [],
  personal: [],
  on: {
    ClientRegistered: (e) => [newKey({ ...e.data.key, scopes: null, expiresAt: null }, e.meta.at)],
    KeyCreated: (e) => [newKey(e.data.key, e.meta.at)],
    KeyRotated: (e) => [
      change([e.data.old], (row) => ({ ...row, expires_at: e.data.graceUntil })),
      newKey(e.data.key, e.meta.at),
    ],
    KeyRevoked: (e) => [remove([e.data.key])],
  },
});

const newKey = (
  { id, hash, scopes, expiresAt }: Pick<ApiKeyRow, "id" | "hash" | "scopes"> & { readonly expiresAt: number | null },
  at: number,
) => put<ApiKeyRow, Body<ApiKeyRow, "id">>([id], { hash, scopes, created_at: at, expires_at: expiresAt });

/** Every key of every client, the oldest first, for a node's directory at its start. */
export const allKeys = (operator: OperatorRead): Promise<readonly ApiKeyRow[]> =>
  operator.rows(operator.over({ k: apiKeys }).selectFrom("k").selectAll().orderBy("created_at").orderBy("id"));
