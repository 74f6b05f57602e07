// One effect for one Idempotency-Key: the command's id follows from the key, and one request a key runs at a time.
import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { canonicalJson } from "../../contract/json.ts";
import { deriveUuid } from "../../event-store/derive.ts";
import { keyObjectOf } from "../../event-store/key-object.ts";
import { Problem } from "./problems.ts";

/** How long a request waits for another one with its key. */
const IN_FLIGHT_WAIT_MS = 5_000;

/** Who sent the key, and where to. `path` is decoded. */
type KeyedRequest = {
  readonly client: string;
  /** The user's subject, or "" for a client key. */
  readonly user: string;
  readonly method: string;
  readonly path: string;
  readonly key: string;
};

/** The command's id; part of the storage format, for a key must find its command again after an update. */
export const commandIdOf = ({ client, user, method, path, key }: KeyedRequest): string =>
  deriveUuid("command", client, user, method, path, key);

/** Tells equal JSON bodies, whatever the order of their fields, without showing them. */
export const fingerprintOf = (pepper: Uint8Array, body: unknown): string =>
  createHmac("sha256", keyObjectOf(pepper)).update(canonicalJson(body)).digest("base64url");

/** `done`: whether it succeeded. */
type Running = { readonly done: Promise<boolean>; readonly fingerprint: string };

/** The requests of this node that run under a key. As many as there are requests. */
export class InFlight {
  readonly #running = new Map<string, Running>();

  /**
   * Runs the work once no other with this command id runs. A first one that had an effect has left it in the log, where
   * the work finds it; `repeated` tells that one with the same body succeeded. Throws Problem (idempotency_key_in_flight) after five seconds.
   */
  async run<T>(commandId: string, fingerprint: string, work: (repeated: boolean) => Promise<T>): Promise<T> {
    let repeated = false;
    let timeUp: Promise<"late"> | undefined;
    // From seeing the key free to taking it nothing else runs, so that of those who wait one goes on.
    for (let other = this.#running.get(commandId); other !== undefined; other = this.#running.get(commandId)) {
      timeUp ??= sleep(IN_FLIGHT_WAIT_MS, "late" as const, { ref: false });
      const done = await Promise.race([other.done, timeUp]);
      if (done === "late") throw new Problem("idempotency_key_in_flight");
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
