// A route: everything about it in one place. Routing, validation, authorisation, OpenAPI and the tests' matrix come from it.
import type { Middleware } from "koa";
import { z } from "zod";
import type { Call, Caller } from "../../app/services.ts";
import type { FieldFault, ProblemCode } from "../../contract/errors.ts";
import type { Cursor, Scope } from "../../contract/fields.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";

/** Who may call a route. `registration`: whoever may register a client. `key`: a client key with that scope; `user`: also a user's token, further checked by the domain. */
export type Access =
  | { readonly kind: "registration" }
  | { readonly kind: "key"; readonly scope: Scope | null }
  | { readonly kind: "keyOrUser"; readonly scope: Scope | null };

/** What a handler answers. `position` becomes the `Position` header; undefined bodies are empty. */
export type Reply = {
  readonly status: 200 | 201 | 202 | 204;
  readonly body?: unknown;
  readonly position?: Position;
  readonly etag?: number;
  readonly location?: string;
  readonly replayed?: boolean;
};

type Parsed<T> = T extends z.ZodType ? z.output<T> : undefined;

/** What a handler is given: checked input, and only what its caller may use. */
export type Handling<P, Q, B> = Call & {
  readonly params: Parsed<P>;
  readonly query: Parsed<Q>;
  readonly body: Parsed<B>;
  /** The revision or seq in `If-Match`; null without one, -1 for an `ETag` that we never give. */
  readonly ifMatch: number | null;
  /** The `next_cursor` that leads on from here with the same filters; for routes whose query has `cursor`. */
  readonly cursorFor: (next: Cursor) => string;
};

type RouteDefinition<P, Q, B> = {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Below `/api/v1`, with `:name` for parameters. */
  readonly path: string;
  /** One sentence for the reference page. */
  readonly summary: string;
  readonly tag: "clients" | "users" | "rooms" | "messages" | "notifications" | "providers" | "audit";
  readonly access: Access;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /**
   * Faults of the body, as it was sent, that no schema sees: they depend on who asks, or on several fields. Reported
   * together with all others; of one field the first counts.
   */
  readonly faultsFor?: (caller: Caller, body: unknown) => readonly FieldFault[];
  /** Faults that handling finds by itself, of the body as it was sent: asked for only when there are others to tell. */
  readonly furtherFaults?: (caller: Caller, body: unknown, at: Instant) => readonly FieldFault[];
  /** By status: the schema of a success, for OpenAPI. */
  readonly responses: Readonly<Partial<Record<200 | 201 | 202 | 204, z.ZodType | null>>>;
  /** Refusals of its own, besides those that every route may give. */
  readonly problems: readonly ProblemCode[];
  /** Whether `If-Match` is taken. */
  readonly conditional?: boolean;
  readonly handle: (handling: Handling<P, Q, B>) => Promise<Reply>;
};

/** A route whose types have been checked and are no longer needed. */
export type Route = RouteDefinition<z.ZodType | undefined, z.ZodType | undefined, z.ZodType | undefined>;

/** Declares a route. */
export const route = <
  P extends z.ZodType | undefined = undefined,
  Q extends z.ZodType | undefined = undefined,
  B extends z.ZodType | undefined = undefined,
>(
  definition: RouteDefinition<P, Q, B>,
): Route => definition as unknown as Route;

/** Where all routes of the list are. */
export const API_PREFIX = "/api/v1";

export const isUnderApi = (path: string): boolean =>
  path.startsWith(API_PREFIX) && (path.length === API_PREFIX.length || path[API_PREFIX.length] === "/");

/** A route with what serving and describing it needs. */
export type ReadyRoute = {
  readonly route: Route;
  /** With the prefix, as metrics and OpenAPI name it. */
  readonly path: string;
  readonly params: z.ZodType;
  readonly query: z.ZodType;
  /** Null when a body is ignored. */
  readonly body: z.ZodType | null;
  /** Whether it is a list with cursors. */
  readonly paged: boolean;
};

const NOTHING = z.strictObject({});
const ANY_PARAMS = z.record(z.string(), z.string());
const WITH_BODY: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);

export function readyRoute(definition: Route): ReadyRoute {
  const query = definition.query ?? NOTHING;
  return {
    route: definition,
    path: API_PREFIX + definition.path,
    params: definition.params ?? ANY_PARAMS,
    query,
    body: definition.body ?? (WITH_BODY.has(definition.method) ? NOTHING : null),
    paged: query instanceof z.ZodObject && "cursor" in query.shape,
  };
}

/** A body as it was sent, and the faults of its strings and numbers. An absent body is `{}`. */
export type ParsedBody = { readonly value: unknown; readonly faults: readonly FieldFault[] };

/** What authorises a registration: the operator's ADMIN_KEY, or nothing where registration is open. */
type RegistrationCredential = "admin-key" | "none";

/** What middleware learn about a request, for those after them. Each field says which middleware sets it. */
export type ApiState = {
  /** `identifyRequest`. */
  id: string;
  /** `authenticate`: when the request came. */
  at: Instant;
  /** `authenticate`; of a registration `identifyCommand`: the client that it makes. */
  caller: Caller;
  /** `authenticateRegistration`. */
  registration?: RegistrationCredential;
  /** `readBody`; undefined when the route ignores bodies. */
  body?: ParsedBody;
  /** `identifyCommand`: the command's id, and whether it follows from an idempotency key. */
  commandId: string;
  hasKey: boolean;
  /** `identifyCommand` and those after it: faults of headers. */
  faults: FieldFault[];
  /** `readCursor`: the query with the cursor's filters, where the page begins, and the cursor of the next page. */
  query?: Record<string, unknown>;
  cursorFor?: (next: Cursor) => string;
  /** `readReadAfter`: what the request waits for. */
  readTarget?: ReadTarget;
  /** `validate`. */
  input: { readonly params: unknown; readonly query: unknown; readonly body: unknown };
  ifMatch: number | null;
  /** `runOnce`: tells equal bodies under one idempotency key. */
  fingerprint?: string;
};

/** The position that a read waits for. `named`: by the request, which is refused when it is not reached in time. */
export type ReadTarget = { readonly position: Position; readonly named: boolean };

/** What koa-router adds to the context. */
export type RouterFields = {
  readonly params: Readonly<Record<string, string>>;
  /** The path of the matched route, as it was registered. */
  readonly _matchedRoute?: string;
  /** Those whose path matches, whatever their method. */
  readonly matched?: readonly { readonly methods: readonly string[] }[];
};

export type ApiMiddleware = Middleware<ApiState, RouterFields>;
export type ApiContext = Parameters<ApiMiddleware>[0];
