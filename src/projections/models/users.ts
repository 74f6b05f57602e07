// Users: their profiles, and from which generation on their tokens hold.

import { type Cursor, canonicalOrSame } from "../../contract/fields.ts";
import type { ClientId, Subject } from "../../contract/ids.ts";
import type { JsonObject } from "../../contract/json.ts";
import type { Instant } from "../../contract/time.ts";
import { reveal } from "../../domain/event.ts";
import type { Profile } from "../../domain/user.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, readPage } from "../page.ts";
import { bigint, change, integer, json, projection, type RowOf, text, upsert } from "../projection.ts";
import { anyOf, first, type OperatorRead, type ReadAs } from "../read-as.ts";

const columns = {
  subject: text<Subject>(),
  client: text<ClientId>(),
  /** Null when the person was erased. */
  user_id: text({ nullable: true }),
  name: text({ nullable: true }),
  email: text({ nullable: true }),
  /** The address in its canonical spelling. */
  email_key: text({ nullable: true }),
  timezone: text({ nullable: true }),
  meta: json<JsonObject>(),
  /** Tokens of an older one no longer hold. */
  generation: integer(),
  created_at: bigint(),
  updated_at: bigint(),
  position: text<Position>(),
};
export type UserRow = RowOf<typeof columns>;

export const users = projection({
  name: "users",
  version: 2,
  key: ["subject"],
  columns,
  indexes: ["(client, position)", "(subject) where generation > 0", "(client, email_key) where email_key is not null"],
  personal: ["user_id", "name", "email", "email_key", "timezone", "meta"],
  on: {
    UserRegistered: (e) => [
      upsert([e.data.subject], (row) => ({
        user_id: reveal(e.data.user),
        ...opened(e.data),
        generation: row?.generation ?? 0,
        created_at: row?.created_at ?? e.meta.at,
        updated_at: e.meta.at,
        position: row?.position ?? e.position,
      })),
    ],
    UserUpdated: (e) => [change([e.data.subject], (row) => ({ ...row, ...opened(e.data), updated_at: e.meta.at }))],
    TokensRevoked: (e) => [change([e.data.subject], (row) => ({ ...row, generation: e.data.generation }))],
  },
});

const opened = ({ name, email, timezone, meta }: Profile) => ({
  name: reveal(name),
  email: reveal(email),
  email_key: canonicalOrNull(reveal(email)),
  timezone: reveal(timezone),
  meta: reveal(meta) ?? {},
});

const canonicalOrNull = (email: string | null) => (email === null ? null : canonicalOrSame(email));

export const userBySubject = async (read: ReadAs, subject: Subject): Promise<UserRow | undefined> =>
  first(await read.rows(read.over({ u: users }).selectFrom("u").selectAll().where("subject", "=", subject)));

/** `from` inclusive and `to` exclusive bound the creation. */
type UserList = { limit: number; cursor?: Cursor; from?: Instant; to?: Instant };

/** Newest first. Throws InvalidCursor. */
export async function listUsers(read: ReadAs, { limit, cursor, from, to }: UserList): Promise<Page<UserRow>> {
  let query = read.over({ u: users }).selectFrom("u").selectAll();
  if (from !== undefined) query = query.where("created_at", ">=", from);
  if (to !== undefined) query = query.where("created_at", "<", to);
  return readPage(read, query, { by: { position: "text" }, order: "desc", limit, cursor }, (last) => [last.position]);
}

/** Everyone whose tokens were ever revoked, for a node's directory at its start. */
export const revokedGenerations = (
  operator: OperatorRead,
): Promise<readonly Pick<UserRow, "client" | "subject" | "generation">[]> =>
  operator.rows(
    operator
      .over({ u: users })
      .selectFrom("u")
      .select(["client", "subject", "generation"])
      .where("generation", ">", 0)
      .orderBy("subject"),
  );

/** The users' own ids, by subject; who was erased, or is not there yet, is missing. */
export async function userIdsOf(read: ReadAs, subjects: readonly Subject[]): Promise<ReadonlyMap<Subject, string>> {
  if (subjects.length === 0) return new Map();
  const query = read
    .over({ u: users })
    .selectFrom("u")
    .select(["subject", "user_id"])
    .where(anyOf("subject", subjects));
  const rows = await read.rows(query);
  return new Map(rows.flatMap(({ subject, user_id }) => (user_id === null ? [] : [[subject, user_id]])));
}
