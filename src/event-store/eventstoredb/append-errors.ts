// What the client's errors say of an append: refused, or unknown.

import { ErrorType } from "@eventstore/db-client";
import { messageOf } from "../../platform/supervise.ts";
import { AppendTooLarge, NO_STREAM, OutcomeUnknown, WrongExpectedRevision } from "../event-store.ts";

/** The client's name for an error; undefined for what comes straight from its transport. */
export const typeOf = (error: unknown): unknown => (error instanceof Error && "type" in error ? error.type : undefined);

/** Refusals that the server gives before it writes anything; all else may have been written. */
const REFUSED: ReadonlySet<unknown> = new Set([
  ErrorType.WRONG_EXPECTED_VERSION,
  ErrorType.MAXIMUM_APPEND_SIZE_EXCEEDED,
  ErrorType.ACCESS_DENIED,
  ErrorType.INVALID_ARGUMENT,
  ErrorType.STREAM_DELETED,
]);

/** Whether the server has answered the append, if only to refuse it. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof WrongExpectedRevision || REFUSED.has(typeOf(error));

/** Whether the server itself has given up waiting; the batch path knows no other deadline. */
export const isServersTimeout = (error: unknown): boolean => typeOf(error) === ErrorType.DEADLINE_EXCEEDED;

/** Whether another node leads the cluster; the client goes there with the next call. */
export const isNotLeader = (error: unknown): boolean => typeOf(error) === ErrorType.NOT_LEADER;

/** How long the client needs to turn to another node. */
export const TURN_MS = 20;

/** The error that the port names, or the client's own for a refusal that it does not. */
export function appendError(error: unknown, stream: string, expected: number, bytes: number): unknown {
  if (error instanceof OutcomeUnknown || error instanceof WrongExpectedRevision) return error;
  const type = typeOf(error);
  if (type === ErrorType.WRONG_EXPECTED_VERSION && error instanceof Error && "actualVersion" in error) {
    const actual = typeof error.actualVersion === "bigint" ? Number(error.actualVersion) : NO_STREAM;
    return new WrongExpectedRevision(stream, expected, actual);
  }
  if (type === ErrorType.MAXIMUM_APPEND_SIZE_EXCEEDED) return new AppendTooLarge(bytes);
  return REFUSED.has(type) ? error : new OutcomeUnknown(messageOf(error) || String(type), { cause: error });
}
