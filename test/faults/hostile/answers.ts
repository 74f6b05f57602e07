// What every answer to a hostile request must be, and what a request that must be refused is told.
import { PROBLEMS } from "../../../src/contract/errors.ts";
import type { Body } from "../../e2e/support/api.ts";
import type { Operation } from "./scene.ts";
import type { Expected } from "./schemas.ts";
import type { WireAnswer } from "./wire.ts";

/** A request that must not succeed, and what it must be told. */
export type Refused = {
  readonly method: string;
  /** As it goes over the wire, from the root on. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly status: number | readonly number[];
  readonly code: string | readonly string[];
  /** With `validation_failed`: exactly these. */
  readonly faults?: readonly Expected[];
  /** The methods in `Allow`, in any order. */
  readonly allow?: readonly string[];
  /** A header that the answer must have. */
  readonly header?: readonly [name: string, value: string];
};

const FAULT_CODES =
  /^(required|unknown_field|wrong_type|too_short|too_long|too_small|too_large|invalid_format|not_allowed)$/;

/** What problems tell beside, by code. */
const EXTRAS: Readonly<Record<string, string>> = {
  ...{ body_too_large: "max_bytes", external_id_taken: "existing_id", offset_mismatch: "expected" },
};

/** One code, one status, one title: kept over all answers. */
export type Known = Map<string, string>;

/** What is wrong with a problem, whatever it says. `base` is where its pages are. */
function problemFaults(problem: Body, { status, headers, text }: WireAnswer, known: Known, base?: string): string[] {
  const found: string[] = [];
  const say = (what: string, holds: boolean) => holds || found.push(what);
  say(`type ${headers["content-type"]}`, /^application\/problem\+json/.test(String(headers["content-type"])));
  const { type, title, status: told, detail, code, request_id, ...rest } = problem;
  const page = `/docs/errors#${code}`;
  say(`type ${type}`, base === undefined ? String(type).endsWith(page) : type === base + page);
  say(`status ${told} in the body`, told === status);
  say(`title ${title}, detail ${detail}`, typeof title === "string" && typeof detail === "string" && detail !== "");
  const before = known.get(code) ?? `${status} ${title}`;
  known.set(code, before);
  say(`${code} as ${status} ${title}, and as ${before}`, before === `${status} ${title}`);
  say(`request_id ${request_id}`, typeof request_id === "string" && headers["x-request-id"] === request_id);
  say("a stack trace", !/\bat .+:\d+:\d+|node_modules|\.ts:\d/.test(text));
  const { errors, ...extra } = rest;
  const extras = EXTRAS[String(code)] ?? "";
  say(`members ${Object.keys(extra)}`, Object.keys(extra).join() === extras);
  say("errors", (code === "validation_failed") === Array.isArray(errors));
  for (const fault of Array.isArray(errors) ? errors : []) {
    const whole = Object.keys(fault).toSorted().join() === "code,message,path" && FAULT_CODES.test(fault.code);
    say(`fault ${JSON.stringify(fault)}`, whole && fault.message !== "");
  }
  return found;
}

/** What is wrong with the answer to a request that must be refused. */
export function refusalFaults(refused: Refused, seen: WireAnswer, url: string, known: Known): string[] {
  const { status, headers, text } = seen;
  const found: string[] = [];
  const say = (what: string, holds: boolean) => holds || found.push(what);
  say(`status ${status}, not ${refused.status}`, [refused.status].flat().includes(status));
  const [name = "", value] = refused.header ?? [];
  say(`${name}: ${headers[name]}, not ${value}`, refused.header === undefined || headers[name] === value);
  const allow = String(headers.allow).split(", ");
  say(`Allow: ${allow}`, refused.allow === undefined || allow.toSorted().join() === refused.allow.toSorted().join());
  if (refused.method === "HEAD") return found;
  let problem: Body;
  try {
    problem = JSON.parse(text);
  } catch {
    return [...found, `no JSON: ${text.slice(0, 100)}`];
  }
  const { code, errors } = problem;
  say(`code ${code}, not ${refused.code}`, [refused.code].flat().includes(code));
  found.push(
    ...problemFaults(problem, seen, known, code === "unknown_host" ? url.replace("127.0.0.1", "localhost") : url),
  );
  if (refused.faults === undefined || !Array.isArray(errors)) return found;
  const got = new Map<string, Body>(errors.map((fault: Body) => [fault.path, fault]));
  say(`twice: ${JSON.stringify(errors)}`, got.size === errors.length);
  for (const { path, codes, near } of refused.faults) {
    const fault = got.get(path);
    const fits = fault !== undefined && codes.includes(fault.code);
    say(`${path}: ${fault?.code ?? "no fault"}, not ${codes}`, fits);
    say(`${path}: does not name ${near}`, near === undefined || fault?.message.includes(`did you mean ${near}`));
  }
  const toldOf = `told of ${[...got.keys()].slice(0, 10)}, not only of ${refused.faults.map((one) => one.path)}`;
  say(toldOf, got.size === refused.faults.length);
  return found;
}

const STATUSES: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(PROBLEMS).map(([code, { status }]) => [code, status]),
);
/** Of what is not below /api/v1: pages, probes, and the way to them. */
const ELSEWHERE = [200, 204, 302];

/** `asksPage`: as browsers do, which are shown a problem as a page. */
type Asked = {
  readonly method: string;
  readonly operation: Operation | undefined;
  readonly asksPage?: boolean;
};

/** In words, all that is wrong with an answer. Of a request that is no operation's, only the table of codes says more. */
export function answerFaults(
  { status, headers, text }: WireAnswer,
  { method, operation, asksPage = false }: Asked,
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
  const isPage = asksPage && method === "GET" && headers["content-type"]?.startsWith("text/html") === true;
  if (isPage) return operation === undefined || operation.answers.has(status) ? [] : [`status ${status}`];
  if (!isJson(text)) return [`status ${status}, no JSON: ${text.slice(0, 100)}`];
  const problem: Body = JSON.parse(text);
  const { code } = problem;
  const faults = problemFaults(problem, { status, headers, text }, known);
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
