// The numbers of the HTTP interface: what a connection, a request and all of them together may take of time and memory.
import type { ServerOptions } from "node:http";
import { SECOND_MS } from "../../contract/time.ts";

const MEBIBYTE = 1024 * 1024;

/** The most bytes that a body may have. */
export const MAX_BODY_BYTES = MEBIBYTE;
/** What is still read of a body that is too large, so that its sender gets to read the answer. */
export const MAX_DRAINED_BYTES = 16 * MEBIBYTE;
/** Bodies that are in memory at once, of one client and of all: those that arrive, and those that are being handled. */
export const MAX_CLIENT_BODIES_BYTES = 64 * MEBIBYTE;
export const MAX_BODIES_BYTES = 256 * MEBIBYTE;
/** Connections at once, sockets among them; the next are closed without an answer, before they cost anything. */
export const MAX_CONNECTIONS = 50_000;

/** Durations in milliseconds. */
export type HttpTimings = {
  /** From connecting, or from a later request's first byte, to the end of its headers: also of who says nothing at all. */
  readonly headersMs: number;
  /** To the end of the body. */
  readonly requestMs: number;
  /** From an answer to being taken by its reader. */
  readonly answerMs: number;
  /** How long a connection without a request is kept. */
  readonly keepAliveMs: number;
  /** How often connections are looked at: the precision of the first two. */
  readonly checkMs: number;
};

export const HTTP_TIMINGS: HttpTimings = {
  headersMs: 15 * SECOND_MS,
  requestMs: 60 * SECOND_MS,
  answerMs: 60 * SECOND_MS,
  keepAliveMs: 65 * SECOND_MS,
  checkMs: 5 * SECOND_MS,
};

/** As the options of Node's server; how long an answer waits is not among them. */
export const timeouts = ({ headersMs, requestMs, keepAliveMs, checkMs }: HttpTimings): ServerOptions => ({
  headersTimeout: headersMs,
  requestTimeout: requestMs,
  keepAliveTimeout: keepAliveMs,
  connectionsCheckingInterval: checkMs,
});
