// The addresses that a client's mails do not go to: one row for all mails, one for each category unsubscribed from.
import { sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, DeliveryId, Subject } from "../../contract/ids.ts";
import type { SuppressionReason } from "../../contract/preferences.ts";
import { reveal } from "../../domain/event.ts";
import type { Position } from "../../event-store/event-store.ts";
import { type Page, readPage } from "../page.ts";
import { bigint, projection, put, type RowOf, remove, text } from "../projection.ts";
import { anyOf, type ReadAs } from "../read-as.ts";

const columns = {
  subject: text<Subject>(),
  /** The category; empty for all. */
  concerns: text(),
  client: text<ClientId>(),
  /** In lower case. */
  email: text({ nullable: true }),
  reason: text<SuppressionReason>(),
  category: text({ nullable: true }),
  delivery_id: text<DeliveryId>({ nullable: true }),
  created_at: bigint(),
  position: text<Position>(),
};
type SuppressionRow = RowOf<typeof columns>;

export const suppressions = projection({
  name: "suppressions",
  version: 1,
  key: ["subject", "concerns"],
  columns,
  indexes: ["(client, position)"],
  personal: ["email"],
  on: {
    AddressSuppressed: (e) => {
      const { subject, address, reason, category, delivery } = e.data;
      const row = { email: reveal(address), reason, category, delivery_id: delivery };
      return [put([subject, category ?? ALL], { ...row, created_at: e.meta.at, position: e.position })];
    },
    AddressUnsuppressed: (e) => [ALL, ...e.data.categories].map((concerns) => remove([e.data.subject, concerns])),
  },
});
/** No category is called this. */
const ALL = "";

type SuppressionList = { reasons?: readonly SuppressionReason[]; search?: string; limit: number; cursor?: Cursor };

/** Newest first. Throws InvalidCursor. */
export async function listSuppressions(
  read: ReadAs,
  { reasons, search, limit, cursor }: SuppressionList,
): Promise<Page<SuppressionRow>> {
  let query = read.over({ s: suppressions }).selectFrom("s").selectAll();
  if (reasons !== undefined) query = query.where(anyOf("reason", reasons));
  if (search !== undefined) query = query.where(sql<boolean>`strpos(email, ${search.toLowerCase()}) > 0`);
  return readPage(read, query, { by: { position: "text" }, order: "desc", limit, cursor }, (last) => [last.position]);
}
