// WebSocket text frames, made once for all who get them.

const TEXT = 0x81;
const SHORT = 125;
const MEDIUM = 0xffff;

let last: { readonly payload: Buffer; readonly frame: Buffer } | undefined;

/**
 * The whole message as the server sends it, ready for the stream: neither masked nor compressed. The last one is kept,
 * because a broadcast asks for the same again and again; a payload must not change once it was given.
 */
export function textFrame(payload: Buffer): Buffer {
  if (last?.payload === payload) return last.frame;
  const frame = Buffer.concat([header(payload.byteLength), payload]);
  last = { payload, frame };
  return frame;
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
