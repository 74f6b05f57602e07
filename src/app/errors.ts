// How a use case refuses: one type of error with a code of the interface, for HTTP and sockets alike.
import { type FieldFault, PROBLEMS, type ProblemCode } from "../contract/errors.ts";
import { faultsText } from "../contract/issues.ts";
import { DomainError, InvalidInput } from "../domain/decider.ts";
import { AppendTooLarge, StoreUnavailable } from "../event-store/event-store.ts";
import { CommandTimedOut, StreamOverloaded } from "../event-store/handle-command.ts";
import { NoSlot } from "../platform/bounded.ts";
import { isDatabaseAway } from "../platform/postgres.ts";
import { InvalidCursor } from "../projections/page.ts";

export type AppErrorOptions = {
  /** For the caller; without it, what the code means. */
  readonly detail?: string;
  /** Further members of the answer, such as `existing_id`. */
  readonly extra?: Readonly<Record<string, string | number>>;
  /** With `validation_failed`: every fault. */
  readonly faults?: readonly FieldFault[];
  /** When to try again; without it, what is usual for the code. */
  readonly retryAfterSeconds?: number;
};

/** Refuses what was asked; everything in it is shown to the caller. */
export class AppError extends Error {
  override readonly name: string = "AppError";
  readonly code: ProblemCode;
  readonly detail: string;
  readonly extra: Readonly<Record<string, string | number>>;
  readonly faults: readonly FieldFault[] | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ProblemCode, { detail, extra, faults, retryAfterSeconds }: AppErrorOptions = {}) {
    super(code);
    const known: { meaning: string; retryAfterSeconds?: number } = PROBLEMS[code];
    this.code = code;
    this.detail = detail ?? known.meaning;
    this.extra = extra ?? {};
    this.faults = faults;
    this.retryAfterSeconds = retryAfterSeconds ?? known.retryAfterSeconds;
  }
}

/** An error that lists faults of the input. */
export const invalid = (faults: readonly FieldFault[]): AppError =>
  new AppError("validation_failed", { detail: faultsText(faults), faults });

/** Max bytes that an append may carry, sealed. */
const MAX_STORED_BYTES = 1_000_000;

/** What an error of the layers below means to a caller; undefined for a fault of ours, which is logged and not shown. */
export function toAppError(error: unknown): AppError | undefined {
  if (error instanceof AppError) return error;
  if (error instanceof DomainError) {
    const detail = error.message === error.code ? {} : { detail: error.message };
    return new AppError(error.code, { ...detail, extra: error.extra });
  }
  if (error instanceof InvalidInput) return invalid(error.faults);
  if (error instanceof InvalidCursor) return new AppError("invalid_cursor");
  if (error instanceof AppendTooLarge) {
    const detail = `what the request would store is over ${MAX_STORED_BYTES} bytes`;
    return new AppError("body_too_large", { detail, extra: { max_bytes: MAX_STORED_BYTES } });
  }
  if (error instanceof CommandTimedOut) {
    return new AppError("unavailable", { detail: "The outcome is not known yet: it may still be carried out." });
  }
  if (error instanceof StreamOverloaded || error instanceof StoreUnavailable) return new AppError("unavailable");
  if (isDatabaseAway(error) || error instanceof NoSlot) return new AppError("unavailable");
  return undefined;
}
