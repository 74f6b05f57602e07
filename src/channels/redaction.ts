// channels/redaction.ts: takes secrets out of what others say before any of it is kept or shown.

export type Redact = (text: string) => string;

const MARK = "[redacted]";
/** Shorter ones are no secrets, and would turn up in any text. */
const MIN_LENGTH = 4;

/** How a text begins in base64, whatever follows it: without the padding at its end. */
export function base64WithoutPadding(text: string): string {
  const encoded = Buffer.from(text).toString("base64");
  const padding = encoded.indexOf("=");
  return padding === -1 ? encoded : encoded.slice(0, padding);
}

/** Takes out these secrets, as they are and as they may be quoted: in a URL, in JSON, in base64; also all in lower or upper case. */
export function redactor(secrets: readonly (string | null | undefined)[]): Redact {
  const known = secrets.flatMap((secret) => ((secret ?? "").length >= MIN_LENGTH ? [secret ?? ""] : []));
  const forms = known.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    base64WithoutPadding(secret),
  ]);
  const cased = forms.flatMap((form) => [form, form.toLowerCase(), form.toUpperCase()]);
  // The longest first: one may be in another.
  const longest = [...new Set(cased)].toSorted((a, b) => b.length - a.length);
  // fence: vendor-secrets
  return (text) => longest.reduce((left, form) => left.replaceAll(form, MARK), text);
}
