// Fences around secrets and what people write: what is sealed, and what is left out when something fails.
import { drop, type Mutation, replaceWith } from "./mutation.ts";

export const secretsMutations: readonly Mutation[] = [
  {
    fence: "provider-sealed",
    name: "credentials of providers are sealed",
    mutate: drop,
    caughtBy: { file: "faults/secrets.test.ts", test: "every secret is where it belongs and nowhere else" },
  },
  {
    fence: "smtp-secrets",
    name: "a password in the answer of an SMTP server",
    mutate: replaceWith("response"),
    caughtBy: { file: "channels/email/smtp.test.ts", test: "keeps no password" },
  },
  {
    fence: "vendor-secrets",
    name: "secrets that a provider quotes are taken out",
    mutate: replaceWith("(text: string) => text"),
    caughtBy: { file: "channels/email/providers.test.ts", test: "does not give its key back when it quotes it" },
  },
  {
    fence: "embedded-log-terse",
    name: "the embedded PostgreSQL's log says nothing of rows",
    mutate: drop,
    caughtBy: { file: "faults/secrets.test.ts", test: "every secret is where it belongs and nowhere else" },
  },
  {
    fence: "error-serializer",
    name: "errors are logged without the rows that they hold",
    mutate: drop,
    caughtBy: { file: "faults/secrets.test.ts", test: "every secret is where it belongs and nowhere else" },
  },
  {
    fence: "failed-request-path",
    name: "failed requests are logged without their paths",
    mutate: replaceWith("ctx.url"),
    caughtBy: { file: "faults/secrets.test.ts", test: "every secret is where it belongs and nowhere else" },
  },
];
