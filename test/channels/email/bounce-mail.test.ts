// Mails of receiving servers, as the RFCs and each server's documentation describe them: whom they are about, and why.
import { describe, expect, test } from "vitest";
import { bounceReports, PARSED_BYTES } from "../../../src/channels/email/events/bounce-mail.ts";

const DELIVERY = "dlv_0123456789abcdefghjkmnpqrs";
const ORIGINAL = "From: shop@example.com\nTo: jane@example.org\nSubject: 550 5.2.2 mailbox full\n\nHello";

/** A multipart/report: a text for people, the part for programs, the mail that it is about. */
const report = (type: string, text: string, fields: string, returned = ORIGINAL): string =>
  [
    "From: Mail Delivery System <MAILER-DAEMON@mx.example.org>",
    "To: b-token@bounces.example.com",
    "Subject: Undelivered Mail Returned to Sender",
    "Date: Mon, 02 Mar 2026 10:00:00 +0000",
    "Message-ID: <1@mx.example.org>",
    "MIME-Version: 1.0",
    `Content-Type: multipart/report; report-type=${type}; boundary="B"`,
    "",
    "--B",
    "Content-Type: text/plain; charset=utf-8",
    "",
    text,
    "--B",
    `Content-Type: message/${type}`,
    "",
    fields,
    "--B",
    "Content-Type: message/rfc822",
    "",
    returned,
    "--B--",
    "",
  ].join("\n");

const dsn = (recipient: string, head = "Reporting-MTA: dns; mx.example.org"): string =>
  report("delivery-status", "I'm sorry to have to inform you", `${head}\n\n${recipient}\n`);

const plain = (headers: string, text: string): string =>
  [`From: MAILER-DAEMON@mx.example.org\n${headers}`, "Content-Type: text/plain", "", text].join("\n");

const read = (mail: string) => bounceReports(Buffer.from(mail.replaceAll("\n", "\r\n")), DELIVERY);
const BOUNCED = { kind: "bounced", address: "jane@example.org", delivery: DELIVERY };

const STATUS: readonly (readonly [server: string, recipient: string, expected: object])[] = [
  [
    "Postfix: the mailbox is not there",
    `Final-Recipient: rfc822; jane@example.org
Original-Recipient: rfc822;jane@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550 5.1.1 <jane@example.org>: Recipient address
    rejected: User unknown in local recipient table`,
    {
      ...BOUNCED,
      bounce: "hard",
      code: "unknown_recipient",
      message: expect.stringContaining("rejected: User unknown"),
    },
  ],
  [
    "Postfix: the domain is not there",
    `Final-Recipient: rfc822; jane@example.org
Action: failed
Status: 5.4.4
Diagnostic-Code: X-Postfix; Host or domain name not found. Name service error for
    name=example.org type=A: Host not found`,
    { ...BOUNCED, bounce: "hard", code: "unknown_domain" },
  ],
  [
    "Postfix: the domain takes no mail (RFC 7505)",
    `Final-Recipient: rfc822; jane@example.org
Action: failed
Status: 5.1.0
Diagnostic-Code: X-Postfix; Domain example.org does not accept mail (nullMX)`,
    { ...BOUNCED, bounce: "hard", code: "unknown_domain" },
  ],
  [
    "Postfix: gave up after days",
    `Final-Recipient: rfc822; jane@example.org
Action: failed
Status: 4.4.1
Diagnostic-Code: X-Postfix; connect to mx.example.org[192.0.2.1]:25: Connection timed out`,
    { ...BOUNCED, bounce: "rejected", code: "unreachable" },
  ],
  [
    "Postfix: a warning of a delay",
    `Final-Recipient: rfc822; jane@example.org
Action: delayed
Status: 4.2.0
Diagnostic-Code: smtp; 450 4.2.0 <jane@example.org>: Recipient address rejected: Greylisted
Will-Retry-Until: Sat, 07 Mar 2026 10:00:00 +0000 (UTC)`,
    { kind: "deferred", bounce: null, code: "greylisted", address: "jane@example.org" },
  ],
  [
    "Exim: the status says nothing, what the other server said does",
    `Action: failed
Final-Recipient: rfc822;jane@example.org
Status: 5.0.0
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 552 5.2.2 Over quota`,
    { ...BOUNCED, bounce: "rejected", code: "mailbox_full" },
  ],
  [
    "Exim: no reason at all",
    "Action: failed\nFinal-Recipient: rfc822;jane@example.org\nStatus: 5.0.0",
    { ...BOUNCED, bounce: "hard", code: "bounced", message: null },
  ],
  [
    "Exchange Online: the recipient is not found",
    `Final-Recipient: rfc822;jane@example.org
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient jane@example.org not found by SMTP address lookup`,
    { ...BOUNCED, bounce: "hard", code: "unknown_recipient" },
  ],
  [
    "Exchange Online: the sender is blocked",
    `Final-Recipient: rfc822;jane@example.org
Action: failed
Status: 5.7.511
Diagnostic-Code: smtp;550 5.7.511 Access denied, banned sender[192.0.2.7]. To request removal from this list please forward this message`,
    { ...BOUNCED, bounce: "rejected", code: "blocked" },
  ],
  [
    "Exchange: the mailbox is full",
    `Original-Recipient: rfc822;jane@example.org
Final-Recipient: rfc822;jane@ad.example.org
Action: failed
Status: 5.2.2
Diagnostic-Code: smtp;554 5.2.2 mailbox full;STOREDRV.Deliver.Exception:QuotaExceededException`,
    { ...BOUNCED, bounce: "rejected", code: "mailbox_full" },
  ],
  [
    "Gmail: the account is not there",
    `Final-Recipient: rfc822; jane@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; gmail-smtp-in.l.google.com. (192.0.2.9, the server for the domain example.org.)
Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try
 550 5.1.1 double-checking the recipient's email address for typos
Last-Attempt-Date: Mon, 02 Mar 2026 09:30:00 -0800 (PST)`,
    { ...BOUNCED, bounce: "hard", code: "unknown_recipient", happenedAt: Date.parse("2026-03-02T17:30:00Z") },
  ],
  [
    "Gmail: unauthenticated mail",
    `Final-Recipient: rfc822; jane@example.org
Action: failed
Status: 5.7.26
Diagnostic-Code: smtp; 550-5.7.26 This mail has been blocked because the sender is unauthenticated.`,
    { ...BOUNCED, bounce: "rejected", code: "policy" },
  ],
  [
    "Gmail: taken for spam",
    `Final-Recipient: rfc822; jane@example.org
Action: failed
Status: 5.7.1
Diagnostic-Code: smtp; 550-5.7.1 Our system has detected that this message is likely unsolicited mail.`,
    { ...BOUNCED, bounce: "rejected", code: "spam" },
  ],
  [
    "Sendmail: too large",
    `Final-Recipient: RFC822; jane@example.org
Action: failed
Status: 5.3.4
Diagnostic-Code: SMTP; 552 5.3.4 Message size exceeds fixed limit`,
    { ...BOUNCED, bounce: "rejected", code: "message_too_large" },
  ],
  [
    "Sendmail: a mailbox that was closed",
    "Final-Recipient: RFC822; <jane@example.org>\nAction: failed (5.2.1)\nStatus: 5.2.1",
    { ...BOUNCED, bounce: "hard", code: "mailbox_disabled" },
  ],
  [
    "delivered",
    "Final-Recipient: rfc822; jane@example.org\nAction: delivered\nStatus: 2.1.5",
    { kind: "delivered", code: null, address: "jane@example.org" },
  ],
  [
    "relayed",
    "Final-Recipient: rfc822; jane@example.org\nAction: relayed\nStatus: 2.0.0",
    { kind: "delivered", address: "jane@example.org" },
  ],
  [
    "without an action, by its status",
    "Final-Recipient: rfc822; jane@example.org\nStatus: 5.1.1",
    { ...BOUNCED, bounce: "hard", code: "unknown_recipient" },
  ],
];

describe("a delivery status notification", () => {
  test.each(STATUS)("%s", async (_server, recipient, expected) => {
    const reports = await read(dsn(recipient));
    expect(reports).toHaveLength(1);
    expect(reports[0]).toMatchObject(expected);
  });

  test("of several recipients: one report each, with ids of their own", async () => {
    const block = (name: string) => `Final-Recipient: rfc822; ${name}@example.org\nAction: failed\nStatus: 5.1.1\n`;
    const reports = await read(dsn(["jane", "joe", "ann"].map(block).join("\n")));
    expect(reports.map(({ address }) => address)).toEqual(["jane@example.org", "joe@example.org", "ann@example.org"]);
    expect(new Set(reports.map(({ id }) => id)).size).toBe(3);
  });

  test("the same again gives the same id, also behind other trace headers; another one gives another", async () => {
    const mail = dsn("Final-Recipient: rfc822; jane@example.org\nAction: failed\nStatus: 5.1.1");
    const ids = async (text: string) => (await read(text)).map(({ id }) => id);
    expect(await ids(`Received: from relay by mx\n${mail}`)).toEqual(await ids(mail));
    expect(await ids(mail.replace("<1@", "<2@"))).not.toEqual(await ids(mail));
  });

  test("a returned mail with a report of its own says nothing", async () => {
    const own = dsn("Final-Recipient: rfc822; other@example.org\nAction: failed\nStatus: 5.1.1");
    const inner = own.replaceAll("--B", "--I").replace('"B"', '"I"');
    const outer = report("disposition-notification", "displayed", "Disposition: manual-action; displayed", inner);
    expect(await read(outer)).toEqual([]);
  });
});

describe("a bounce without a part for programs", () => {
  const QMAIL = `Hi. This is the qmail-send program at mx.example.org.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<jane@example.org>:
Sorry, no mailbox here by that name. (#5.1.1)

<joe@example.org>:
192.0.2.1 failed after I sent the message.
Remote host said: 552 mailbox is over quota

--- Below this line is a copy of the message.

<ann@example.org>:
550 5.1.1 no`;

  test("qmail's: a paragraph a recipient, and nothing of the mail below it", async () => {
    expect(await read(plain("Subject: failure notice", QMAIL))).toMatchObject([
      { ...BOUNCED, bounce: "hard", code: "unknown_recipient" },
      { kind: "bounced", bounce: "rejected", code: "mailbox_full", address: "joe@example.org" },
    ]);
  });

  test("older Exim's: the header names the recipient, the text the reason", async () => {
    const text = `This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  jane@example.org
    SMTP error from remote mail server after RCPT TO:<jane@example.org>:
    host mx.example.org [192.0.2.1]: 550 5.1.1 User unknown

------ This is a copy of the message, including all the headers. ------`;
    const headers = "X-Failed-Recipients: jane@example.org\nSubject: Mail delivery failed: returning message to sender";
    expect(await read(plain(headers, text))).toMatchObject([{ ...BOUNCED, bounce: "hard", code: "unknown_recipient" }]);
  });

  test("older Exim's warning of a delay", async () => {
    const headers = "Subject: Warning: message 1a-2b-3c delayed 24 hours";
    expect(await read(plain(headers, "It has not yet been delivered."))).toMatchObject([{ kind: "deferred" }]);
  });

  test("an answer of a person, or of a program while somebody is away, is no report", async () => {
    expect(await read(plain("Subject: Out of office", "I am away. 550 5.1.1 user unknown"))).toEqual([]);
  });
});

describe("an abuse report", () => {
  const arf = (fields: string) =>
    read(report("feedback-report", "This is an email abuse report", `User-Agent: Feedback/1.0\nVersion: 1\n${fields}`));

  test.each([
    ["abuse", { kind: "complained", address: "jane@example.org" }],
    ["fraud", { kind: "complained" }],
    ["opt-out", { kind: "unsubscribed" }],
  ])("%s", async (type, expected) => {
    const fields = `Feedback-Type: ${type}\nOriginal-Rcpt-To: <jane@example.org>\nArrival-Date: Mon, 02 Mar 2026 09:00:00 Z`;
    expect(await arf(fields)).toMatchObject([{ ...expected, happenedAt: Date.parse("2026-03-02T09:00:00Z") }]);
  });

  test.each(["not-spam", "auth-failure", "other", "__proto__", ""])("%j is no complaint", async (type) => {
    expect(await arf(`Feedback-Type: ${type}\nOriginal-Rcpt-To: jane@example.org`)).toEqual([]);
  });

  test("that names nobody is of one of the mail's recipients", async () => {
    expect(await arf("Feedback-Type: abuse")).toMatchObject([{ kind: "complained", address: "" }]);
  });
});

describe("hostile mails", () => {
  const nested = (depth: number): string => {
    const parts = Array.from({ length: depth }, (_, n) => `Content-Type: multipart/mixed; boundary=b${n}\n\n--b${n}\n`);
    return `From: a@example.org\n${parts.join("")}`;
  };
  const HOSTILE: Readonly<Record<string, string>> = {
    nothing: "",
    "line breaks alone": "\n".repeat(PARSED_BYTES),
    "parts in parts": nested(2_000),
    "a part without an end": dsn("Final-Recipient: rfc822; jane@example.org\nAction: failed\nStatus: 5.1.1").slice(
      0,
      -40,
    ),
    "a header without an end": `Subject: ${"x".repeat(PARSED_BYTES)}`,
    "folds without an end": `Subject: a\n${" x\n".repeat(PARSED_BYTES / 3)}`,
    "a boundary on every line": report("delivery-status", "--B\n".repeat(10_000), "Action: failed"),
    "blocks without an end": dsn("Action: failed\nStatus: 5.0.0\n\n".repeat(5_000)),
    "one field without an end": dsn(`Diagnostic-Code: smtp; ${"5.1.1 ".repeat(20_000)}`),
    "encoded words": `Subject: ${"=?utf-8?q?=41?= ".repeat(8_000)}\n\nHi. This is ${"<a@b>:".repeat(5_000)}`,
    "bytes that are none of UTF-8": Buffer.from([0xff, 0xfe, 0x00, 0x80]).toString("latin1").repeat(10_000),
  };

  test.each(Object.entries(HOSTILE))("%s: few reports, and no fault", async (_name, mail) => {
    expect((await bounceReports(Buffer.from(mail, "latin1"), DELIVERY)).length).toBeLessThanOrEqual(100);
  });

  test.each(["\n", "--B\n", `To: ${"a@b,".repeat(12)}\n`])(
    "%j again and again is parsed for 1,000 lines",
    async (line) => {
      const head = 'From: a@example.org\nContent-Type: multipart/mixed; boundary="B"\n';
      const late = `${head}${line.repeat(1_000)}${dsn("Final-Recipient: rfc822; jane@example.org\nAction: failed")}`;
      expect(await bounceReports(Buffer.from(late), DELIVERY)).toEqual([]);
    },
  );

  test("what follows after the first pieces of a mail is not parsed", async () => {
    const late = `From: a@example.org\n\n${"x\n".repeat(PARSED_BYTES)}`;
    expect(await read(late + dsn("Final-Recipient: rfc822; jane@example.org\nAction: failed"))).toEqual([]);
  });
});
