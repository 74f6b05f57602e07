// A route: everything about it in one place. Routing, validation, authorisation, OpenAPI and the tests' matrix come from it.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Middleware } from "koa";
import { z } from "zod";
import type { Credential, Identity } from "../../app/authenticate.ts";
import type { EventCursor, EventSelection } from "../../app/pull.ts";
import type { RateState } from "../../app/rate-limit.ts";
import type { Call, Caller } from "../../app/services.ts";
import type { FieldFault, ProblemCode } from "../../contract/errors.ts";
import type { UserEventsQuery } from "../../contract/event-requests.ts";
import type { Cursor, Scope } from "../../contract/fields.ts";
import type { RoomId } from "../../contract/ids.ts";
import type { Instant } from "../../contract/time.ts";
import type { Position } from "../../event-store/event-store.ts";
import type { StageClock } from "../../platform/metrics.ts";
import type { Page } from "../../projections/page.ts";

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

/** What a stream of server-sent events sends. `after`: where it resumes. A room's without one: from now on. */
export type StreamRequest =
  | { readonly kind: "room"; readonly room: RoomId; readonly after: number | undefined }
  | { readonly kind: "client"; readonly selection: EventSelection; readonly after: EventCursor }
  | { readonly kind: "user"; readonly call: Call; readonly user: string; readonly wanted: UserEventsQuery };

/** Who asked for a stream, and the answer that it is sent on. */
export type StreamReader = {
  readonly identity: Identity;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
};

/** Answers requests with streams. */
export type Streams = {
  /** Returns once the stream has begun. Throws Problem or AppError before anything was sent. */
  open(request: StreamRequest, reader: StreamReader): Promise<void>;
};

type Parsed<T> = T extends z.ZodType ? z.output<T> : undefined;

/** What a handler is given: checked input, and only what its caller may use. */
export type Handling<P, Q, B> = Call & {
  readonly params: Parsed<P>;
  readonly query: Parsed<Q>;
  readonly body: Parsed<B>;
  /** The revisions or seqs in `If-Match`; null without one. */
  readonly ifMatch: readonly number[] | null;
  /** Of a PUT: `If-None-Match: *`. */
  readonly onlyNew: boolean;
  /** The `next_cursor` that leads on from here with the same filters; for routes whose query has `cursor`. */
  readonly cursorFor: (next: Cursor) => string;
  /** The key or token that the caller sent; empty for a registration. */
  readonly bearer: string;
  /** How a request that fails so is answered; a fault of ours is logged. */
  readonly refusal: (error: unknown) => { readonly status: number; readonly body: unknown };
};

type RouteDefinition<P, Q, B> = {
  /** A verb phrase for the reference page, and what else there is to know. */
  readonly summary: string;
  readonly description: string;
  readonly access: Access;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  /** Max bytes of a body, where they are not those of every route. */
  readonly maxBodyBytes?: number;
  /** The field that alone makes a body larger than those of every route. */
  readonly largeField?: string;
  /** The field of the body whose items are checked and answered one by one, each as a body of that schema. */
  readonly itemsIn?: string;
  readonly item?: z.ZodType;
  /**
   * Faults of the body, as it was sent, that no schema sees: they depend on who asks, or on several fields. Reported
   * together with all others; of one field the first counts.
   */
  readonly faultsFor?: (caller: Caller, body: unknown) => readonly FieldFault[];
  /** Faults that handling finds by itself, of the body as it was sent: asked for only when there are others to tell. */
  readonly furtherFaults?: (caller: Caller, body: unknown, at: Instant) => readonly FieldFault[];
  /** By status: the schema of a success, for OpenAPI. */
  readonly responses: Readonly<Partial<Record<Reply["status"], z.ZodType | null>>>;
  /** Refusals of its own, besides those that every route may give. */
  readonly problems?: readonly ProblemCode[];
  /** The rooms and members that a user makes by it, for the limits on users. */
  readonly costs?: (
    user: string,
    input: { readonly params: Parsed<P>; readonly body: Parsed<B> },
  ) => { readonly rooms?: number; readonly members?: number };
  /** Whether `If-Match` is taken. */
  readonly conditional?: boolean;
  readonly handle: (handling: Handling<P, Q, B>) => Promise<Reply>;
  /** What is sent to those who accept a stream of server-sent events in place of JSON. */
  readonly stream?: (handling: Handling<P, Q, B>, lastEventId: string | undefined) => Promise<StreamRequest>;
};

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
type Tag =
  | "clients"
  | "users"
  | "rooms"
  | "messages"
  | "notifications"
  | "deliveries"
  | "inbox"
  | "providers"
  | "suppressions"
  | "webhooks"
  | "events"
  | "audit";

/** A route whose types have been checked and are no longer needed. */
export type Route = Omit<
  RouteDefinition<z.ZodType, z.ZodType, z.ZodType | null>,
  "params" | "query" | "body" | "problems"
> & {
  readonly method: Method;
  /** Below `/api/v1`, with `:name` for parameters. */
  readonly path: string;
  readonly params: z.ZodType;
  readonly query: z.ZodType;
  /** Null when a body is ignored; NO_BODY when there is nothing to say in one. */
  readonly body: z.ZodType | null;
  readonly problems: readonly ProblemCode[];
  /** Whether it is a list with cursors. */
  readonly paged: boolean;
};

/** A route with its name and the group of the reference page that it is in. */
export type NamedRoute = Route & { readonly operation: string; readonly tag: Tag };

/** The body of a POST that takes none: absent, or `{}`. */
export const NO_BODY = z.strictObject({});
const NO_QUERY = z.strictObject({});
const ANY_PARAMS = z.record(z.string(), z.string());

/** Declares a route. */
export function route<
  P extends z.ZodType | undefined = undefined,
  Q extends z.ZodType | undefined = undefined,
  B extends z.ZodType | undefined = undefined,
>(method: Method, path: string, definition: RouteDefinition<P, Q, B>): Route {
  const { params = ANY_PARAMS, query = NO_QUERY, body, problems = [], ...rest } = definition;
  return {
    ...(rest as unknown as Pick<Route, "summary" | "description" | "access" | "responses" | "handle" | "stream">),
    ...{ method, path, params, query, problems },
    body: body ?? (method === "GET" || method === "DELETE" ? null : NO_BODY),
    paged: query instanceof z.ZodObject && "cursor" in query.shape,
  };
}

/** The routes of one group, by the names of their operations. */
export const routesOf = (tag: Tag, routes: Readonly<Record<string, Route>>): readonly NamedRoute[] =>
  Object.entries(routes).map(([operation, one]) => ({ ...one, operation, tag }));

/** Where all routes of the list are. */
export const API_PREFIX = "/api/v1";

/** Where the WebSocket is. */
export const SOCKET_PATHS: readonly string[] = ["/ws", `${API_PREFIX}/ws`];

export const isUnderApi = (path: string): boolean =>
  path.startsWith(API_PREFIX) && (path.length === API_PREFIX.length || path[API_PREFIX.length] === "/");

// Answers: what handlers return, in the words of the interface.

/** What the result of a use case says beside its resource. */
type About = Pick<Reply, "position" | "etag" | "replayed">;
type Result<K extends string> = About & Readonly<Record<K, unknown>>;

/** 200 with an object. */
export const ok = (body: unknown): Reply => ({ status: 200, body });
/** 200 with the resource of that name. */
export const shown = <K extends string>(result: Result<K>, name: K): Reply => ({
  ...result,
  status: 200,
  body: result[name],
});
/** 202 with the resource of that name: what was requested goes on. */
export const accepted = <K extends string>(result: Result<K>, name: K): Reply => ({
  ...result,
  status: 202,
  body: result[name],
});
/** 201 with the new resource of that name. `path`: where it is, below `/api/v1`. */
export const created = <K extends string>(result: Result<K>, name: K, path: string): Reply => ({
  ...result,
  status: 201,
  body: result[name],
  location: API_PREFIX + path,
});
/** 204 after a deletion. */
export const noContent = ({ position }: { readonly position: Position }): Reply => ({ status: 204, position });

type ListReply<T> = Reply & { readonly body: { readonly data: readonly T[]; readonly next_cursor: string | null } };

/** 200 with a page of a list. */
export const listReply = <T>(
  { cursorFor }: Pick<Handling<undefined, undefined, undefined>, "cursorFor">,
  { rows, next }: Page<T>,
): ListReply<T> => ({ status: 200, body: { data: rows, next_cursor: next === null ? null : cursorFor(next) } });

/** A body as it was sent, and the faults of its strings and numbers. An absent body is `{}`. */
export type ParsedBody = { readonly value: unknown; readonly faults: readonly FieldFault[] };

/** What authorises a registration: the operator's ADMIN_KEY, or nothing where registration is open. */
type RegistrationCredential = "admin-key" | "none";

/** What middleware learn about a request, for those after them. Each field says which middleware sets it. */
export type ApiState = {
  /** `identifyRequest`. */
  id: string;
  /** `measureRequests`: when the request came, on the monotonic clock. */
  started: number;
  /** `handle`: of a request that writes. */
  stages?: StageClock;
  /** `authenticate`: when the request came. */
  at: Instant;
  /** `takeTicket`: what a ticket stood for. */
  redeemed?: Credential | undefined;
  /** `authenticate`. */
  identity?: Identity;
  /** `authenticate`; of a registration `identifyCommand`: the client that it makes. */
  caller: Caller;
  /** `authenticateRegistration`. */
  registration?: RegistrationCredential;
  /** `limitRequests` and those after it: what is left of each limit. */
  rates?: Map<string, RateState>;
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
  ifMatch: readonly number[] | null;
  onlyNew: boolean;
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
