// From the schema of a body to all that is wrong with it: JSON texts, each with the faults that it must be refused for.

/** The part of JSON Schema that the server's document uses. */
export type Schema = {
  readonly type?: string | readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  /** Of an object without fixed fields: what each of them holds; true, any JSON. */
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly enum?: readonly string[];
  readonly const?: string;
  readonly format?: string;
  readonly contentEncoding?: string;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minimum?: number;
  readonly maximum?: number;
};

/** Where the fault is, and the codes that may say so. */
export type Expected = {
  readonly path: string;
  readonly codes: readonly string[];
  /** The known field that the message must name. */
  readonly near?: string;
};
type BadText = { readonly text: string; readonly faults: readonly Expected[] };

/** The schemas behind unions, each of one type. */
export function variants(schema: Schema): readonly Schema[] {
  const options = schema.anyOf ?? schema.oneOf;
  if (options !== undefined) return options.flatMap(variants);
  return Array.isArray(schema.type) ? schema.type.map((type: string) => ({ ...schema, type })) : [schema];
}

const quoted = (text: string): string => JSON.stringify(text);
const objectText = (fields: Readonly<Record<string, string>>): string =>
  `{${Object.entries(fields)
    .map(([name, text]) => `${quoted(name)}:${text}`)
    .join(",")}}`;

const FORMATS: Readonly<Record<string, string>> = { email: "a@example.com", uri: "http://127.0.0.1:9999/" };
/** Of a pattern it is the first of these that fits. */
const TEXTS = ["utc", "a@example.com", "22:00", "text/plain", "eu-west-1", "arn:aws:sns:eu-west-1:123456789012:mails"];
/** Of fields whose rule the document tells in words. */
const BY_NAME: Readonly<Record<string, string>> = {
  dkim: "null",
  events: '["message.*"]',
  filter: '{"data.type":"text"}',
  // Only some types of providers have a way to follow these.
  return_path: "null",
  track_opens: "false",
  track_clicks: "false",
  retry_schedule: '["5s"]',
  room_ids: "null",
  secret: quoted(`whsec_${Buffer.alloc(32, 1).toString("base64")}`),
};

/** A text that a schema of texts takes. */
function exampleOfText({ format = "", pattern, contentEncoding }: Schema): string {
  if (contentEncoding === "base64") return "aGVsbG8=";
  if (FORMATS[format] !== undefined) return FORMATS[format];
  return TEXTS.find((text) => pattern === undefined || new RegExp(pattern, "u").test(text)) ?? "utc";
}

/** A text that the schema takes. */
export function exampleText(schema: Schema): string {
  const all = variants(schema);
  const [first = {}] = all;
  if (first.format === "date-time") return all.length > 1 ? "null" : quoted("2026-01-01T00:00:00Z");
  if (first.const !== undefined) return quoted(first.const);
  if (first.enum !== undefined) return quoted(first.enum[0] ?? "");
  switch (first.type) {
    case "string":
      return quoted(exampleOfText(first));
    case "integer":
    case "number":
      return String(first.minimum ?? 1);
    case "boolean":
      return "true";
    case "array":
      return `[${exampleText(first.items ?? {})}]`;
    case "object":
      return objectText(exampleFields(first));
    default:
      return "1";
  }
}

const exampleFields = (schema: Schema): Record<string, string> =>
  Object.fromEntries(
    Object.entries(schema.properties ?? {}).map(([name, field]) => [name, exampleOfField(name, field)]),
  );

function exampleOfField(name: string, field: Schema): string {
  const { type, format, pattern } = variants(field)[0] ?? {};
  // Where an endpoint begins. A sender, an hour and a bound of times are called so as well.
  if (name === "from" && type === "string" && format === undefined && pattern === undefined) return quoted("now");
  return BY_NAME[name] ?? exampleText(field);
}

const OF_TYPE: Readonly<Record<string, string>> = {
  string: '"text"',
  integer: "5",
  boolean: "true",
  array: "[]",
  object: "{}",
  null: "null",
};

const one = (text: string, path: string, ...codes: string[]): BadText => ({ text, faults: [{ path, codes }] });

/** Everything wrong that a field can hold. */
function* badTexts(schema: Schema, path: string): Generator<BadText> {
  const all = variants(schema);
  const types = new Set(all.map(({ type }) => (type === "number" ? "integer" : type)));
  if (types.has(undefined)) return;
  const closed = all.some((variant) => variant.enum !== undefined || variant.const !== undefined);
  for (const [type, text] of Object.entries(OF_TYPE)) {
    if (!types.has(type)) yield one(text, path, ...(closed ? ["wrong_type", "not_allowed"] : ["wrong_type"]));
  }
  for (const variant of all) {
    if (variant.type === "string") yield* badStrings(variant, path);
    if (variant.type === "integer" || variant.type === "number") yield* badNumbers(variant, path);
    if (variant.type === "array") yield* badArrays(variant, path);
    if (variant.type === "object") yield* badFields(variant, path);
  }
}

function* badStrings(schema: Schema, path: string): Generator<BadText> {
  const { format, pattern, minLength = 0, maxLength } = schema;
  yield one('"a\\u0000b"', path, "invalid_format");
  yield one('"\\ud800"', path, "invalid_format");
  yield one('"a\\udc00\\ud800b"', path, "invalid_format");
  if (schema.enum !== undefined || schema.const !== undefined) {
    yield one('"bogus"', path, "not_allowed");
    return;
  }
  if (maxLength !== undefined) yield one(quoted("x".repeat(maxLength + 1)), path, "too_long", "invalid_format");
  if (minLength > 0) yield one('""', path, "too_short", "invalid_format");
  const isShort = maxLength !== undefined && maxLength < "not one!".length;
  if (pattern !== undefined || format === "email")
    yield one('"not one!"', path, "invalid_format", ...(isShort ? ["too_long"] : []));
  if (format === "date-time") {
    for (const text of ["yesterday", "2026-02-30", "2026-01-01T00:00:00", "2026-01-01T24:00:00Z", ""]) {
      yield one(quoted(text), path, "invalid_format");
    }
  }
  if (format === "uri") {
    for (const text of ["ftp://x/", "http://u:p@127.0.0.1/", "http://127.0.0.1/#x", "//x", "javascript:0"]) {
      yield one(quoted(text), path, "invalid_format", "not_allowed");
    }
  }
}

function* badNumbers({ type, minimum, maximum }: Schema, path: string) {
  if (minimum !== undefined) yield one(String(minimum - 1), path, "too_small");
  if (maximum !== undefined) yield one(String(maximum + 1), path, "too_large");
  yield one("1e400", path, "too_large");
  yield one("-1e400", path, "too_large", "too_small");
  yield one("9".repeat(400), path, "too_large");
  if (type === "integer") yield one("1.5", path, "wrong_type");
}

function* badArrays({ items = {}, minItems = 0, maxItems }: Schema, path: string): Generator<BadText> {
  if (minItems > 0) yield one("[]", path, "too_short");
  if (maxItems !== undefined) {
    yield one(`[${Array(maxItems + 1).fill(exampleText(items))}]`, path, "too_long");
  }
  for (const { text, faults } of badTexts(items, `${path}.0`)) yield { text: `[${text}]`, faults };
}

/** Of an object with fixed fields, of one whose fields all hold the same, and of one that is the client's own. */
function* badFields(schema: Schema, path: string): Generator<BadText> {
  const { properties, additionalProperties: each } = schema;
  if (properties !== undefined) return yield* badObjects(schema, path);
  // The conditions of a filter have a table of their own.
  if (path.endsWith("filter")) return;
  if (typeof each !== "object") return yield* badMeta(path);
  for (const { text, faults } of badTexts(each, `${path}.X-Field`)) yield { text: `{"X-Field":${text}}`, faults };
}

/** What no JSON object of the client's own may hold. */
function* badMeta(path: string) {
  yield one(objectText({ large: quoted("x".repeat(9_000)) }), path, "too_long");
  yield one('{"a":{"__proto__":{"admin":true}}}', `${path}.a.__proto__`, "not_allowed");
  yield one('{"list":[1,"a\\u0000"]}', `${path}.list.1`, "invalid_format");
  yield one('{"a\\ud800":1}', `${path}.a\ud800`, "invalid_format");
  yield one('{"n":1e400}', `${path}.n`, "too_large");
}

const join = (path: string, name: string): string => (path === "" ? name : `${path}.${name}`);

function* badObjects(schema: Schema, path: string): Generator<BadText> {
  const good = exampleFields(schema);
  const fields = Object.entries(schema.properties ?? {});
  for (const [name, field] of fields) {
    for (const { text, faults } of badTexts(field, join(path, name))) {
      yield { text: objectText({ ...good, [name]: text }), faults };
    }
    const { [name]: _missing, ...rest } = good;
    if (schema.required?.includes(name) === true) yield one(objectText(rest), join(path, name), "required");
    const near = { path: join(path, `${name}_`), codes: ["unknown_field"], near: name };
    yield { text: objectText({ ...good, [near.path.slice(path === "" ? 0 : path.length + 1)]: "1" }), faults: [near] };
  }
  for (const name of ["__proto__", "constructor", "toString", "", "😀"]) {
    const text = `{${quoted(name)}:{"x":1},${objectText(good).slice(1)}`.replace(",}", "}");
    yield one(text, join(path, name), "unknown_field", "not_allowed");
  }
  const twice = objectText(good).slice(1, -1);
  yield one(`{${twice}${twice === "" ? "" : ","}"again":1,"again":2}`, join(path, "again"), "unknown_field");
}

/** All that is wrong with a whole body of a schema, and everything at once. */
export function* badBodies(schema: Schema): Generator<BadText> {
  for (const variant of variants(schema)) {
    yield* badObjects(variant, "");
    const good = exampleFields(variant);
    const worst = Object.entries(variant.properties ?? {}).flatMap(([name, field]) => {
      const [bad] = field.const === undefined ? badTexts(field, name) : [];
      return bad === undefined ? [] : [{ name, ...bad }];
    });
    const text = objectText({ ...good, ...Object.fromEntries(worst.map((bad) => [bad.name, bad.text])), wrong: "0" });
    yield { text, faults: [...worst.flatMap((bad) => bad.faults), { path: "wrong", codes: ["unknown_field"] }] };
  }
}
