// WebSocket text frames, made once for all who get them.

const TEXT = 0x81;
const SHORT = 125;
const MEDIUM = 0xffff;

let last: { readonly payloads: readonly Buffer[]; readonly frames: Buffer } = { payloads: [], frames: Buffer.alloc(0) };

/**
 * Whole messages as the server sends them, in one piece for the stream: neither masked nor compressed. The last piece is
 * kept, because a broadcast asks for the same again and again; payloads must not change once they were given.
 */
export function textFrames(payloads: readonly Buffer[]): Buffer {
  if (!isSame(payloads, last.payloads)) {
    const parts = payloads.flatMap((payload) => [header(payload.byteLength), payload]);
    last = { payloads, frames: Buffer.concat(parts) };
  }
  return last.frames;
}

function isSame(some: readonly Buffer[], others: readonly Buffer[]): boolean {
  if (some === others) return true;
  for (let at = 0; at < some.length; at += 1) if (some[at] !== others[at]) return false;
  return some.length === others.length;
}

function header(length: number): Buffer {
  if (length <= SHORT) return Buffer.from([TEXT, length]);
  if (length <= MEDIUM) return Buffer.from([TEXT, 126, length >> 8, length & 0xff]);
  const long = Buffer.alloc(10);
  long[0] = TEXT;
  long[1] = 127;
  long.writeBigUInt64BE(BigInt(length), 2);
  return long;
}
