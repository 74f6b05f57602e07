// A user as answers show it: from its row, or from its state.
import { z } from "zod";
import { anyObject, time } from "../../contract/fields.ts";
import { rfc3339 } from "../../contract/time.ts";
import { openProfile, type User } from "../../domain/user.ts";
import type { UserRow } from "../../projections/models/users.ts";

export const UserBody = z
  .object({
    id: z.string().nullable().describe("The client's own id; null when the person was erased"),
    name: z.string().nullable(),
    email: z.string().nullable(),
    timezone: z.string().nullable(),
    meta: anyObject,
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "User" });
export type UserBody = z.infer<typeof UserBody>;

/** From a row of the read model. */
export const userBody = (row: UserRow): UserBody => ({
  id: row.user_id,
  name: row.name,
  email: row.email,
  timezone: row.timezone,
  meta: row.meta,
  created_at: rfc3339(row.created_at),
  updated_at: rfc3339(row.updated_at),
});

/** From a state. */
export const userBodyOf = (id: string, user: Extract<User, { status: "registered" }>): UserBody => ({
  id,
  ...openProfile(user.profile),
  created_at: rfc3339(user.createdAt),
  updated_at: rfc3339(user.updatedAt),
});
