// The client's own ids of users whom events know by subject.
import type { Subject } from "../contract/ids.ts";
import { users } from "../projections/models/users.ts";
import type { ReadAs } from "../projections/read-side.ts";
import { sql } from "../projections/sql.ts";

/** Those that the read model knows; who was erased, or is not there yet, is missing. */
export async function userIdsOf(read: ReadAs, subjects: readonly Subject[]): Promise<ReadonlyMap<Subject, string>> {
  if (subjects.length === 0) return new Map();
  const rows = await read.rows<{ subject: Subject; user_id: string }>(
    sql`select subject, user_id from ${users} u where subject = any(${subjects}) and user_id is not null`,
  );
  return new Map(rows.map((row) => [row.subject, row.user_id]));
}
