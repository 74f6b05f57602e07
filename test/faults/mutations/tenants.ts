// Fences between clients, and around what is one person's.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these strings are pieces of source text
import { condition, drop, type Mutation, replaceWith } from "./mutation.ts";

export const tenantMutations: readonly Mutation[] = [
  {
    fence: "statement-timeout",
    name: "PostgreSQL cancels a read that takes too long",
    mutate: replaceWith("$2::text"),
    caughtBy: { file: "projections/fence.test.ts", test: "not answered in time is cancelled in PostgreSQL" },
  },
  {
    fence: "reader-gone",
    name: "PostgreSQL cancels a read whose reader is gone",
    mutate: drop,
    caughtBy: { file: "projections/fence.test.ts", test: "whose reader is gone is cancelled" },
  },
  {
    fence: "search-client",
    name: "a search finds rooms of the session's client alone",
    mutate: replaceWith("true"),
    caughtBy: { file: "projections/fence.test.ts", test: "gives a client's query no id of another" },
  },
  {
    fence: "search-messages-client",
    name: "a search finds messages of the session's client alone",
    mutate: replaceWith("true"),
    caughtBy: { file: "projections/message-search.test.ts", test: "gives nobody else keys" },
  },
  {
    fence: "search-members",
    name: "a user's search finds messages of its own rooms alone",
    mutate: replaceWith("true"),
    caughtBy: {
      file: "projections/message-search.test.ts",
      test: "gives a user of very many rooms only what is in them",
    },
  },
  {
    fence: "search-viewer",
    name: "a search with a user's token is that user's",
    mutate: replaceWith("undefined"),
    caughtBy: { file: "api/http/searching.test.ts", test: "finds what its user may see" },
  },
  {
    fence: "search-deleted-rooms",
    name: "a search finds nothing of deleted rooms",
    mutate: replaceWith("true"),
    caughtBy: { file: "projections/message-search.test.ts", test: "gives nothing that is deleted" },
  },
  {
    fence: "search-deleted",
    name: "a deleted message leaves the index of words",
    mutate: replaceWith("false"),
    caughtBy: { file: "projections/message-search.test.ts", test: "leaves out of the index what is deleted" },
  },
  {
    fence: "search-escape",
    name: "what a search shows is escaped but for its marks",
    mutate: replaceWith("text"),
    caughtBy: { file: "domain/search.test.ts", test: "what was found" },
  },
  {
    fence: "search-terms",
    name: "the limit of terms of a search",
    mutate: condition(false),
    caughtBy: { file: "domain/search.test.ts", test: "has at most 16 terms" },
  },
  {
    fence: "slots-per-key",
    name: "one client's reads leave connections for another's",
    mutate: replaceWith("true"),
    caughtBy: { file: "projections/fence.test.ts", test: "of one client leaves connections" },
  },
  {
    fence: "tenant-read",
    name: "tenant condition of every read",
    mutate: drop,
    caughtBy: { file: "projections/fence.test.ts", test: "by the query's own condition, without the policies" },
  },
  {
    fence: "rls-policy",
    name: "row-level security: the policy of each table",
    mutate: condition(true),
    caughtBy: { file: "projections/fence.test.ts", test: "by the policies, without a condition" },
  },
  {
    fence: "rls-role",
    name: "row-level security: the role that clients' queries run as",
    mutate: drop,
    caughtBy: { file: "projections/fence.test.ts", test: "by the policies, without a condition" },
  },
  {
    fence: "rls-end",
    name: "row-level security: what confines a query ends with it",
    mutate: replaceWith(
      "`select where set_config('role', 'pg_database_owner', false) || set_config('chatapi.client', $1, false) || set_config('statement_timeout', $2, false) is null`",
    ),
    caughtBy: { file: "projections/fence.test.ts", test: "leaves nothing on its connection" },
  },
  {
    fence: "rls-missing",
    name: "row-level security: tables without it are built anew",
    mutate: drop,
    caughtBy: { file: "projections/fence.test.ts", test: "one that an older version made without it is built anew" },
  },
  {
    fence: "leave-unseen-room",
    name: "whoever may not see a room learns nothing of it by leaving it",
    mutate: drop,
    caughtBy: {
      file: "api/realtime/rooms.test.ts",
      test: "a room that is unknown, another client's or one's own but private answers the same",
    },
  },
  {
    fence: "tenant-room",
    name: "tenant of a room",
    mutate: drop,
    caughtBy: { file: "api/http/rooms-list.test.ts", test: "another client's rooms are as unknown ones" },
  },
  {
    fence: "hidden-room-time",
    name: "a hidden room is refused as late as one that is not there",
    mutate: condition(true),
    caughtBy: { file: "api/http/rooms-claims.test.ts", test: "tells a user by no time whether a hidden room has it" },
  },
  {
    fence: "private-room",
    name: "private rooms",
    mutate: drop,
    caughtBy: {
      file: "api/http/rooms-list.test.ts",
      test: "finds a private room of others as little as one that does not exist",
    },
  },
  {
    fence: "tenant-delivery",
    name: "tenant of a delivery that is started again",
    mutate: drop,
    caughtBy: { file: "api/http/deliveries-list.test.ts", test: "another client finds none of it" },
  },
  {
    fence: "tenant-notification",
    name: "tenant of a notification that is changed",
    mutate: drop,
    caughtBy: {
      file: "faults/tenants.test.ts",
      test: "each route answers 401, 403, or as about an unknown id, and nothing is written",
    },
  },
];
