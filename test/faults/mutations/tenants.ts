// Fences between clients, and around what is one person's.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these strings are pieces of source text
import { type Mutation, mutation } from "./mutation.ts";

export const tenantMutations: readonly Mutation[] = [
  mutation(
    "tenant condition of every read",
    "projections/read-as.ts",
    " where client = ${parameter(client)})`;",
    ")`;",
    "projections/fence.test.ts",
    "by the query's own condition, without the policies",
  ),
  mutation(
    "row-level security: the policy of each table",
    "projections/fence.ts",
    "using (client = current_setting('chatapi.client', true))",
    "using (true)",
    "projections/fence.test.ts",
    "by the policies, without a condition",
  ),
  mutation(
    "row-level security: the role that clients' queries run as",
    "projections/fence.ts",
    "set_config('role', 'pg_database_owner', true) || ",
    "",
    "projections/fence.test.ts",
    "by the policies, without a condition",
  ),
  mutation(
    "row-level security: what confines a query ends with it",
    "projections/fence.ts",
    "set_config('role', 'pg_database_owner', true) || set_config('chatapi.client', $1, true)",
    "set_config('role', 'pg_database_owner', false) || set_config('chatapi.client', $1, false)",
    "projections/fence.test.ts",
    "leaves nothing on its connection",
  ),
  mutation(
    "row-level security: tables without it are built anew",
    "projections/tables.ts",
    " and rowsecurity and tablename",
    " and tablename",
    "projections/fence.test.ts",
    "one that an older version made without it is built anew",
  ),
  mutation(
    "whoever may not see a room learns nothing of it by leaving it",
    "api/realtime/rooms.ts",
    "if (!this.#subscriptions.has(room)) await openRoom(services, caller, named);",
    "",
    "api/realtime/rooms.test.ts",
    "a room that is unknown, another client's or one's own but private answers the same",
  ),
  mutation(
    "tenant of a room",
    "app/rooms/room-access.ts",
    "if (!parsed.success || (await streamOwner(parts.store, roomStream(parsed.data))) !== client) throw notFound();",
    "if (!parsed.success) throw notFound();",
    "api/http/rooms-list.test.ts",
    "another client's rooms are as unknown ones",
  ),
  mutation(
    "private rooms",
    "app/rooms/room-access.ts",
    'if (by.kind === "user" && room.settings.kind !== "public" && !room.members.has(by.subject)) throw notFound();',
    "",
    "api/http/rooms-list.test.ts",
    "finds a private room of others as little as one that does not exist",
  ),
  mutation(
    "tenant of a notification that is changed",
    "app/notifications/change.ts",
    "if (id === undefined || (await streamOwner(services.store, notificationStream(id))) !== read.client) {",
    "if (id === undefined) {",
    "faults/tenants.test.ts",
    "each route answers 401, 403, or as about an unknown id, and nothing is written",
  ),
];
