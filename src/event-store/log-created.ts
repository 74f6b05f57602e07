// The first event of every log: it carries the log's id. A storage format.

import { randomBytes, randomUUID } from "node:crypto";
import { z } from "zod";
import type { Instant } from "../contract/time.ts";
import type { NewEvent } from "./event-store.ts";

/** The stream that holds it, and nothing else. */
export const LOG_STREAM = "log";
const LOG_CREATED = "LogCreated";

const LogCreatedData = z.object({ log_id: z.string().regex(/^[A-Za-z0-9]{1,64}$/) });

/** A new log's id: random, so that two logs never share one. */
export const newLogId = (): string => randomBytes(8).toString("hex");

/** The event that makes a log. Throws `RangeError` when the id does not fit into a position. */
export function logCreated(logId: string, at: Instant): NewEvent {
  if (!LogCreatedData.safeParse({ log_id: logId }).success) throw new RangeError(`not a log id: ${logId}`);
  const command = randomUUID();
  return {
    id: randomUUID(),
    type: LOG_CREATED,
    data: Buffer.from(JSON.stringify({ log_id: logId })),
    metadata: Buffer.from(
      JSON.stringify({
        v: 1,
        at,
        client: null,
        actor: { type: "system", id: "chatapi" },
        command,
        correlation: command,
        causation: command,
        subjects: [],
      }),
    ),
  };
}

/** The log's id, from its first event. Throws when that is something else: then this is not a log of ours. */
export function logIdOf(first: { readonly type: string; readonly data: Uint8Array }): string {
  if (first.type !== LOG_CREATED) throw new Error(`the log begins with ${first.type}, not with ${LOG_CREATED}`);
  return LogCreatedData.parse(JSON.parse(Buffer.from(first.data).toString())).log_id;
}
