// Requests that must be refused: sent as they are, byte by byte, and their problems looked at from every side.
import { Agent, request } from "node:http";
import type { Body } from "./api.ts";
import type { Expected } from "./bad-bodies.ts";

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

const AT_ONCE = 16;
const FAULT_CODES =
  /^(required|unknown_field|wrong_type|too_short|too_long|too_small|too_large|invalid_format|not_allowed)$/;

/** An answer, as far as problems are told in it. */
type Seen = { readonly status: number; readonly headers: Readonly<Record<string, unknown>>; readonly text: string };

function send(agent: Agent, url: string, { method, path, headers, body }: Refused): Promise<Seen> {
  const { promise, resolve, reject } = Promise.withResolvers<Seen>();
  const { hostname, port } = new URL(url);
  const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
  const sent = request({ agent, hostname, port, method, path, headers: { ...length, ...headers } }, (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", reject);
    response.on("end", () => {
      const text = Buffer.concat(chunks).toString("utf8");
      resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
    });
  });
  sent.on("error", reject);
  sent.end(body);
  return promise;
}

/** One code, one status, one title: kept over all answers. */
export type Known = Map<string, string>;

/** What is wrong with a problem, whatever it says. `base` is where its pages are. */
export function problemComplaints(
  problem: Body,
  { status, headers, text }: Seen,
  known: Known,
  base?: string,
): string[] {
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
  const extras = { body_too_large: "max_bytes", external_id_taken: "existing_id" }[String(code)] ?? "";
  say(`members ${Object.keys(extra)}`, Object.keys(extra).join() === extras);
  say("errors", (code === "validation_failed") === Array.isArray(errors));
  for (const fault of Array.isArray(errors) ? errors : []) {
    const whole = Object.keys(fault).toSorted().join() === "code,message,path" && FAULT_CODES.test(fault.code);
    say(`fault ${JSON.stringify(fault)}`, whole && fault.message !== "");
  }
  return found;
}

/** What is wrong with the answer to a request that must be refused. */
function complaints(asked: Refused, seen: Seen, url: string, known: Known): string[] {
  const { status, headers, text } = seen;
  const found: string[] = [];
  const say = (what: string, holds: boolean) => holds || found.push(what);
  say(`status ${status}, not ${asked.status}`, [asked.status].flat().includes(status));
  const [name = "", value] = asked.header ?? [];
  say(`${name}: ${headers[name]}, not ${value}`, asked.header === undefined || headers[name] === value);
  const allow = String(headers.allow).split(", ");
  say(`Allow: ${allow}`, asked.allow === undefined || allow.toSorted().join() === asked.allow.toSorted().join());
  if (asked.method === "HEAD") return found;
  let problem: Body;
  try {
    problem = JSON.parse(text);
  } catch {
    return [...found, `no JSON: ${text.slice(0, 100)}`];
  }
  const { code, errors } = problem;
  say(`code ${code}, not ${asked.code}`, [asked.code].flat().includes(code));
  found.push(
    ...problemComplaints(problem, seen, known, code === "unknown_host" ? url.replace("127.0.0.1", "localhost") : url),
  );
  if (asked.faults === undefined || !Array.isArray(errors)) return found;
  const got = new Map<string, Body>(errors.map((fault: Body) => [fault.path, fault]));
  say(`twice: ${JSON.stringify(errors)}`, got.size === errors.length);
  for (const { path, codes, near } of asked.faults) {
    const fault = got.get(path);
    const fits = fault !== undefined && codes.includes(fault.code);
    say(`${path}: ${fault?.code ?? "no fault"}, not ${codes}`, fits);
    say(`${path}: does not name ${near}`, near === undefined || fault?.message.includes(`did you mean ${near}`));
  }
  const toldOf = `told of ${[...got.keys()].slice(0, 10)}, not only of ${asked.faults.map((one) => one.path)}`;
  say(toldOf, got.size === asked.faults.length);
  return found;
}

/** Sends them all, several at once; what is wrong with the answers, by request. */
export async function refuseAll(url: string, all: readonly Refused[]): Promise<string[]> {
  using agent = Object.assign(new Agent({ keepAlive: true, maxSockets: AT_ONCE }), {
    [Symbol.dispose]: () => agent.destroy(),
  });
  const known: Known = new Map();
  const wrong: string[] = [];
  const waiting = all.values();
  const worker = async () => {
    for (const asked of waiting) {
      const seen = await send(agent, url, asked).catch((error: unknown) => String(error));
      const found = typeof seen === "string" ? [seen] : complaints(asked, seen, url, known);
      const name = `${asked.method} ${asked.path} ${String(asked.body ?? "")}`.slice(0, 300);
      if (found.length > 0) wrong.push(`${name}\n  ${found.join("\n  ")}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return wrong;
}
