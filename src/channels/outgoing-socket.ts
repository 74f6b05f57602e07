// channels/outgoing-socket.ts: the only way out. Opens a TCP or TLS connection to an address that the guard has checked.

import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { AttemptErrorCode } from "./attempt-result.ts";
import { type AddressGuard, AddressNotAllowedError, canonicalHost } from "./guard.ts";

/** The stage at which a connection failed. */
export type ConnectStage = "resolve" | "connect" | "tls";

/** A connection that could not be opened. Its message names neither addresses nor bytes of the other side. */
export class ConnectFailure extends Error {
  readonly stage: ConnectStage;
  readonly code: AttemptErrorCode;
  constructor(stage: ConnectStage, code: AttemptErrorCode, message: string) {
    super(message);
    this.stage = stage;
    this.code = code;
  }
}

type OpenSocketOptions = {
  readonly guard: AddressGuard;
  readonly host: string;
  readonly port: number;
  /** For name resolution, connection and TLS handshake together. */
  readonly timeoutMs: number;
  readonly tls: boolean;
  readonly alpn?: readonly string[];
};

// How long one of several addresses may take before the next is tried as well.
const NEXT_ADDRESS_MS = 1_000;

/**
 * Opens a connection. The addresses are resolved once, checked, and given to the socket as they are. The address that
 * it connected to is checked again. Certificates are checked, except for loopback in development mode. Rejects with
 * `ConnectFailure` only, at the latest after `timeoutMs`.
 */
export async function openSocket({ guard, port, timeoutMs, tls, alpn, ...target }: OpenSocketOptions): Promise<Socket> {
  using time = deadline(timeoutMs);
  const addresses = await resolveTarget(guard, target.host, time.signal);
  const host = canonicalHost(target.host) ?? target.host;
  const plain = connectTcp({
    host,
    port,
    lookup: (_name, lookup, callback) => {
      const [first] = addresses;
      if (lookup.all || first === undefined) callback(null, [...addresses]);
      else callback(null, first.address, first.family);
    },
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_MS,
    noDelay: true,
  });
  await opened(plain, "connect", "connect", time.signal);
  const address = plain.remoteAddress ?? "";
  // fence: ssrf-socket-address
  if (!guard.allows(address)) {
    plain.destroy();
    throw addressNotAllowed();
  }
  if (!tls) return plain;
  const secure = connectTls({
    socket: plain,
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(alpn ? { ALPNProtocols: [...alpn] } : {}),
    // fence: certificates
    rejectUnauthorized: !guard.trustsUnchecked(address),
  });
  await opened(secure, "secureConnect", "tls", time.signal);
  return secure;
}

const addressNotAllowed = () =>
  new ConnectFailure("resolve", "address_not_allowed", "The target is not a public address");

async function resolveTarget(guard: AddressGuard, host: string, signal: AbortSignal) {
  const timeUp = Promise.withResolvers<never>();
  signal.addEventListener("abort", () =>
    timeUp.reject(new ConnectFailure("resolve", "timeout", "The host name took too long to resolve")),
  );
  try {
    return await Promise.race([guard.resolve(host), timeUp.promise]);
  } catch (error) {
    if (error instanceof ConnectFailure) throw error;
    if (error instanceof AddressNotAllowedError) throw addressNotAllowed();
    throw new ConnectFailure("resolve", "dns_failure", `The host name could not be resolved${detail(error)}`);
  }
}

/** Waits for the event that says the socket is open. Destroys the socket when it fails or the signal aborts. */
async function opened(socket: Socket, event: "connect" | "secureConnect", stage: ConnectStage, signal: AbortSignal) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onError = (error: unknown) => reject(connectFailure(error, stage));
  const onClose = () => onError({ code: "ECONNRESET" });
  const onTimeUp = () => reject(new ConnectFailure(stage, "timeout", "The connection took too long to open"));
  socket.on("error", onError).on("close", onClose).once(event, resolve);
  signal.addEventListener("abort", onTimeUp);
  if (signal.aborted) onTimeUp();
  try {
    await promise;
  } catch (failure) {
    // Always the outermost socket: destroying one under its TLS layer can crash Node. A destroyed socket may still
    // emit an error, and without a listener that would end the process.
    socket.on("error", () => {});
    socket.destroy();
    throw failure;
  } finally {
    socket.off("error", onError).off("close", onClose);
    signal.removeEventListener("abort", onTimeUp);
  }
}

function connectFailure(error: unknown, stage: ConnectStage): ConnectFailure {
  const known = networkFault(error);
  if (known?.code === "timeout") return new ConnectFailure(stage, known.code, known.message);
  if (stage === "tls") {
    return new ConnectFailure(stage, "tls_failure", `The TLS connection could not be made${detail(error)}`);
  }
  if (known) return new ConnectFailure(stage, known.code, known.message);
  return new ConnectFailure(stage, "network_failure", `The connection failed${detail(error)}`);
}

/** The code of a system or library error, or of the first one inside an AggregateError. Empty when there is none. */
export function errorCode(error: unknown): string {
  if (typeof error === "object" && error !== null) {
    if ("code" in error && typeof error.code === "string") return error.code;
    if ("errors" in error && Array.isArray(error.errors)) return errorCode(error.errors[0]);
  }
  return "";
}

/** The error's code in brackets. It names the fault without the addresses that error messages carry. */
function detail(error: unknown): string {
  const code = errorCode(error);
  return /^[A-Z0-9_]{1,60}$/.test(code) ? ` (${code})` : "";
}

/** What a network error means for an attempt. Null for any other error. */
export function networkFault(error: unknown): { readonly code: AttemptErrorCode; readonly message: string } | null {
  switch (errorCode(error)) {
    case "ECONNREFUSED":
      return { code: "connection_refused", message: "The target refused the connection" };
    case "ECONNRESET":
    case "EPIPE":
    case "ECONNABORTED":
      return { code: "connection_closed", message: "The target closed the connection" };
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EHOSTDOWN":
    case "ENETDOWN":
    case "EADDRNOTAVAIL":
    case "EACCES":
    case "EPERM":
      return { code: "unreachable", message: "The target cannot be reached" };
    case "ETIMEDOUT":
      return { code: "timeout", message: "The target took too long" };
    default:
      return null;
  }
}

/** `signal` aborts when the time is up or one of the others aborts. Disposing it removes the timer and the listener. */
export type Deadline = Disposable & {
  readonly signal: AbortSignal;
  readonly isUp: boolean;
  /** Gives another time from now on. */
  readonly restart: (ms: number) => void;
};

/** The time limit of an attempt. Unlike `AbortSignal.timeout` and `any` it keeps no timer once the attempt is over. */
export function deadline(ms: number, ...others: readonly (AbortSignal | undefined)[]): Deadline {
  const controller = new AbortController();
  let isUp = false;
  const timeUp = () => {
    isUp = true;
    controller.abort();
  };
  let timer = setTimeout(timeUp, ms);
  const end = () => controller.abort();
  for (const other of others) {
    if (other?.aborted === true) end();
    else other?.addEventListener("abort", end, { once: true });
  }
  return {
    signal: controller.signal,
    get isUp() {
      return isUp;
    },
    restart(more) {
      clearTimeout(timer);
      timer = setTimeout(timeUp, more);
    },
    [Symbol.dispose]() {
      clearTimeout(timer);
      for (const other of others) other?.removeEventListener("abort", end);
    },
  };
}
