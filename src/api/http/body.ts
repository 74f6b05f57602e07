// Reading a request's body: bounded, JSON in UTF-8 only, and looked through once for what no field may hold.
import type { IncomingMessage } from "node:http";
import type { FieldFault } from "../../contract/errors.ts";
import { MAX_FAULTS } from "../../contract/issues.ts";
import type { BodyShare } from "./body-budget.ts";
import { onBroken } from "./broken-requests.ts";
import { MAX_BODY_BYTES, MAX_DRAINED_BYTES } from "./limits.ts";
import { Problem } from "./problems.ts";

/** How deep objects and arrays may be nested. */
const MAX_JSON_DEPTH = 32;
/** Pieces of a body that are kept apart: each costs more than the bytes in it, which may be few. */
const MAX_PIECES = 1_024;

/** The caller went away before its request was complete: nobody is there to answer. */
export class ClientGone extends Error {
  override readonly name = "ClientGone";
}

/** The body's bytes, which take of the share. Throws Problem (body_too_large, rate_limited, unavailable), ClientGone. */
export function readBody(request: IncomingMessage, share: BodyShare): Promise<Buffer> {
  const announced = Number(request.headers["content-length"] ?? 0);
  const chunked = request.headers["transfer-encoding"] !== undefined;
  if (announced === 0 && !chunked) return Promise.resolve(NOTHING);
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  let size = 0;
  let refused = false;
  const refuse = (problem: unknown) => {
    refused = true;
    chunks.length = 0;
    reject(problem);
  };
  const keep = (chunk: Buffer) => {
    share.take(chunk.length);
    chunks.push(chunk);
    if (chunks.length === MAX_PIECES) chunks.splice(0, MAX_PIECES, Buffer.concat(chunks));
  };
  request.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size > MAX_DRAINED_BYTES) request.destroy();
    else if (refused) return;
    else if (/* fence: body-size */ size > MAX_BODY_BYTES) refuse(tooLarge());
    else {
      try {
        keep(chunk);
      } catch (error) {
        refuse(error);
      }
    }
  });
  const broken = () => {
    if (!request.readableEnded) reject(new ClientGone("the request broke off"));
  };
  request.on("end", () => resolve(chunks.length === 1 ? (chunks[0] ?? NOTHING) : Buffer.concat(chunks)));
  onBroken(request, reject);
  request.on("error", broken);
  request.on("close", broken);
  if (announced > MAX_BODY_BYTES) refuse(tooLarge());
  return promise;
}

const tooLarge = (): Problem =>
  new Problem("body_too_large", {
    detail: `the body is over ${MAX_BODY_BYTES} bytes`,
    extra: { max_bytes: MAX_BODY_BYTES },
  });

const NOTHING = Buffer.alloc(0);
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** A body as it was sent, and the faults of its strings and numbers. An absent one is `{}`. */
export type ParsedBody = { readonly value: unknown; readonly faults: readonly FieldFault[] };

/** Checks type and coding, parses. `merge`: also a JSON Merge Patch. Throws Problem (415, 400). */
export function parseBody(request: IncomingMessage, bytes: Buffer, merge: boolean): ParsedBody {
  if (bytes.length === 0) return { value: {}, faults: [] };
  checkType(request, merge);
  let text: string;
  let value: unknown;
  try {
    text = utf8.decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    const detail = error instanceof SyntaxError ? "the body is not JSON" : "the body is not UTF-8";
    throw new Problem("malformed_json", { detail });
  }
  // NUL and lone surrogates can only be written as escapes.
  const faults: FieldFault[] = [];
  inspect(value, { path: "", depth: 0, escapes: text.includes("\\u"), faults });
  return { value, faults };
}

const JSON_TYPE = /^application\/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?;?\s*$/i;
const MERGE_TYPE = /^application\/merge-patch\+json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?;?\s*$/i;

function checkType(request: IncomingMessage, merge: boolean): void {
  const type = request.headers["content-type"] ?? "";
  const coding = request.headers["content-encoding"] ?? "identity";
  if (coding.toLowerCase() !== "identity") {
    throw new Problem("unsupported_media_type", { detail: `content coding ${coding.slice(0, 50)} is not taken` });
  }
  if (JSON_TYPE.test(type) || (merge && MERGE_TYPE.test(type))) return;
  const detail = type === "" ? "Content-Type is missing" : `Content-Type ${type.slice(0, 100)} is not application/json`;
  throw new Problem("unsupported_media_type", { detail });
}

type Looking = {
  readonly path: string;
  readonly depth: number;
  /** Whether the text has escapes at all. */
  readonly escapes: boolean;
  readonly faults: FieldFault[];
};

/** One walk over the value; stops at MAX_JSON_DEPTH, so that it never runs out of stack. */
function inspect(value: unknown, looking: Looking): void {
  if (typeof value === "string") {
    const message = looking.escapes ? wrongText(value) : undefined;
    if (message !== undefined) note(looking, { path: looking.path, code: "invalid_format", message });
  } else if (typeof value === "number") {
    if (!Number.isFinite(value))
      note(looking, { path: looking.path, code: "too_large", message: "is too large a number" });
  } else if (typeof value === "object" && value !== null) {
    const depth = looking.depth + 1;
    // fence: body-depth
    if (depth > MAX_JSON_DEPTH) {
      throw new Problem("malformed_json", { detail: `the body is nested deeper than ${MAX_JSON_DEPTH} levels` });
    }
    if (Array.isArray(value)) {
      for (let index = 0; index < value.length; index += 1) {
        const item: unknown = value[index];
        if (isQuiet(item, looking.escapes)) continue;
        inspect(item, { ...looking, path: join(looking.path, String(index)), depth });
      }
    } else inspectObject(value, { ...looking, depth });
  }
}

function inspectObject(value: object, looking: Looking): void {
  for (const [name, field] of Object.entries(value)) {
    // On the outside the schema refuses it as unknown; further in it could be taken for data.
    const reserved = name === "__proto__" && looking.depth > 1 ? "a field cannot have this name" : undefined;
    const wrong = reserved ?? (looking.escapes ? wrongText(name) : undefined);
    if (wrong !== undefined) {
      const code = reserved === undefined ? "invalid_format" : "not_allowed";
      note(looking, { path: join(looking.path, name), code, message: `the name ${wrong}` });
    }
    if (isQuiet(field, looking.escapes)) continue;
    inspect(field, { ...looking, path: join(looking.path, name) });
  }
}

/** Whether a value cannot be at fault, without a closer look. */
const isQuiet = (value: unknown, escapes: boolean): boolean =>
  value === null || typeof value === "boolean" || (typeof value === "string" && !escapes);

const join = (path: string, step: string): string => (path === "" ? step : `${path}.${step}`);

function note(looking: Looking, fault: FieldFault): void {
  if (looking.faults.length < MAX_FAULTS) looking.faults.push(fault);
}

/** Why text cannot be kept: NUL, or a surrogate without its other half. */
export function wrongText(text: string): string | undefined {
  if (text.includes("\0")) return "contains a NUL character";
  return text.isWellFormed() ? undefined : "contains a lone surrogate";
}
