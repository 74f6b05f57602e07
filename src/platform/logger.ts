// The log of a process: JSON, one line each, in which errors are told without what they hold.
import pino, { type DestinationStream, type Logger } from "pino";
import type { Config } from "../config.ts";

/** What an error is and where it came from. What drivers add besides, as the row that was refused, is left out. */
function shownError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const { type, message, stack } = pino.stdSerializers.err(error);
  const code = "code" in error ? error.code : undefined;
  const errors = error instanceof AggregateError ? error.errors.map(shownError) : undefined;
  return { type, message, stack, code, errors };
}

/** Makes it. Default destination: standard output. */
export const createLogger = (level: Config["logLevel"], destination: DestinationStream = pino.destination(1)): Logger =>
  pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      /* fence: error-serializer */ serializers: { err: shownError },
    },
    destination,
  );
