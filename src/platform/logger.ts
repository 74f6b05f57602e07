// The log of a process: one JSON object a line, in which an error is logged without the data that it holds.
import pino, { type DestinationStream, type LevelWithSilent, type Logger } from "pino";

/** Type, message, stack and code of an error. What drivers add besides, such as the row that was refused, is left out. */
function safeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error);
  const { type, message, stack } = pino.stdSerializers.err(error);
  const code = "code" in error ? error.code : undefined;
  const errors = error instanceof AggregateError ? error.errors.map(safeError) : undefined;
  return { type, message, stack, code, errors };
}

/** Default destination: standard output. */
export const createLogger = (level: LevelWithSilent, destination: DestinationStream = pino.destination(1)): Logger =>
  pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      /* fence: error-serializer */ serializers: { err: safeError },
    },
    destination,
  );
