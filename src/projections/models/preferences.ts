// What users want to receive: their choices, and whose an address is.
import { sql } from "kysely";
import type { ClientId, Subject } from "../../contract/ids.ts";
import { type Choices, openChoices } from "../../domain/preferences.ts";
import { json, projection, put, type RowOf, text } from "../projection.ts";
import { anyOf, type ReadAs } from "../read-as.ts";
import { users } from "./users.ts";

const columns = {
  subject: text<Subject>(),
  client: text<ClientId>(),
  categories: json<Choices["categories"]>(),
  quiet_hours: json<NonNullable<Choices["quietHours"]>>({ nullable: true }),
};
type PreferencesRow = RowOf<typeof columns>;

export const preferences = projection({
  name: "preferences",
  version: 1,
  key: ["subject"],
  columns,
  indexes: [],
  personal: ["categories", "quiet_hours"],
  on: {
    PreferencesSet: (e) => {
      const { categories, quietHours } = openChoices(e.data);
      return [put([e.data.subject], { categories, quiet_hours: quietHours })];
    },
  },
});

/** `timezone`: the user's own. */
type UserChoices = Choices & { readonly timezone: string | null };

/** The choices of users who made any, by subject. */
export async function choicesOf(
  read: ReadAs,
  subjects: readonly Subject[],
): Promise<ReadonlyMap<Subject, UserChoices>> {
  if (subjects.length === 0) return new Map();
  const query = read
    .over({ p: preferences, u: users })
    .selectFrom("p")
    .leftJoin("u", "u.subject", "p.subject")
    .select(["p.subject", "p.categories", "p.quiet_hours", "u.timezone"])
    .where(anyOf("p.subject", subjects));
  const rows: readonly (PreferencesFields & { timezone: string | null })[] = await read.rows(query);
  return new Map(
    rows.map(({ subject, categories, quiet_hours, timezone }) => [
      subject,
      { categories, quietHours: quiet_hours, timezone },
    ]),
  );
}
type PreferencesFields = Pick<PreferencesRow, "subject" | "categories" | "quiet_hours">;

/** Whose the addresses are that exactly one user has, by their canonical spelling. */
export async function usersWithAddress(
  read: ReadAs,
  addresses: readonly string[],
): Promise<ReadonlyMap<string, Subject>> {
  if (addresses.length === 0) return new Map();
  const query = read
    .over({ u: users })
    .selectFrom("u")
    .select(sql<string>`email_key`.as("address"))
    .select(sql<Subject>`min(subject)`.as("subject"))
    .where(anyOf("email_key", addresses))
    .groupBy("email_key")
    .having(sql<boolean>`count(*) = 1`);
  return new Map((await read.rows(query)).map(({ address, subject }) => [address, subject]));
}
