// What comes back of mails: reports, hooks, suppressions, unsubscribing, inbound mail.
import { drop, type Mutation, replaceWith } from "./mutation.ts";

export const feedbackMutations: readonly Mutation[] = [
  {
    fence: "reports-final",
    name: "a bounce or complaint is the last word on a mail",
    mutate: replaceWith("false"),
    caughtBy: { file: "specs/delivery-reports.test.ts", test: "what comes while the attempt is open" },
  },
  {
    fence: "reports-status",
    name: "a report never undoes a bounce",
    mutate: replaceWith("outcome ?? status"),
    caughtBy: { file: "specs/delivery-reports.test.ts", test: "is final: delivered, and each other, never undo it" },
  },
  {
    fence: "suppressed-mail",
    name: "mails to suppressed addresses are not sent",
    mutate: replaceWith("null"),
    caughtBy: { file: "api/http/suppressions.test.ts", test: "takes addresses by hand" },
  },
  {
    fence: "suppressed-critical",
    name: "critical mails do not go to addresses that bounced",
    mutate: drop,
    caughtBy: { file: "specs/suppression.test.ts", test: "what becomes of a mail, and of a critical one: bounced" },
  },
  {
    fence: "mail-token",
    name: "MAC of unsubscribe links",
    mutate: drop,
    caughtBy: { file: "api/http/unsubscribe.test.ts", test: "a link that this server did not make" },
  },
];
