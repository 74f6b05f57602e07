// What every answer to a hostile request must be, whatever it was: no fault of the server's, and told as documented.
import { PROBLEMS } from "../../../src/contract/errors.ts";
import type { Body } from "../../e2e/support/api.ts";
import { type Known, problemComplaints } from "../../e2e/support/refusals.ts";
import type { Operation } from "../../e2e/support/stage.ts";
import type { WireAnswer } from "./hostile-wire.ts";

const STATUSES: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(PROBLEMS).map(([code, { status }]) => [code, status]),
);
/** Of what is not below /api/v1: pages, probes, and the way to them. */
const ELSEWHERE = [200, 204, 302];

/** In words, all that is wrong with an answer. Of a request that is no operation's, only the table of codes says more. */
export function answerFaults(
  { status, headers, text }: WireAnswer,
  { method, operation }: { readonly method: string; readonly operation: Operation | undefined },
  known: Known,
): readonly string[] {
  if (status === 101) return [];
  if (!/^\d+$/.test(headers["content-length"] ?? "") && status !== 204) return ["no length"];
  if (headers["x-request-id"] === undefined) return ["no X-Request-Id"];
  if (status < 400) {
    if (!(operation?.answers.has(status) ?? [...ELSEWHERE, 201, 202].includes(status))) return [`status ${status}`];
    return text === "" || !headers["content-type"]?.startsWith("application/json") || isJson(text) ? [] : ["no JSON"];
  }
  if (method === "HEAD") return Object.values(STATUSES).includes(status) ? [] : [`status ${status}`];
  if (!isJson(text)) return [`status ${status}, no JSON: ${text.slice(0, 100)}`];
  const problem: Body = JSON.parse(text);
  const { code } = problem;
  const faults = problemComplaints(problem, { status, headers, text }, known);
  if (!Object.hasOwn(STATUSES, code) || STATUSES[code] !== status) faults.push(`${code} as ${status}`);
  if (operation !== undefined && !isDocumented(operation, status, code)) faults.push(`undocumented: ${status} ${code}`);
  if (status === 503 && !/^\d+$/.test(headers["retry-after"] ?? "")) faults.push("503 without Retry-After");
  if (status >= 500 && status !== 503) faults.push(`a fault of the server: ${text.slice(0, 300)}`);
  return faults;
}

/** Codes of what is before any operation: the connection, and the request's head. */
const BEFORE = ["malformed_request", "expectation_failed", "headers_too_large", "request_timeout"];
const isDocumented = ({ answers }: Operation, status: number, code: string): boolean =>
  BEFORE.includes(code) || answers.get(status)?.includes(code) === true;

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
