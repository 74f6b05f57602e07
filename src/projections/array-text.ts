// Arrays as PostgreSQL reads them in text: the driver's own way takes each value through several functions.

/** The text of a one-dimensional array of text, numbers or booleans. */
export function arrayText(values: readonly (string | number | boolean | null)[]): string {
  let text = "{";
  for (const [index, value] of values.entries()) {
    if (index > 0) text += ",";
    text += value === null ? "NULL" : typeof value === "string" ? quoted(value) : String(value);
  }
  return `${text}}`;
}

const SPECIAL = /["\\]/;

// Most values hold nothing special, and looking is cheaper than replacing nothing.
const quoted = (value: string): string =>
  SPECIAL.test(value) ? `"${value.replaceAll(/["\\]/g, "\\$&")}"` : `"${value}"`;
