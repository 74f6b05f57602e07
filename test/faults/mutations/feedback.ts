// What comes back of mails: reports, hooks, suppressions, unsubscribing, inbound mail.
import { condition, drop, type Mutation, replaceWith } from "./mutation.ts";

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
  {
    fence: "hook-mailgun",
    name: "signature of Mailgun's events",
    mutate: drop,
    caughtBy: { file: "api/http/hooks.test.ts", test: "a flipped bit for nothing" },
  },
  {
    fence: "hook-mailgun-age",
    name: "age of Mailgun's signatures",
    mutate: drop,
    caughtBy: { file: "api/http/hooks.test.ts", test: "for nine hours" },
  },
  {
    fence: "hook-token",
    name: "a token of Mailgun's counts for one event",
    mutate: drop,
    caughtBy: { file: "api/http/hooks.test.ts", test: "a token counts for one event" },
  },
  {
    fence: "hook-sendgrid",
    name: "signature of SendGrid's events",
    mutate: drop,
    caughtBy: { file: "api/http/hooks.test.ts", test: "another byte, or no signature" },
  },
  {
    fence: "hook-postmark",
    name: "password of Postmark's events",
    mutate: drop,
    caughtBy: { file: "api/http/hooks.test.ts", test: "is let in by its password" },
  },
  {
    fence: "hook-path",
    name: "MAC of a provider's path",
    mutate: replaceWith("owner"),
    caughtBy: { file: "api/http/hooks.test.ts", test: "is one provider's of one client" },
  },
  {
    fence: "hook-ses",
    name: "signature of SES's events",
    mutate: drop,
    caughtBy: { file: "channels/email/events.test.ts", test: "a changed message is refused" },
  },
  {
    fence: "hook-ses-host",
    name: "certificates of SES's events are Amazon's",
    mutate: drop,
    caughtBy: { file: "channels/email/events.test.ts", test: "a certificate of another host is refused" },
  },
  {
    fence: "hook-ses-topic",
    name: "topic of SES's events",
    mutate: drop,
    caughtBy: { file: "channels/email/events.test.ts", test: "somebody else's topic" },
  },
  {
    fence: "inbound-recipient",
    name: "mail is taken for return paths of this server alone",
    mutate: condition(true),
    caughtBy: { file: "api/inbound-smtp.test.ts", test: "is refused at RCPT" },
  },
  {
    fence: "bounce-lines",
    name: "lines of a bounce that are parsed",
    mutate: drop,
    caughtBy: { file: "channels/email/bounce-mail.test.ts", test: "is parsed for 1,000 lines" },
  },
  {
    fence: "report-client",
    name: "tenant of a mail that is reported on",
    mutate: drop,
    caughtBy: { file: "api/http/suppressions.test.ts", test: "is nothing to another client" },
  },
];
