// A request's body: bounded, budgeted by client and user, JSON in UTF-8 only, and searched for what no field may hold.
import type { IncomingMessage } from "node:http";
import getRawBody, { type RawBodyError } from "raw-body";
import type { FaultCode, FieldFault } from "../../contract/errors.ts";
import { MAX_FAULTS } from "../../contract/issues.ts";
import { isObject, parseJson } from "../../contract/json.ts";
import { SECOND_MS } from "../../contract/time.ts";
import { batchPerTick, NoSlot, SharedSlots } from "../../platform/bounded.ts";
import { drain, problemOf } from "./hardening.ts";
import { Problem } from "./problems.ts";
import type { ApiContext, ApiMiddleware, ParsedBody, Route } from "./route.ts";

const MEBIBYTE = 1024 * 1024;
/** Max bytes of a body, unless its route says otherwise. */
const MAX_BODY_BYTES = MEBIBYTE;
/** Max bytes of bodies in memory, of one client and of all: those that arrive and those that are being handled. */
const MAX_CLIENT_BODIES_BYTES = 64 * MEBIBYTE;
const MAX_BODIES_BYTES = 256 * MEBIBYTE;
/** Bodies over MAX_BODY_BYTES that are handled at once, of all and of one client, and that wait for it in the budget above. */
const LARGE_BODIES = 4;
const LARGE_CLIENT_BODIES = 2;
const MAX_WAITING_BODIES = 64;
const LARGE_BODY_WAIT_MS = 30 * SECOND_MS;
/** Bytes that arrive of a body in each `slowMs`, unless it is complete by then. */
const LEAST_BYTES = 8 * 1024;
/** Max pieces of a body that are kept apart. Each costs more than the bytes in it, which may be few. */
const MAX_PIECES = 1_024;
/** Max depth of objects and arrays. */
const MAX_JSON_DEPTH = 32;

/** The caller went away before its request was complete: there is nobody to answer. */
export class ClientGone extends Error {
  override readonly name = "ClientGone";
}

/** How all bodies of a server are received. */
export type Bodies = {
  readonly budget: BodyBudget;
  /** The time in which at least LEAST_BYTES of a body must arrive. */
  readonly slowMs: number;
};

/** `addressOf`: counts the bodies of registrations. */
type BodyOptions = Bodies & { readonly addressOf: (request: IncomingMessage) => string };

/** Reads and parses the body of a route that takes one; its bytes count in the budget until the request is answered. */
export function readBody(route: Route, { budget, addressOf, slowMs }: BodyOptions): ApiMiddleware {
  const acceptsPatch = route.method === "PATCH";
  const { maxBodyBytes = MAX_BODY_BYTES, largeField } = route;
  const ownerOf = ({ req, state: { registration, caller } }: ApiContext): BodyOwner => {
    if (registration !== undefined) return { client: "registration", principal: addressOf(req), isKey: false };
    const { client } = caller;
    const isKey = caller.kind === "key";
    return { client, principal: isKey ? caller.keyId : caller.subject, isKey };
  };
  return async (ctx, next) => {
    const { req, state } = ctx;
    using share = budget.open(ownerOf(ctx));
    const bytes = hasBody(req) ? await receive(req, share, { slowMs, maxBodyBytes }) : NOTHING;
    await batchPerTick();
    const isLarge = bytes.length > MAX_BODY_BYTES;
    using _slot = isLarge ? await slotFor(budget.large, ownerOf(ctx).client) : undefined;
    try {
      state.body = parseBody(req, bytes, acceptsPatch);
    } catch (error) {
      // What cannot be read has no such field: its size is checked before its type and its JSON.
      throw isLarge && largeField !== undefined ? tooLarge(MAX_BODY_BYTES) : error;
    }
    if (isLarge && largeField !== undefined && !hasItems(state.body.value, largeField)) throw tooLarge(MAX_BODY_BYTES);
    await next();
  };
}

const hasItems = (body: unknown, field: string): boolean => {
  const items = isObject(body) ? body[field] : undefined;
  return Array.isArray(items) && items.length > 0;
};

async function slotFor(slots: SharedSlots, client: string): Promise<Disposable> {
  try {
    return await slots.acquire(client, LARGE_BODY_WAIT_MS);
  } catch (error) {
    throw error instanceof NoSlot ? tooMuch("client") : error;
  }
}

// Bytes

const NOTHING = Buffer.alloc(0);

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;

/** What one request's body takes of the budget; dispose it when the request is answered. */
type BodyShare = Disposable & {
  /** Throws Problem (rate_limited, unavailable) when the budget does not have so many bytes left. */
  take(bytes: number): void;
};

/** Whose body it is. A client's key may have all of its client's share. */
type BodyOwner = { readonly client: string; readonly principal: string; readonly isKey: boolean };

/**
 * The bodies of this node in memory. A client has at most half of what is free, and so has a user of what is free of its
 * client's: whoever fills its share with slow or many uploads leaves room for everybody else.
 */
export class BodyBudget {
  readonly #taken = new Map<string, number>();
  #all = 0;
  /** Of bodies over MAX_BODY_BYTES few are handled at once: that takes several times their size. */
  readonly large = new SharedSlots({
    total: LARGE_BODIES,
    perKey: LARGE_CLIENT_BODIES,
    maxWaiting: MAX_WAITING_BODIES,
  });

  open({ client, principal, isKey }: BodyOwner): BodyShare {
    let taken = 0;
    return {
      take: (bytes) => {
        const ofClient = (this.#taken.get(client) ?? 0) + bytes;
        const own = (this.#taken.get(principal) ?? 0) + bytes;
        if (this.#all + bytes > MAX_BODIES_BYTES) throw new Problem("unavailable");
        // fence: bodies-at-once
        if (ofClient > Math.min(MAX_CLIENT_BODIES_BYTES, (MAX_BODIES_BYTES - this.#all) / 2)) throw tooMuch("client");
        // fence: bodies-of-a-user
        if (!isKey && own > (MAX_CLIENT_BODIES_BYTES - ofClient) / 2) throw tooMuch("user");
        this.#add(client, principal, bytes);
        taken += bytes;
      },
      [Symbol.dispose]: () => {
        this.#add(client, principal, -taken);
        taken = 0;
      },
    };
  }

  #add(client: string, principal: string, bytes: number): void {
    this.#all += bytes;
    for (const name of [client, principal]) {
      const taken = (this.#taken.get(name) ?? 0) + bytes;
      if (taken > 0) this.#taken.set(name, taken);
      else this.#taken.delete(name);
    }
  }
}

const tooMuch = (whose: string): Problem =>
  new Problem("rate_limited", {
    detail: `Too much of what this ${whose} sends is still arriving or being handled.`,
    retryAfterSeconds: 1,
  });

/** A decoder for raw-body that keeps the bytes: takes each piece from the budget, and keeps the pieces few. */
class BodyBytes {
  readonly #share: BodyShare;
  readonly #pieces: Buffer[] = [];
  size = 0;

  constructor(share: BodyShare) {
    this.#share = share;
  }

  write(piece: Buffer): string {
    this.#share.take(piece.length);
    this.size += piece.length;
    this.#pieces.push(piece);
    if (this.#pieces.length === MAX_PIECES) this.#pieces.splice(0, MAX_PIECES, Buffer.concat(this.#pieces));
    return "";
  }

  end(): string {
    return "";
  }

  bytes(): Buffer {
    const [first = NOTHING] = this.#pieces;
    return this.#pieces.length === 1 ? first : Buffer.concat(this.#pieces);
  }
}

/** The body's bytes, taken of the share. Throws Problem (400, 408, 413, 429, 503), ClientGone. */
async function receive(
  request: IncomingMessage,
  share: BodyShare,
  { slowMs, maxBodyBytes }: { readonly slowMs: number; readonly maxBodyBytes: number },
): Promise<Buffer> {
  const body = new BodyBytes(share);
  let before = 0;
  const watching = setInterval(() => {
    // fence: slow-bodies
    if (body.size - before < LEAST_BYTES) request.emit("error", new Problem("request_timeout", END));
    before = body.size;
  }, slowMs);
  try {
    const broken = problemOf(request);
    if (broken !== undefined) throw broken;
    await getRawBody(request, {
      length: request.headers["content-length"] ?? null,
      // fence: body-size
      limit: maxBodyBytes,
      encoding: "utf-8",
      decoder: () => body,
    });
  } catch (error) {
    if (request.destroyed) throw new ClientGone("the request broke off");
    drain(request);
    throw (error as RawBodyError).type === "entity.too.large" ? tooLarge(maxBodyBytes) : error;
  } finally {
    clearInterval(watching);
  }
  return body.bytes();
}

/** A body of any type, which counts for its owner until `use` has ended. Throws what `receive` throws, and `use`. */
export async function withBytes<T>(
  request: IncomingMessage,
  { budget, slowMs, owner, maxBytes }: Bodies & { readonly owner: BodyOwner; readonly maxBytes: number },
  use: (bytes: Buffer) => Promise<T>,
): Promise<T> {
  using share = budget.open(owner);
  return await use(hasBody(request) ? await receive(request, share, { slowMs, maxBodyBytes: maxBytes }) : NOTHING);
}

/** Ends the connection of what is not read to its end. */
const END = { headers: { Connection: "close" } };

const tooLarge = (max_bytes: number): Problem =>
  new Problem("body_too_large", { detail: `the body is over ${max_bytes} bytes`, extra: { max_bytes } });

// JSON

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Checks type and coding, and parses. `acceptsPatch`: also a JSON Merge Patch. Throws Problem (415, 400). */
function parseBody(request: IncomingMessage, bytes: Buffer, acceptsPatch: boolean): ParsedBody {
  if (bytes.length === 0) return { value: {}, faults: [] };
  checkType(request, acceptsPatch);
  let text: string;
  let value: unknown;
  try {
    text = utf8.decode(bytes);
    value = parseJson(text);
  } catch (error) {
    const detail = error instanceof SyntaxError ? "the body is not JSON" : "the body is not UTF-8";
    throw new Problem("malformed_json", { detail });
  }
  return { value, faults: faultsIn(value, text) };
}

/** Longer ones are refused unread. */
const MAX_TYPE_LENGTH = 256;

/** Whether a `Content-Type` is of JSON in UTF-8; of its parameters only `charset` counts. */
function isJsonType(header: string, acceptsPatch: boolean): boolean {
  if (header.length > MAX_TYPE_LENGTH) return false;
  const [type = "", ...parameters] = header.toLowerCase().split(";");
  const known = type.trim() === "application/json" || (acceptsPatch && type.trim() === "application/merge-patch+json");
  return known && parameters.every(isUtf8);
}

function isUtf8(parameter: string): boolean {
  const [name = "", value = ""] = parameter.split("=");
  const charset = value.trim().replaceAll('"', "");
  return name.trim() !== "charset" || charset === "utf-8" || charset === "utf8";
}

function checkType({ headers }: IncomingMessage, acceptsPatch: boolean): void {
  const { "content-type": type = "", "content-encoding": coding = "identity" } = headers;
  if (coding.toLowerCase() !== "identity") {
    throw new Problem("unsupported_media_type", { detail: `content coding ${coding.slice(0, 50)} is not accepted` });
  }
  // fence: media-type
  if (isJsonType(type, acceptsPatch)) return;
  const detail = type === "" ? "Content-Type is missing" : `Content-Type ${type.slice(0, 100)} is not application/json`;
  throw new Problem("unsupported_media_type", { detail });
}

/**
 * The faults of what no field may hold: NUL, lone surrogates, numbers without a value, `__proto__` below the outermost
 * object, which the schema refuses itself. Throws Problem (malformed_json) beyond MAX_JSON_DEPTH, so that it never runs
 * out of stack.
 */
export function faultsIn(body: unknown, text: string): readonly FieldFault[] {
  const faults: FieldFault[] = [];
  // NUL and lone surrogates can only be written as escapes.
  const wrongIn = text.includes("\\u") ? wrongText : () => undefined;
  const path: (string | number)[] = [];
  const add = (code: FaultCode, message: string) => {
    if (faults.length < MAX_FAULTS) faults.push({ path: path.join("."), code, message });
  };
  const inspect = (value: unknown): void => {
    if (typeof value === "string") {
      const wrong = wrongIn(value);
      if (wrong !== undefined) add("invalid_format", wrong);
    } else if (typeof value === "number") {
      if (!Number.isFinite(value)) add("too_large", "is too large a number");
    } else if (Array.isArray(value) || isObject(value)) {
      // fence: body-depth
      if (path.length >= MAX_JSON_DEPTH) {
        throw new Problem("malformed_json", { detail: `the body is nested deeper than ${MAX_JSON_DEPTH} levels` });
      }
      if (Array.isArray(value)) value.forEach(inspectItem);
      else for (const [name, field] of Object.entries(value)) inspectField(name, field);
    }
  };
  const inspectItem = (item: unknown, index: number) => {
    path.push(index);
    inspect(item);
    path.pop();
  };
  const inspectField = (name: string, field: unknown) => {
    path.push(name);
    const wrong = wrongIn(name);
    if (name === "__proto__" && path.length > 1) add("not_allowed", "no field can have this name");
    else if (wrong !== undefined) add("invalid_format", `the name ${wrong}`);
    inspect(field);
    path.pop();
  };
  inspect(body);
  return faults;
}

/** Why text cannot be kept: NUL, or a surrogate without its other half. */
export function wrongText(text: string): string | undefined {
  if (text.includes("\0")) return "contains a NUL character";
  return text.isWellFormed() ? undefined : "contains a lone surrogate";
}
