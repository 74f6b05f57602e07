// channels/redaction.ts: takes secrets out of what others say before any of it is kept or shown.

export type Redact = (text: string) => string;

const MARK = "[redacted]";
/** Shorter ones are no secrets, and would turn up in any text. */
const MIN_LENGTH = 4;

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/** Takes out these secrets, as they are and as they may be quoted: in a URL, in JSON, in base64. Case does not matter. */
export function redactor(secrets: readonly (string | null | undefined)[]): Redact {
  const known = secrets.flatMap((secret) => ((secret ?? "").length >= MIN_LENGTH ? [secret ?? ""] : []));
  const forms = known.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    Buffer.from(secret).toString("base64").replace(/=+$/, ""),
  ]);
  // The longest first: one may be in another.
  const longest = [...new Set(forms)].toSorted((a, b) => b.length - a.length);
  if (longest.length === 0) return (text) => text;
  const expression = new RegExp(longest.map(escaped).join("|"), "gi");
  // fence: vendor-secrets
  return (text) => text.replace(expression, MARK);
}
