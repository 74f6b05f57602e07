// What comes back of mails: reports, hooks, suppressions, unsubscribing, inbound mail.
import { type Mutation, replaceWith } from "./mutation.ts";

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
];
