// Fences around secrets and what people write: what is sealed, and what is left out when something fails.
import { type Mutation, mutation } from "./mutation.ts";

const CAUGHT_BY = ["faults/secrets.test.ts", "every secret is where it belongs and nowhere else"] as const;

export const secretsMutations: readonly Mutation[] = [
  mutation(
    "credentials of providers are sealed",
    "domain/client.ts",
    'ProviderSet: event({ data: provider, seals: { config: "client" } })',
    "ProviderSet: event({ data: provider })",
    ...CAUGHT_BY,
  ),
  mutation(
    "the embedded PostgreSQL's log says nothing of rows",
    "embedded/postgres-settings.ts",
    '    log_error_verbosity: "terse",\n',
    "",
    ...CAUGHT_BY,
  ),
  mutation(
    "errors are logged without the rows that they hold",
    "platform/logger.ts",
    ", serializers: { err: shownError }",
    "",
    ...CAUGHT_BY,
  ),
  mutation(
    "failed requests are logged without their paths",
    "api/http/server.ts",
    'method: request.method, route }, "a request failed"',
    'method: request.method, route: request.url }, "a request failed"',
    ...CAUGHT_BY,
  ),
];
