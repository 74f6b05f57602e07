// The OpenAPI document, made from the very list of routes and schemas that serve requests.
import { STATUS_CODES } from "node:http";
import { z } from "zod";
import manifest from "../../../package.json" with { type: "json" };
import { FAULT_CODES, PROBLEMS, type ProblemCode } from "../../contract/errors.ts";
import { type Access, API_PREFIX, type NamedRoute, NO_BODY, type Route } from "./route.ts";

type Json = Record<string, unknown>;

const HTTP_METHODS = { GET: "get", POST: "post", PUT: "put", PATCH: "patch", DELETE: "delete" } as const;

/** Makes the document. `servers`: where the API is reached; nothing when that is where the document was read. */
export function openApiDocument(routes: readonly NamedRoute[], publicUrl: string | undefined): Json {
  const components = new Components();
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const path = API_PREFIX + route.path.replace(/:([a-z_]+)/g, "{$1}");
    paths[path] = { ...paths[path], [HTTP_METHODS[route.method]]: operation(route, components) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "ChatAPI",
      version: manifest.version,
      description: manifest.description,
      license: { name: manifest.license, identifier: manifest.license },
    },
    servers: [{ url: publicUrl ?? "/" }],
    tags: [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: { ...components.schemas, Problem: PROBLEM_SCHEMA },
      parameters: PARAMETERS,
      headers: HEADERS,
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "An API key, or a user's token." },
        apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: "An API key." },
        adminKey: { type: "http", scheme: "bearer", description: "The server's ADMIN_KEY." },
      },
    },
  };
}

/** Schemas with a name stand once, under `components`. */
class Components {
  readonly schemas: Record<string, unknown> = {};

  of(schema: z.ZodType, io: "input" | "output"): Json {
    const made = z.toJSONSchema(schema, { io, unrepresentable: "any", target: "draft-2020-12" });
    const {
      $defs,
      $schema: _dialect,
      ...own
    } = JSON.parse(JSON.stringify(made).replaceAll('"#/$defs/', '"#/components/schemas/')) as Json;
    Object.assign(this.schemas, $defs);
    const name = schema.meta()?.id;
    if (name === undefined) return own;
    const { id: _name, ...rest } = own;
    this.schemas[name] = rest;
    return { $ref: `#/components/schemas/${name}` };
  }
}

function operation(route: NamedRoute, components: Components): Json {
  const body =
    route.body === null || route.body === NO_BODY
      ? {}
      : { requestBody: { content: { "application/json": { schema: components.of(route.body, "input") } } } };
  return {
    operationId: route.operation,
    summary: route.summary,
    tags: [route.tag],
    security: security(route.access),
    ...(scopeOf(route.access) === null ? {} : { "x-scope": scopeOf(route.access) }),
    parameters: parameters(route, components),
    ...body,
    responses: responses(route, components),
  };
}

const scopeOf = (access: Access) => (access.kind === "registration" ? null : access.scope);

const security = (access: Access): readonly Json[] =>
  access.kind === "registration" ? [{}, { adminKey: [] }] : [{ bearer: [] }, { apiKey: [] }];

function parameters(route: Route, components: Components): readonly Json[] {
  const { params, query } = route;
  const inPath = [...route.path.matchAll(/:([a-z_]+)/g)].map(([, name = ""]) => {
    const schema = params instanceof z.ZodObject ? params.shape[name] : undefined;
    return { name, in: "path", required: true, schema: isSchema(schema) ? components.of(schema, "input") : STRING };
  });
  const shape = query instanceof z.ZodObject ? query.shape : {};
  const inQuery = Object.entries(shape).flatMap(([name, schema]) =>
    isSchema(schema)
      ? [{ name, in: "query", required: !schema.safeParse(undefined).success, schema: components.of(schema, "input") }]
      : [],
  );
  return [...inPath, ...inQuery, ...headerNames(route).map((name) => ({ $ref: `#/components/parameters/${name}` }))];
}

const isSchema = (value: unknown): value is z.ZodType => value instanceof z.ZodType;

function headerNames(route: Route): readonly (keyof typeof PARAMETERS)[] {
  return [
    ...(route.method === "POST" ? (["IdempotencyKey"] as const) : []),
    ...(route.method === "GET" ? (["ReadAfter"] as const) : []),
    ...(route.conditional === true ? (["IfMatch"] as const) : []),
    "XRequestId",
  ];
}

/** The codes that a route may answer with: its own, and those of the checks before it. */
export function problemsOf(route: Route): readonly ProblemCode[] {
  const codes: ProblemCode[] = [
    "unknown_host",
    "unauthenticated",
    "validation_failed",
    "rate_limited",
    "internal",
    "unavailable",
  ];
  if (route.access.kind === "registration") codes.push("forbidden");
  else codes.push("token_expired", "key_expired");
  if (route.access.kind === "key") codes.push("forbidden");
  if (scopeOf(route.access) !== null) codes.push("insufficient_scope");
  if (route.body !== null) codes.push("malformed_json", "body_too_large", "unsupported_media_type");
  if (route.method === "GET") codes.push("invalid_position", "read_model_behind");
  if (route.method === "POST") codes.push("idempotency_key_reused", "idempotency_key_in_flight");
  if (route.conditional === true) codes.push("precondition_failed");
  if (route.path.includes(":")) codes.push("not_found");
  return [...new Set([...codes, ...route.problems])];
}

function responses(route: Route, components: Components): Json {
  const all: Record<string, Json> = {};
  for (const [status, schema] of Object.entries(route.responses)) {
    const content = isSchema(schema)
      ? { content: { "application/json": { schema: components.of(schema, "output") } } }
      : {};
    all[status] = { description: STATUS_CODES[status] ?? "", headers: successHeaders(route, status), ...content };
  }
  const codes = [...problemsOf(route), ...(route.paged ? (["invalid_cursor"] as const) : [])];
  for (const [status, same] of Object.entries(Object.groupBy(codes, (code) => String(PROBLEMS[code].status)))) {
    const list = (same ?? []).map((code) => `\`${code}\``).join(", ");
    const schema = { allOf: [{ $ref: "#/components/schemas/Problem" }, { properties: { code: { enum: same } } }] };
    all[status] = { description: list, content: { "application/problem+json": { schema } } };
  }
  return all;
}

function successHeaders(route: Route, status: string): Json {
  const names = [
    "XRequestId",
    ...(route.method === "GET" ? [] : ["Position"]),
    ...(status === "201" ? ["Location"] : []),
    ...(route.method === "POST" ? ["IdempotentReplayed"] : []),
    ...(route.conditional === true ? ["ETag"] : []),
  ];
  const wire: Record<string, string> = { XRequestId: "X-Request-Id", IdempotentReplayed: "Idempotent-Replayed" };
  return Object.fromEntries(names.map((name) => [wire[name] ?? name, { $ref: `#/components/headers/${name}` }]));
}

// What the document says once for all routes

const STRING = { type: "string" };

const PARAMETERS = {
  IdempotencyKey: {
    name: "Idempotency-Key",
    in: "header",
    required: false,
    description: "The same key with the same body has one effect, and gives the first answer again.",
    schema: { type: "string", minLength: 1, maxLength: 255, pattern: "^[\\x21-\\x7e]+$" },
  },
  ReadAfter: {
    name: "Read-After",
    in: "header",
    required: false,
    description: "A `Position`: waits up to 5 s until it can be read. `none` waits for nothing.",
    schema: STRING,
  },
  IfMatch: {
    name: "If-Match",
    in: "header",
    required: false,
    description: "The `ETag` that the change rests on.",
    schema: STRING,
  },
  XRequestId: {
    name: "X-Request-Id",
    in: "header",
    required: false,
    description: "Taken over into logs and events, and echoed.",
    schema: { type: "string", pattern: "^[A-Za-z0-9._-]{1,128}$" },
  },
} as const;

const header = (description: string) => ({ description, schema: STRING });
const HEADERS = {
  Position: header("The place in the log that the write reached, for `Read-After`. Opaque."),
  ETag: header("The seq of the last change, for `If-Match`."),
  Location: header("The path of what was made."),
  IdempotentReplayed: header("`true` when this is the answer to an earlier request with the same `Idempotency-Key`."),
  XRequestId: header("The request's id."),
};

const PROBLEM_SCHEMA = {
  type: "object",
  required: ["type", "title", "status", "detail", "code", "request_id"],
  properties: {
    type: { type: "string", format: "uri" },
    title: STRING,
    status: { type: "integer" },
    detail: STRING,
    code: { type: "string", enum: Object.keys(PROBLEMS) },
    request_id: STRING,
    errors: {
      type: "array",
      description: "With `validation_failed`: every fault.",
      items: {
        type: "object",
        required: ["path", "code", "message"],
        properties: { path: STRING, code: { type: "string", enum: FAULT_CODES }, message: STRING },
      },
    },
  },
};
