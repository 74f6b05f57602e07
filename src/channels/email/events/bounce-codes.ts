// channels/email/events/bounce-codes.ts: why a mail came back, as one code: by RFC 3463's status, and by what servers write.

/** What the interface calls the reasons of bounces. */
export type BounceCode =
  | "unknown_recipient"
  | "unknown_domain"
  | "mailbox_disabled"
  | "mailbox_full"
  | "blocked"
  | "spam"
  | "policy"
  | "message_too_large"
  | "content"
  | "rate_limited"
  | "greylisted"
  | "unreachable"
  | "expired"
  | "unavailable"
  | "rejected"
  | "bounced";

/** Subject and detail of an enhanced status whose meaning leaves nothing to the text beside it. */
const SURE: Readonly<Record<string, BounceCode>> = {
  "1.1": "unknown_recipient",
  "1.2": "unknown_domain",
  "1.3": "unknown_recipient",
  "1.6": "unknown_recipient",
  "1.10": "unknown_recipient",
  "2.1": "mailbox_disabled",
  "2.2": "mailbox_full",
  "2.3": "message_too_large",
  "3.4": "message_too_large",
  "4.7": "expired",
  "7.23": "policy",
  "7.25": "policy",
  "7.26": "policy",
  "7.28": "rate_limited",
};

/** By the subject alone, where neither status nor text says more. */
const BY_SUBJECT: Readonly<Record<string, BounceCode>> = {
  "1": "unknown_recipient",
  "2": "unavailable",
  "3": "unavailable",
  "4": "unreachable",
  "5": "rejected",
  "6": "content",
  "7": "policy",
};

/** Well-known texts in lower case, the most telling first. */
const TEXTS: readonly (readonly [BounceCode, readonly string[]])[] = [
  [
    "mailbox_full",
    [
      "mailbox full",
      "mailbox is full",
      "over quota",
      "overquota",
      "quota exceeded",
      "exceeded storage",
      "out of storage",
    ],
  ],
  [
    "blocked",
    [
      ...[
        "blocklist",
        "block list",
        "blacklist",
        "black list",
        "blocked",
        "banned",
        "spamhaus",
        "barracuda",
        "spamcop",
      ],
      ...["sorbs", "dnsbl", " rbl", "reputation", "invaluement", "proofpoint"],
    ],
  ],
  [
    "unknown_recipient",
    [
      ...["user unknown", "unknown user", "no such user", "no such recipient", "no such mailbox", "unknown recipient"],
      ...["does not exist", "doesn't exist", "invalid recipient", "invalid mailbox", "recipient not found"],
      ...[
        "mailbox not found",
        "user not found",
        "no mailbox",
        "not a valid mailbox",
        "address rejected: access denied",
      ],
      ...["unknown or illegal alias", "address unknown", "unrouteable address", "recipientnotfound", "bad destination"],
    ],
  ],
  [
    "mailbox_disabled",
    ["disabled", "inactive", "suspended", "deactivated", "no longer active", "not active", "no longer accepts"],
  ],
  ["spam", ["spam", "unsolicited", "junk mail", "bulk mail", "user complaints"]],
  ["policy", ["dmarc", "spf ", "dkim", "policy", "unauthenticated", "not authorized", "authentication required"]],
  [
    "unknown_domain",
    [
      "host not found",
      "domain not found",
      "domain name not found",
      "host unknown",
      "unknown host",
      "nxdomain",
      "no mx",
      "null mx",
      "does not accept mail",
    ],
  ],
  ["message_too_large", ["too large", "too big", "size limit", "exceeds the maximum", "exceeds size"]],
  ["rate_limited", ["rate limit", "too many", "throttl", "exceeded the maximum number"]],
  ["greylisted", ["greylist", "graylist", "grey list", "try again later"]],
  ["expired", ["expired", "retry timeout exceeded", "too long", "gave up"]],
  ["unreachable", ["timed out", "timeout", "connection refused", "network is unreachable", "no route"]],
  ["content", ["virus", "malware", "content rejected", "attachment"]],
];
/** The longest text that is looked at. */
const MAX_TEXT = 2_000;

/** An enhanced status as RFC 3463 writes it, on its own or in front of a text: class, subject and detail. */
function enhancedStatus(text: string): readonly [cls: string, subject: string, detail: string] | null {
  const [, cls, subject, detail] =
    /(?:^|[^\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.]*\d)/.exec(text.slice(0, MAX_TEXT)) ?? [];
  return cls === undefined || subject === undefined || detail === undefined ? null : [cls, subject, detail];
}

/** Why a mail came back. `status` is RFC 3463's, where there is one beside the text. */
export function bounceCode(status: string | null, text: string | null): BounceCode {
  const said = (text ?? "").slice(0, MAX_TEXT);
  const given = enhancedStatus(status ?? "");
  // Some servers write x.0.0 whatever happened, and beside it what the other server said.
  const isVague = given === null || (given[1] === "0" && given[2] === "0");
  const known = isVague ? (enhancedStatus(said) ?? given) : given;
  const [, subject = "", detail = ""] = known ?? [];
  const sure = SURE[`${subject}.${detail}`];
  if (sure !== undefined) return sure;
  const lower = said.toLowerCase();
  const [byText] = TEXTS.find(([, texts]) => texts.some((one) => lower.includes(one))) ?? [];
  return byText ?? (detail === "0" ? undefined : BY_SUBJECT[subject]) ?? "bounced";
}
