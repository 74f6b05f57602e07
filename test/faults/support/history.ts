// What clients know of their own: every write that they sent, and the answer that it got in the end.
import { setTimeout as sleep } from "node:timers/promises";
import type { Api, Body } from "../../e2e/support/api.ts";

export type WriteKind = "post" | "edit" | "delete" | "notify" | "cancel";

export type Write = {
  /** Its Idempotency-Key and its X-Request-Id, so that it is found in the log as what it was sent as. */
  readonly key: string;
  readonly kind: WriteKind;
  readonly method: "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly body?: Body;
  sends: number;
  /** Undefined: nobody knows what came of it. */
  answer?: { readonly status: number; readonly body: Body; readonly position: string | null };
};

/** How long after a write that nobody answered it is sent again. */
const AGAIN_MS = 50;

/** Whether the answer says what came of the write. */
const isKnown = ({ status, body }: { status: number; body: Body }): boolean =>
  status !== 503 && status !== 429 && body?.code !== "idempotency_key_in_flight";

export class ClientHistory {
  readonly writes: Write[] = [];
  /** Answers that no client should ever get. */
  readonly strange: string[] = [];
  /** How often a write was sent again. */
  resent = 0;

  /** Sends a write until it is answered, under the same key each time, or until `over`. */
  async send(api: Api, asked: Omit<Write, "sends" | "answer">, over: AbortSignal): Promise<Write> {
    const write: Write = { ...asked, sends: 0 };
    this.writes.push(write);
    const key: Record<string, string> = write.method === "POST" ? { "idempotency-key": write.key } : {};
    while (!over.aborted) {
      write.sends += 1;
      if (write.sends > 1) this.resent += 1;
      const answer = await api
        .call(write.method, write.path, write.body, { ...key, "x-request-id": write.key })
        .catch(() => undefined);
      if (answer !== undefined && isKnown(answer)) {
        const { status, body, headers } = answer;
        write.answer = { status, body, position: headers.get("position") };
        const isFine = status < 300 || (write.kind === "cancel" && status === 409);
        if (!isFine) this.strange.push(`${write.method} ${write.path} ${write.key}: ${status} ${JSON.stringify(body)}`);
        return write;
      }
      await sleep(AGAIN_MS);
    }
    return write;
  }
}
