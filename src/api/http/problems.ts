// Problems (RFC 9457): how a refusal becomes an answer. And what every answer carries.
import type { IncomingMessage } from "node:http";
import { AppError, type AppErrorOptions, toAppError } from "../../app/errors.ts";
import { PROBLEMS, type ProblemCode } from "../../contract/errors.ts";

type ProblemOptions = AppErrorOptions & { readonly headers?: Readonly<Record<string, string>> };

/** Ends a request with a problem; everything in it is shown to the caller. */
export class Problem extends AppError {
  override readonly name = "Problem";
  readonly headers: Readonly<Record<string, string>>;
  constructor(code: ProblemCode, { headers, ...options }: ProblemOptions = {}) {
    super(code, options);
    const authenticate = PROBLEMS[code].status === 401 ? { "WWW-Authenticate": "Bearer" } : {};
    const retry = this.retryAfterSeconds === undefined ? {} : { "Retry-After": String(this.retryAfterSeconds) };
    this.headers = { ...authenticate, ...retry, ...headers };
  }
}

/** The problem that an error stands for; undefined for a fault of ours, which is logged and not shown. */
export function toProblem(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  const known = toAppError(error);
  if (known === undefined) return undefined;
  const { code, detail, extra, faults, retryAfterSeconds } = known;
  return new Problem(code, {
    detail,
    extra,
    ...(faults === undefined ? {} : { faults }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

/** The body of a problem. `base` is where the pages are, without a slash at its end. */
export function problemBody(problem: Problem, base: string, requestId: string): Record<string, unknown> {
  const { status, title } = PROBLEMS[problem.code];
  const body = { type: `${base}/docs/errors#${problem.code}`, title, status, detail: problem.detail };
  const errors = problem.faults === undefined ? {} : { errors: problem.faults };
  return { ...problem.extra, ...body, code: problem.code, request_id: requestId, ...errors };
}

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** The caller's `X-Request-Id` when it is valid, else a new id. */
export function requestId(request: IncomingMessage, newId: () => string): string {
  const given = request.headers["x-request-id"];
  return typeof given === "string" && REQUEST_ID.test(given) ? given : newId();
}

/** The headers of every answer. */
export const commonHeaders = (id: string): readonly (readonly [string, string])[] => [
  ["X-Request-Id", id],
  ["X-Content-Type-Options", "nosniff"],
  ["Cache-Control", "no-store"],
];
