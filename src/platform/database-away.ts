// Telling a database that cannot be reached from one that refuses: the first passes, and is nobody's fault.

/** Of sockets and of looking names up. */
const NETWORK_CODES = new Set([
  ...["ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"],
  ...["ENOTFOUND", "EAI_AGAIN"],
]);
/** Of PostgreSQL: connection exceptions, no resources left, and a server that stops, starts or ended the session. */
const AWAY_STATES = /^(08...|53...|57P0[1-5]|25P0[34])$/;
/** What we say of a question that the database took and did not answer. */
export const NO_ANSWER = "PostgreSQL did not answer in time";
/** What the client library says itself, without a code. */
const AWAY_MESSAGES = [
  NO_ANSWER,
  "Connection terminated",
  "timeout exceeded when trying to connect",
  "Query read timeout",
  "Client has encountered a connection error and is not queryable",
  "Client was closed and is not queryable",
];

/** Whether the error says that the database, or the way to it, is not there for now. What was asked may have happened. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && typeof error.code === "string") {
    if (NETWORK_CODES.has(error.code) || AWAY_STATES.test(error.code)) return true;
  }
  return AWAY_MESSAGES.some((message) => error.message.startsWith(message)) || isDatabaseAway(error.cause);
}
