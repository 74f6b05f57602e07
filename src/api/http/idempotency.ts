// One effect for one Idempotency-Key: the command's id follows from the key, and one request with a key runs at a time.
import { createHmac } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { Caller, Services } from "../../app/services.ts";
import type { FieldFault } from "../../contract/errors.ts";
import { idempotencyKey as keySchema } from "../../contract/fields.ts";
import { toFaults } from "../../contract/issues.ts";
import { canonicalJson } from "../../contract/json.ts";
import { deriveUuid } from "../../event-store/derived-ids.ts";
import { keyObjectOf } from "../../platform/secrets.ts";
import { newClient } from "./authentication.ts";
import { Problem } from "./problems.ts";
import type { ApiContext, ApiMiddleware } from "./route.ts";

/** How long a request waits for another one with its key. */
const IN_FLIGHT_WAIT_MS = 5_000;

/** Gives the request's command its id: derived from the idempotency key of a POST, else random. */
export function identifyCommand({ newId }: Services): ApiMiddleware {
  return (ctx, next) => {
    const { state } = ctx;
    state.faults = [];
    // Whoever registers without a credential has no name that a key could belong to.
    const mayHaveKey = ctx.method === "POST" && state.registration !== "none";
    const key = mayHaveKey ? idempotencyKey(ctx.req, state.faults) : undefined;
    state.hasKey = key !== undefined;
    state.commandId = key === undefined ? newId() : commandIdOf(ctx, key);
    if (state.registration !== undefined) state.caller = newClient(state.commandId);
    return next();
  };
}

/** The idempotency key without its quotes; undefined when there is none. A wrong one is a fault. */
function idempotencyKey({ headers }: IncomingMessage, faults: FieldFault[]): string | undefined {
  const given = headers["idempotency-key"];
  if (given === undefined) return undefined;
  const text = String(given);
  const quoted = text.length >= 2 && text.startsWith('"') && text.endsWith('"');
  const { data, error } = keySchema.safeParse(quoted ? text.slice(1, -1) : text, { reportInput: true });
  if (error !== undefined) faults.push(...toFaults(keySchema, error.issues, () => "Header: Idempotency-Key"));
  return data;
}

function commandIdOf({ method, path, state: { registration, caller } }: ApiContext, key: string): string {
  if (registration === undefined) return keyedCommandId(caller, method, canonicalPath(path), key);
  return deriveUuid("command", "operator", "", method, canonicalPath(path), key);
}

/**
 * A command's id by its idempotency key: part of the storage format, for a key must find its command again after an
 * update. A user's keys are apart from those of the client's API keys; operators share theirs. `path`: decoded.
 */
export function keyedCommandId(caller: Caller, method: string, path: string, key: string): string {
  const user = caller.kind === "user" ? caller.subject : "";
  return deriveUuid("command", caller.client, user, method, path, key);
}

/** One name for a path, however it was percent-encoded. */
function canonicalPath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/** The same for equal JSON bodies, whatever the order of their fields, without showing them. */
export const fingerprintOf = (pepper: Uint8Array, body: unknown): string =>
  createHmac("sha256", keyObjectOf(pepper)).update(canonicalJson(body)).digest("base64url");

/** Runs what has an idempotency key once no other request with this key runs, and tells repetitions by `fingerprint`. */
export function runOnce({ keyring }: Services, inFlight: InFlight): ApiMiddleware {
  const run = async (ctx: ApiContext, next: () => Promise<unknown>) => {
    const { state } = ctx;
    const fingerprint = fingerprintOf(await keyring.pepper(state.caller.client), state.body?.value ?? {});
    state.fingerprint = fingerprint;
    await inFlight.run(state.commandId, fingerprint, async (repeated) => {
      await next();
      // One with this key and body succeeded meanwhile, whatever the log still knows of it.
      if (repeated) ctx.set("Idempotent-Replayed", "true");
    });
  };
  return (ctx, next) => (ctx.state.hasKey ? run(ctx, next) : next());
}

/** `done`: whether it succeeded. */
type Running = { readonly done: Promise<boolean>; readonly fingerprint: string };

/** The requests of this node that run under a key. Bounded by the number of requests. */
export class InFlight {
  readonly #running = new Map<string, Running>();

  /**
   * Runs the work once no other with this command id runs. A first one that had an effect has left it in the log, where
   * the work finds it. `repeated` says that one with the same body succeeded meanwhile. Throws Problem
   * (idempotency_key_in_flight) after five seconds.
   */
  async run<T>(commandId: string, fingerprint: string, work: (repeated: boolean) => Promise<T>): Promise<T> {
    let repeated = false;
    let timeout: Promise<"timeout"> | undefined;
    // Nothing else runs between seeing the key free and taking it, so only one of those who wait goes on.
    for (let other = this.#running.get(commandId); other !== undefined; other = this.#running.get(commandId)) {
      timeout ??= sleep(IN_FLIGHT_WAIT_MS, "timeout" as const, { ref: false });
      const done = await Promise.race([other.done, timeout]);
      if (done === "timeout") throw new Problem("idempotency_key_in_flight");
      repeated ||= done && other.fingerprint === fingerprint;
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#running.set(commandId, { done: promise, fingerprint });
    let done = false;
    try {
      const result = await work(repeated);
      done = true;
      return result;
    } finally {
      this.#running.delete(commandId);
      resolve(done);
    }
  }
}
