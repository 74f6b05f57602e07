// SQL as a tagged template: values become parameters, projections become their tables, and nothing is concatenated.
import type { Projection } from "./projection.ts";

type Scalar = string | number | boolean | null;
/** What may stand in a template: a value (arrays for `= any(…)`), a piece of SQL, or a projection, for its table. */
type SqlValue = Scalar | readonly (string | number)[] | Sql | Projection;

/** A piece of SQL with its values. */
export class Sql {
  readonly texts: readonly string[];
  readonly values: readonly SqlValue[];
  constructor(texts: readonly string[], values: readonly SqlValue[]) {
    this.texts = texts;
    this.values = values;
  }
}

/**
 * Makes SQL. Tables of read models are only reached through their projection, which is what puts the client's
 * condition there: naming the schema in the text is refused with TypeError.
 */
export function sql(texts: TemplateStringsArray, ...values: readonly SqlValue[]): Sql {
  if (texts.some((text) => /\bread\s*\./i.test(text))) throw new TypeError("name a projection, not its table");
  return new Sql(texts, values);
}

/** The conditions that are there, joined by `and`; `true` when there is none. */
export function all(...conditions: readonly (Sql | undefined)[]): Sql {
  const there = conditions.filter((one) => one !== undefined);
  if (there.length === 0) return sql`true`;
  return new Sql(["", ...there.slice(1).map(() => " and "), ""], there);
}

/** A query as the driver takes it. */
export type Query = { readonly text: string; readonly values: readonly unknown[] };

/** Renders a query; `tableOf` says what a projection stands for, and may use parameters of its own. */
export function render(
  query: Sql,
  tableOf: (projection: Projection, parameter: (value: Scalar) => string) => string,
): Query {
  const values: unknown[] = [];
  const parameter = (value: unknown): string => `$${values.push(value)}`;
  const known = new Map<Scalar, string>();
  const shared = (value: Scalar): string => {
    const name = known.get(value) ?? parameter(value);
    known.set(value, name);
    return name;
  };
  const write = ({ texts, values: parts }: Sql): string => {
    let text = texts[0] ?? "";
    for (const [index, part] of parts.entries()) {
      text += part instanceof Sql ? write(part) : isProjection(part) ? tableOf(part, shared) : parameter(part);
      text += texts[index + 1] ?? "";
    }
    return text;
  };
  return { text: write(query), values };
}

const isProjection = (value: SqlValue): value is Projection =>
  typeof value === "object" && value !== null && "columns" in value;
