// channels/guarded-socket.ts: the only way out. Opens a TCP or TLS connection to an address that the guard has checked.

import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { type AddressGuard, AddressNotAllowedError } from "./address-guard.ts";
import { canonicalHost } from "./address-ranges.ts";
import type { AttemptErrorCode } from "./attempt-result.ts";

/** How far a connection came before it failed. */
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

const REFUSED = "The target is not a public address";

/**
 * Opens a connection. The addresses are resolved once, checked, and handed to the socket as they are; the address that
 * it then has is checked again. Certificates are checked, except for loopback in development mode. Rejects with
 * `ConnectFailure` only, at the latest after `timeoutMs`.
 */
export async function openSocket(options: OpenSocketOptions): Promise<Socket> {
  const deadline = performance.now() + options.timeoutMs;
  const addresses = await within(options.timeoutMs, resolveTarget(options));
  const host = canonicalHost(options.host) ?? options.host;
  const plain = connectTcp({
    host,
    port: options.port,
    lookup: (_name, lookup, callback) => {
      const [first] = addresses;
      if (lookup.all || first === undefined) callback(null, [...addresses]);
      else callback(null, first.address, first.family);
    },
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_MS,
    noDelay: true,
  });
  await opened(plain, "connect", "connect", deadline);
  const address = plain.remoteAddress ?? "";
  // fence: ssrf-socket-address
  if (!options.guard.allows(address)) {
    plain.destroy();
    throw new ConnectFailure("resolve", "address_not_allowed", REFUSED);
  }
  if (!options.tls) return plain;
  const secure = connectTls({
    socket: plain,
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(options.alpn ? { ALPNProtocols: [...options.alpn] } : {}),
    // fence: certificates
    rejectUnauthorized: !options.guard.trustsUnchecked(address),
  });
  await opened(secure, "secureConnect", "tls", deadline);
  return secure;
}

async function resolveTarget({ guard, host }: OpenSocketOptions) {
  try {
    return await guard.resolve(host);
  } catch (error) {
    if (error instanceof AddressNotAllowedError) throw new ConnectFailure("resolve", "address_not_allowed", REFUSED);
    throw new ConnectFailure("resolve", "dns_failure", `The host name could not be resolved${detail(error)}`);
  }
}

/** Waits for the event that says the socket is open; destroys the socket when it fails or takes too long. */
function opened(socket: Socket, event: "connect" | "secureConnect", stage: ConnectStage, deadline: number) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (failure: ConnectFailure) => {
    // Always the outermost socket: one destroyed under its TLS layer can crash Node. A destroyed socket may still
    // report an error; without a listener that would end the process.
    socket.on("error", () => {});
    socket.destroy();
    reject(failure);
  };
  const onError = (error: unknown) => fail(connectFailure(error, stage));
  const onClose = () => fail(connectFailure({ code: "ECONNRESET" }, stage));
  const timer = setTimeout(
    () => fail(new ConnectFailure(stage, "timeout", "The connection took too long to open")),
    Math.max(0, deadline - performance.now()),
  );
  socket.once("error", onError).once("close", onClose);
  socket.once(event, () => resolve());
  return promise.finally(() => {
    clearTimeout(timer);
    socket.off("error", onError).off("close", onClose);
  });
}

async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T> {
  const timeUp = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => timeUp.reject(new ConnectFailure("resolve", "timeout", "The host name took too long to resolve")),
    timeoutMs,
  );
  try {
    return await Promise.race([work, timeUp.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function connectFailure(error: unknown, stage: ConnectStage): ConnectFailure {
  const known = networkFault(error);
  if (known?.code === "timeout") return new ConnectFailure(stage, known.code, known.message);
  if (stage === "tls") {
    return new ConnectFailure(stage, "tls_failure", `The TLS connection could not be made${detail(error)}`);
  }
  return known ? new ConnectFailure(stage, known.code, known.message) : unknownFailure(stage, error);
}

const unknownFailure = (stage: ConnectStage, error: unknown) =>
  new ConnectFailure(stage, "network_failure", `The connection failed${detail(error)}`);

/** The code of a system or library error, also of the first one inside an AggregateError. */
export function errorCode(error: unknown): string {
  if (typeof error === "object" && error !== null) {
    if ("code" in error && typeof error.code === "string") return error.code;
    if ("errors" in error && Array.isArray(error.errors)) return errorCode(error.errors[0]);
  }
  return "";
}

/** The error's code in brackets: it names the fault without the addresses that messages carry. */
function detail(error: unknown): string {
  const code = errorCode(error);
  return /^[A-Z0-9_]{1,60}$/.test(code) ? ` (${code})` : "";
}

/** What a fault of the network means for an attempt; null for an error that is none. */
export function networkFault(error: unknown): { readonly code: AttemptErrorCode; readonly message: string } | null {
  switch (errorCode(error)) {
    case "ECONNREFUSED":
      return { code: "connection_refused", message: "The target refused the connection" };
    case "ECONNRESET":
    case "EPIPE":
    case "ECONNABORTED":
    case "UND_ERR_SOCKET":
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
