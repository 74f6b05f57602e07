// The OpenAPI document, made from the very list of routes and schemas that serve requests.

import { STATUS_CODES } from "node:http";
import { z } from "zod";
import manifest from "../../../package.json" with { type: "json" };
import { FAULT_CODES, PROBLEMS, type ProblemCode } from "../../contract/errors.ts";
import { PUBLIC_EVENT_TYPES, PUBLIC_EVENTS, webhookBody } from "../../contract/public-events.ts";
import { REQUEST_EXAMPLES } from "../../contract/request-examples.ts";
import { RESOURCE_EXAMPLES } from "../../contract/resource-examples.ts";
import { type Access, API_PREFIX, type NamedRoute, NO_BODY, type Route } from "./route.ts";

// The schemas of a document that describes the interface: made from those that validate, each with a name once.

type Json = Record<string, unknown>;

/** Schemas with a name stand once, under `components`. `target`: the JSON Schema that the document's format takes. */
export class Components {
  readonly schemas: Record<string, unknown> = {};
  readonly #target: "draft-2020-12" | "draft-7";

  constructor(target: "draft-2020-12" | "draft-7") {
    this.#target = target;
  }

  /** The schema of what is sent to the server (`input`), or of what it sends. */
  of(schema: z.ZodType, io: "input" | "output"): Json {
    const made = z.toJSONSchema(schema, {
      ...{ io, unrepresentable: "any", target: this.#target },
      override: ({ jsonSchema }) => {
        delete jsonSchema.id;
        // Fields are only added within v1, and clients ignore what they do not know.
        if (io === "output" && jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
      },
    });
    const text = JSON.stringify(made).replaceAll(/"#\/(\$defs|definitions)\//g, '"#/components/schemas/');
    const { $defs, definitions, $schema: _dialect, ...own } = JSON.parse(text) as Json;
    Object.assign(this.schemas, $defs, definitions);
    return own;
  }
}

const HTTP_METHODS = { GET: "get", POST: "post", PUT: "put", PATCH: "patch", DELETE: "delete" } as const;

/** Makes the document. `servers`: where the API is reached; nothing when that is where the document was read. */
export function openApiDocument(routes: readonly NamedRoute[], publicUrl: string | undefined): Json {
  const components = new Components("draft-2020-12");
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
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    webhooks: webhooks(components),
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

/** Every event that an endpoint may get. */
const webhooks = (components: Components): Record<string, Json> =>
  Object.fromEntries(
    PUBLIC_EVENT_TYPES.map((type) => {
      const { description, ...schema } = components.of(webhookBody(type), "output");
      const post = {
        operationId: `on_${type.replace(".", "_")}`,
        summary: PUBLIC_EVENTS[type].meaning,
        description: `${description} \`webhook-id\`, \`webhook-timestamp\` and \`webhook-signature\` are those of Standard Webhooks.`,
        tags: ["webhooks"],
        // The receiver knows us by the signature.
        security: [],
        requestBody: { required: true, content: { "application/json": { schema } } },
        responses: {
          "2XX": { description: "Any 2xx: the event is delivered. Anything else is an attempt that failed." },
        },
      };
      return [type, { post }];
    }),
  );

function operation(route: NamedRoute, components: Components): Json {
  const examples = Object.entries(REQUEST_EXAMPLES[route.operation] ?? {}).map(([summary, value], index) => [
    `example${index + 1}`,
    { summary, value },
  ]);
  const schema = route.body === null || route.body === NO_BODY ? undefined : bodySchema(route, components);
  const content = { "application/json": { schema, examples: Object.fromEntries(examples) } };
  return {
    operationId: route.operation,
    summary: route.summary,
    description: `${route.description}\n\n${allowed(route.access)}`,
    tags: [route.tag],
    security: security(route.access),
    ...(scopeOf(route.access) === null ? {} : { "x-scope": scopeOf(route.access) }),
    parameters: parameters(route, components),
    ...(schema === undefined ? {} : { requestBody: { required: hasRequired(schema), content } }),
    responses: responses(route, components),
  };
}

/** Of a batch with the schema of its items, which its own only counts. */
function bodySchema({ body, itemsIn, item }: Route, components: Components): Json {
  const schema = components.of(body ?? NO_BODY, "input");
  if (itemsIn === undefined || item === undefined) return schema;
  const { properties } = schema as { properties: Record<string, Json> };
  const items = { ...properties[itemsIn], items: components.of(item, "input") };
  return { ...schema, properties: { ...properties, [itemsIn]: items } };
}

/** Whether a body must be there: one without required fields may be absent, which counts as `{}`. */
const hasRequired = ({ required, oneOf }: Json): boolean => Array.isArray(required) || Array.isArray(oneOf);

/** Who may call it, in words. */
function allowed(access: Access): string {
  if (access.kind === "registration") return "Open in development mode, else for the ADMIN_KEY.";
  const scope = access.scope === null ? "For a client key" : `For a client key with the scope \`${access.scope}\``;
  return access.kind === "key" ? `${scope}.` : `${scope}, or a user's token.`;
}

/** An example of what a schema describes: that of a named resource, else put together from those of its parts. */
function exampleOf(schema: z.core.$ZodType): unknown {
  const name = schema instanceof z.ZodType ? schema.meta()?.id : undefined;
  if (name !== undefined) return RESOURCE_EXAMPLES[name];
  if (schema instanceof z.ZodObject) {
    return Object.fromEntries(Object.entries(schema.shape).map(([field, one]) => [field, exampleOf(one)]));
  }
  if (schema instanceof z.ZodArray) return [exampleOf(schema.element)];
  return schema instanceof z.ZodNumber ? 1 : null;
}

const scopeOf = (access: Access) => (access.kind === "registration" ? null : access.scope);

const security = (access: Access): readonly Json[] =>
  access.kind === "registration" ? [{}, { adminKey: [] }] : [{ bearer: [] }, { apiKey: [] }];

function parameters(route: Route, components: Components): readonly Json[] {
  const { params, query } = route;
  const inPath = [...route.path.matchAll(/:([a-z_]+)/g)].map(([, name = ""]) => {
    const schema = params instanceof z.ZodObject ? params.shape[name] : undefined;
    const description = PATH_PARAMETERS[name] ?? name;
    // The shape of an id is its own affair; a name that the caller makes up has rules.
    const shape = name === "user_id" && isSchema(schema) ? components.of(schema, "input") : STRING;
    return { name, in: "path", required: true, description, schema: shape };
  });
  const shape = query instanceof z.ZodObject ? query.shape : {};
  const inQuery = Object.entries(shape).flatMap(([name, schema]) =>
    isSchema(schema) ? [queryParameter(name, schema, components)] : [],
  );
  return [...inPath, ...inQuery, ...headerNames(route).map((name) => ({ $ref: `#/components/parameters/${name}` }))];
}

function queryParameter(name: string, schema: z.ZodType, components: Components): Json {
  const { description = QUERY_PARAMETERS[name] ?? name, ...shape } = components.of(schema, "input");
  return { name, in: "query", required: !schema.safeParse(undefined).success, description, schema: shape };
}

const isSchema = (value: unknown): value is z.ZodType => value instanceof z.ZodType;

function headerNames(route: Route): readonly (keyof typeof PARAMETERS)[] {
  return [
    ...(route.method === "POST" ? (["IdempotencyKey"] as const) : []),
    ...(route.method === "GET" ? (["ReadAfter"] as const) : []),
    ...(route.conditional === true ? (["IfMatch"] as const) : []),
    ...(route.stream === undefined ? [] : (["LastEventId"] as const)),
    "XRequestId",
  ];
}

/** The codes that a route may answer with: its own, and those of the checks before it. */
function problemsOf(route: Route): readonly ProblemCode[] {
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
  const stream = route.stream === undefined ? {} : { "text/event-stream": { schema: STRING, example: STREAM_EXAMPLE } };
  for (const [status, schema] of Object.entries(route.responses)) {
    const json = isSchema(schema) && { schema: components.of(schema, "output"), example: exampleOf(schema) };
    const shown = json === false ? {} : { "application/json": json };
    const content = json === false && route.stream === undefined ? {} : { content: { ...shown, ...stream } };
    all[status] = { description: STATUS_CODES[status] ?? "", headers: successHeaders(route, status), ...content };
  }
  const codes = [...problemsOf(route), ...(route.paged ? (["invalid_cursor"] as const) : [])];
  for (const [status, same] of Object.entries(Object.groupBy(codes, (code) => String(PROBLEMS[code].status)))) {
    const list = (same ?? []).map((code) => `\`${code}\``).join(", ");
    const schema = { allOf: [{ $ref: "#/components/schemas/Problem" }, { properties: { code: { enum: same } } }] };
    all[status] = {
      description: list,
      content: { "application/problem+json": { schema, example: problemExample(same) } },
    };
  }
  return all;
}

function successHeaders(route: Route, status: string): Json {
  const names = [
    ...["XRequestId", "RateLimitPolicy", "RateLimit"],
    ...(route.method === "GET" ? [] : ["Position"]),
    ...(status === "201" ? ["Location"] : []),
    ...(route.method === "POST" ? ["IdempotentReplayed"] : []),
    ...(route.conditional === true ? ["ETag"] : []),
  ];
  const wire: Record<string, string> = {
    XRequestId: "X-Request-Id",
    RateLimitPolicy: "RateLimit-Policy",
    IdempotentReplayed: "Idempotent-Replayed",
  };
  return Object.fromEntries(names.map((name) => [wire[name] ?? name, { $ref: `#/components/headers/${name}` }]));
}

function problemExample([code]: readonly ProblemCode[] = []): Json | undefined {
  if (code === undefined) return undefined;
  const { title, status, meaning: detail } = PROBLEMS[code];
  const faults = [{ path: "name", code: "required", message: "is required" }];
  const errors = code === "validation_failed" ? { errors: faults } : {};
  return {
    type: `http://localhost:8000/docs/errors#${code}`,
    title,
    status,
    detail,
    code,
    request_id: "req-8f3a",
    ...errors,
  };
}

// What the document says once for all routes

const TAGS: Readonly<Record<NamedRoute["tag"], string>> = {
  clients: "The tenant itself: registering it, its keys, and the secret that signs its webhooks.",
  users: "The tenant's users: profiles, tokens with which their apps act as them, and the rooms they are in.",
  rooms: "Rooms with their members, and how far each member has read.",
  messages: "Messages of rooms. What happens is pushed live over the WebSocket at `/ws`.",
  notifications: "Notifications by email, WebSocket and webhook: sending, following, cancelling and retrying them.",
  events:
    "What happened, as webhook endpoints and sockets are told it, by pull and as streams, and tickets for browsers.",
  deliveries: "What became of each recipient: finding deliveries, acknowledging them, and starting failed ones again.",
  inbox: "A user's WebSocket notifications: what is new, read and archived.",
  providers: "The servers through which the tenant's mail goes out.",
  suppressions: "The addresses that the tenant's mails do not go to.",
  webhooks: "The endpoints to which the tenant's events go. The section `webhooks` has every event.",
  audit: "Every event of the tenant, as it is in the log.",
};

const PATH_PARAMETERS: Readonly<Record<string, string>> = {
  room_id: "The room's id, or `ext:` and its `external_id`",
  user_id: "The client's own id of the user",
  message_id: "The message's id",
  scheduled_id: "The id of the message for later",
  emoji: "One emoji, percent-encoded and in any of its forms, or `:name:`",
  notification_id: "The notification's id",
  delivery_id: "The delivery's id",
  job_id: "The id that the request for the redrive answered with",
  key_id: "The key's id",
  endpoint_id: "The webhook endpoint's id",
  webhook_delivery_id: "The id of a delivery to the endpoint",
  name: "The provider's name, chosen by the client",
  email: "The address, percent-encoded",
  stream: "A stream as the audit names it, percent-encoded; `client` is the tenant's own",
};

const QUERY_PARAMETERS: Readonly<Record<string, string>> = {
  limit: "How many at most",
  from: "Created at this time or later: RFC 3339 with offset, or a UTC date",
  to: "Created before this time: RFC 3339 with offset, or a UTC date",
  member: "Rooms of these users, several with commas",
  active: "Whether messages can be posted",
  external_id: "The client's own ids of rooms, several with commas",
  sort: "The order",
  after_seq: "Messages after this seq",
  before_seq: "Messages before this seq",
  sender_id: "Messages of these users, several with commas",
  type: "Of these types, several with commas",
  include_deleted: "Whether deleted messages are listed too",
  category: "Of these categories, several with commas",
  reason: "For one of these reasons, several with commas",
  tag: "With one of these tags, several with commas",
  group_by: "By what the figures are grouped",
  channel: "On these channels, several with commas",
  endpoint_id: "To these endpoints, several with commas",
  status: "With one of these statuses, several with commas",
  room_id: "Of these rooms, several with commas",
  ids: "With one of these ids, several with commas",
};

const STRING = { type: "string" };
const STREAM_EXAMPLE = `retry: 2000\n\nevent: message.posted\nid: 42\ndata: ${JSON.stringify(RESOURCE_EXAMPLES.PublicEvent)}\n\n`;

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
  LastEventId: {
    name: "Last-Event-ID",
    in: "header",
    required: false,
    description: "The `id` of the last message of a stream that was cut: it goes on after it, whatever the query says.",
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
  RateLimitPolicy: header("The limits that the request counts for: their names, how many (q) in how many seconds (w)."),
  RateLimit: header("What is left of each limit (r), for how many seconds (t)."),
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
