// channels/email/events/bounce-mail.ts: what receiving servers report of mails by mail: delivery status notifications (RFC
// 3464), abuse reports (RFC 5965), and the texts of qmail and older Exim, which write neither.
import PostalMime, { type Email } from "postal-mime";
import type { MailReport } from "../../../domain/delivery-reports.ts";
import { type BounceCode, bounceCode } from "./bounce-codes.ts";
import { derivedId, instantOf, reportOf } from "./vendor.ts";

/** As much of a mail as is parsed: a report comes before the mail that it is about. */
export const PARSED_BYTES = 128 * 1024;
/** The parser takes tens of microseconds a line, whatever is on it. */
const PARSED_LINES = 1_000;

const MAX_PART_BYTES = 64 * 1024;
const MAX_TEXT = 16_384;
const MAX_FIELD_LENGTH = 2_000;
/** A mail has at most 51 recipients. */
const MAX_REPORTS = 100;
const LIMITS = { maxNestingDepth: 8, maxHeadersSize: 32_768, maxRfc822NestingDepth: 0, forceRfc822Attachments: true };

/** What one report says, before it has an id. */
type Said = Partial<MailReport> & Pick<MailReport, "kind">;

/** The fields of one block, by name in lower case, each with its values in order. */
type Fields = ReadonlyMap<string, readonly string[]>;

/**
 * The reports in a mail that came to a delivery's return path; none when it is no report, such as an answer of a person or
 * a program. The same mail gives the same ids. Never rejects for what the mail holds.
 */
export async function bounceReports(raw: Uint8Array, delivery: string): Promise<readonly MailReport[]> {
  const mail = await PostalMime.parse(beginning(raw), LIMITS).catch(() => undefined);
  if (mail === undefined) return [];
  const said = saidIn(mail).slice(0, MAX_REPORTS);
  // A relay may hand it over once more, with other trace headers.
  const own = [mail.messageId, header(mail, "date"), delivery];
  return said.map((one) => {
    const { kind, code = null, address = null, message = null } = one;
    return reportOf({ id: derivedId(...own, kind, code, address, message), delivery, ...one });
  });
}

/** What is parsed of a mail. */
function beginning(raw: Uint8Array): Uint8Array {
  const bytes = raw.subarray(0, PARSED_BYTES);
  let lines = 0;
  for (let at = bytes.indexOf(LINE_FEED); at !== -1; at = bytes.indexOf(LINE_FEED, at + 1)) {
    lines += 1;
    // fence: bounce-lines
    if (lines === PARSED_LINES) return bytes.subarray(0, at);
  }
  return bytes;
}
const LINE_FEED = 10;

function saidIn(mail: Email): readonly Said[] {
  const happenedAt = instantOf(header(mail, "date"));
  const status = partOf(mail, "delivery-status");
  if (status !== null) return blocksOf(status).flatMap((block) => statusOf(block, happenedAt) ?? []);
  const feedback = partOf(mail, "feedback-report");
  if (feedback !== null)
    return blocksOf(feedback)
      .slice(0, 1)
      .flatMap((block) => complaintOf(block, happenedAt));
  const text = (mail.text ?? "").slice(0, MAX_TEXT).replaceAll("\r\n", "\n");
  const failed = QSBMF.test(text) ? qmailFailures(text) : eximFailures(mail, text);
  return failed.map((one) => ({ happenedAt, ...one }));
}

/** A report's part as text; also in its form for addresses beyond ASCII (RFC 6533). */
function partOf({ attachments }: Email, subtype: string): string | null {
  const types: readonly string[] = [`message/${subtype}`, `message/global-${subtype}`];
  const content = attachments.find(({ mimeType }) => types.includes(mimeType))?.content;
  if (content === undefined) return null;
  const bytes = typeof content === "string" ? Buffer.from(content) : new Uint8Array(content);
  return new TextDecoder().decode(bytes.subarray(0, MAX_PART_BYTES));
}

/** Blocks of fields, which blank lines divide. Folded fields are unfolded. */
function blocksOf(text: string): readonly Fields[] {
  const blocks: Map<string, string[]>[] = [];
  let block: Map<string, string[]> | undefined;
  let values: string[] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === "") block = undefined;
    else if (/^[ \t]/.test(line)) {
      const last = values.pop();
      if (last !== undefined) values.push(`${last} ${line.trim()}`.slice(0, MAX_FIELD_LENGTH));
    } else {
      const colon = line.indexOf(":");
      const name = line.slice(0, Math.max(colon, 0)).trim().toLowerCase();
      if (name === "" || name.length > 100) continue;
      if (block === undefined) {
        if (blocks.length > MAX_REPORTS) break;
        block = new Map();
        blocks.push(block);
      }
      values = block.get(name) ?? [];
      values.push(
        line
          .slice(colon + 1)
          .trim()
          .slice(0, MAX_FIELD_LENGTH),
      );
      block.set(name, values);
    }
  }
  return blocks;
}

const field = (fields: Fields, name: string): string | null => fields.get(name)?.[0] ?? null;

/** The value behind a type, such as `rfc822;` or `smtp;`. */
const untyped = (value: string | null): string | null =>
  value === null ? null : value.slice(value.indexOf(";") + 1).trim();

/** A recipient as a report names it. */
function addressIn(value: string | null): string | null {
  const address = untyped(value)?.replace(/^<|>$/g, "").trim() ?? "";
  return address.includes("@") ? address : null;
}

type Action = "failed" | "delayed" | "delivered";
/** What the actions of RFC 3464 come to: a mail that was passed on or expanded has left the last server that reports. */
const ACTIONS: ReadonlyMap<string, Action> = new Map([
  ["failed", "failed"],
  ["delayed", "delayed"],
  ["delivered", "delivered"],
  ["relayed", "delivered"],
  ["expanded", "delivered"],
]);
const BY_CLASS: ReadonlyMap<string, Action> = new Map([
  ["5", "failed"],
  ["4", "delayed"],
  ["2", "delivered"],
]);

/** One recipient's block. Undefined: it is the block of the whole mail, or says nothing. */
function statusOf(block: Fields, at: number | null): Said | undefined {
  const address = addressIn(field(block, "original-recipient")) ?? addressIn(field(block, "final-recipient"));
  const status = field(block, "status");
  const named = field(block, "action")
    ?.toLowerCase()
    .split(/[^a-z]/)[0];
  if (address === null && named === undefined) return undefined;
  const action = named === undefined ? BY_CLASS.get(status?.[0] ?? "") : ACTIONS.get(named);
  if (action === undefined) return undefined;
  const diagnostic = untyped(field(block, "diagnostic-code"));
  const about = { address, happenedAt: instantOf(field(block, "last-attempt-date")) ?? at, message: diagnostic };
  if (action === "delivered") return { kind: "delivered", ...about };
  return { ...failure(status, diagnostic, action === "delayed"), ...about };
}

/** What makes a failure one of the address, and not of this mail. */
const OF_ADDRESS: readonly BounceCode[] = ["unknown_recipient", "unknown_domain", "mailbox_disabled", "bounced"];

/** A server that reports a failure has given up; only what is wrong with the address for good is a hard bounce. */
function failure(status: string | null, text: string | null, delayed: boolean): Said {
  const code = bounceCode(status, text);
  if (delayed) return { kind: "deferred", code };
  const forGood = !/^\s*4/.test(status ?? "") && !/^\s*4\d\d\b/.test(text ?? "");
  return { kind: "bounced", bounce: forGood && OF_ADDRESS.includes(code) ? "hard" : "rejected", code };
}

/** What the types of RFC 5965 come to, and of the drafts before it. All else is no complaint. */
const FEEDBACK: ReadonlyMap<string, "complained" | "unsubscribed"> = new Map([
  ["abuse", "complained"],
  ["fraud", "complained"],
  ["virus", "complained"],
  ["opt-out", "unsubscribed"],
  ["opt-out-list", "unsubscribed"],
]);

/** Whom it does not name, or only in a form that nobody can read, is one of the mail's recipients. */
function complaintOf(block: Fields, at: number | null): readonly Said[] {
  const kind = FEEDBACK.get(field(block, "feedback-type")?.toLowerCase() ?? "");
  if (kind === undefined) return [];
  const happenedAt = instantOf(field(block, "arrival-date") ?? field(block, "received-date")) ?? at;
  const addresses = (block.get("original-rcpt-to") ?? []).flatMap((value) => addressIn(value) ?? []);
  return (addresses.length === 0 ? [""] : addresses).map((address) => ({ kind, address, happenedAt }));
}

/** qmail's bounces (QSBMF): paragraphs, each recipient's begins with its address, and "-" ends them. */
const QSBMF = /^\s*Hi\. This is /;

function qmailFailures(text: string): readonly Said[] {
  const failures: Said[] = [];
  for (const paragraph of text
    .trim()
    .split(/\n[ \t]*\n/)
    .slice(1, MAX_REPORTS)) {
    if (paragraph.startsWith("-")) break;
    const [, address, reason = ""] = /^<([^<>\s]{1,320})>:([\s\S]*)$/.exec(paragraph.trim()) ?? [];
    if (address === undefined) continue;
    const message = reason.replace(/\s+/g, " ").trim().slice(0, MAX_FIELD_LENGTH);
    failures.push({ ...failure(null, message, false), address, message });
  }
  return failures;
}

/** Exim before it wrote delivery status notifications: a header names whom a failure is of, the subject tells a delay. */
function eximFailures(mail: Email, text: string): readonly Said[] {
  const warned = /^Warning: message \S{1,64} delayed /.test(mail.subject ?? "");
  const failed = header(mail, "x-failed-recipients");
  if (failed === null && !warned) return [];
  const addresses = warned ? [""] : (failed ?? "").slice(0, MAX_FIELD_LENGTH).split(",");
  return addresses.map((one) => {
    const address = one.trim();
    const message = eximReason(text, address);
    return { ...failure(null, message, warned), address, message };
  });
}

/** What stands indented below an address. */
function eximReason(text: string, address: string): string | null {
  const lines = text.split("\n");
  const from = address === "" ? -1 : lines.findIndex((line) => line.trim() === address);
  if (from < 0) return null;
  const reason: string[] = [];
  for (const line of lines.slice(from + 1)) {
    if (!/^\s{3,}\S/.test(line)) break;
    reason.push(line.trim());
  }
  return reason.length === 0 ? null : reason.join(" ").slice(0, MAX_FIELD_LENGTH);
}

const header = ({ headers }: Email, name: string): string | null =>
  headers.find(({ key }) => key === name)?.value ?? null;
