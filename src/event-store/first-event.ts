// The log's first event: it carries the log's id.
import { randomBytes, randomUUID } from "node:crypto";
import { z } from "zod";
import type { Instant } from "../contract/time.ts";
import type { NewEvent } from "./event-store.ts";

/** The stream of the first event, and of nothing else. */
export const LOG_STREAM = "log";
const LOG_CREATED = "LogCreated";
const LogCreatedData = z.object({ log_id: z.string().regex(/^[A-Za-z0-9]{1,64}$/) });

/** A new log's id: random, so that no two logs have the same. */
export const newLogId = (): string => randomBytes(8).toString("hex");

/** The first event of a log. Throws RangeError when the id does not fit into a position. */
export function logCreated(logId: string, at: Instant): NewEvent {
  if (!LogCreatedData.safeParse({ log_id: logId }).success) throw new RangeError(`not a log id: ${logId}`);
  const data = Buffer.from(JSON.stringify({ log_id: logId }));
  return { id: randomUUID(), type: LOG_CREATED, data, metadata: systemMetadata(randomUUID(), at) };
}

/** Metadata, as bytes, of an event that no caller's command made. */
export const systemMetadata = (command: string, at: Instant): Uint8Array =>
  Buffer.from(
    JSON.stringify({
      ...{ v: 1, at, client: null, actor: { type: "system", id: "chatapi" } },
      ...{ command, correlation: command, causation: command, subjects: [] },
    }),
  );

/** The log's id, from its first event. Throws when that is another event: then this is not a log of ours. */
export function logIdOf(first: Pick<NewEvent, "type" | "data">): string {
  if (first.type !== LOG_CREATED) throw new Error(`the log begins with ${first.type}, not with ${LOG_CREATED}`);
  return LogCreatedData.parse(JSON.parse(Buffer.from(first.data).toString())).log_id;
}

/** Whether it is the log's first event, by its name. */
export const isFirstEvent = ({ stream, revision, type }: { stream: string; revision: number; type: string }): boolean =>
  stream === LOG_STREAM && revision === 0 && type === LOG_CREATED;
