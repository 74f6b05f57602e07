// Thousands of WebSocket clients that only count what comes, on bare sockets: a library for each would cost more than
// the server that is measured.
import { createConnection, type Socket } from "node:net";
import { serveCalls } from "../support/process.ts";

export type Connecting = {
  readonly url: string;
  readonly path: string;
  /** One for each socket. */
  readonly headers: readonly string[];
  /** What each sends once it is connected; null: nothing. */
  readonly hello: string | null;
  /** How many frames each is answered before it counts as connected. */
  readonly answers: number;
};

const AT_ONCE = 100;
const TIMEOUT_MS = 60_000;

const sockets: Socket[] = [];
let frames = 0;
let wanted = Number.POSITIVE_INFINITY;
let reached: () => void = () => {};
let closed = 0;

serveCalls({
  async connect({ url, path, headers, hello, answers }: Connecting): Promise<void> {
    const { hostname, port, host } = new URL(url);
    let next = 0;
    const lane = async () => {
      while (next < headers.length) {
        const header = headers[next++] ?? "";
        const request = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${header}${UPGRADE}`;
        sockets.push(await open(hostname, Number(port), request, hello, answers));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    frames = 0;
  },
  /** Resolves when so many frames that tell of something have come, over all sockets, since the last call of this. */
  async receive(count: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${frames} of ${count} frames came, ${closed} sockets were closed`)),
        TIMEOUT_MS,
      );
      reached = () => {
        clearTimeout(timer);
        resolve();
      };
      wanted = count;
      if (frames >= wanted) reached();
    });
    frames = 0;
    wanted = Number.POSITIVE_INFINITY;
  },
});

const UPGRADE =
  "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

function open(host: string, port: number, request: string, hello: string | null, answers: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host, port, noDelay: true }, () => socket.write(request));
    const timer = setTimeout(() => reject(new Error("a socket got no answer")), TIMEOUT_MS);
    const connected = () => {
      clearTimeout(timer);
      resolve(socket);
    };
    let rest: Buffer = Buffer.alloc(0);
    let upgraded = false;
    let seen = 0;
    socket.on("error", reject);
    socket.on("close", () => {
      closed += 1;
      reject(new Error("the server closed a socket"));
    });
    socket.on("data", (chunk) => {
      let bytes = rest.byteLength === 0 ? chunk : Buffer.concat([rest, chunk]);
      if (!upgraded) {
        const head = bytes.indexOf("\r\n\r\n");
        if (head < 0) {
          rest = bytes;
          return;
        }
        if (!bytes.toString("latin1", 0, 12).endsWith("101")) return void reject(new Error(bytes.toString()));
        bytes = bytes.subarray(head + 4);
        upgraded = true;
        if (hello !== null) socket.write(masked(hello));
        if (answers === 0) connected();
      }
      const { texts, told, pings, refusal, used } = whole(bytes);
      if (refusal !== undefined) return void reject(new Error(`a socket was answered ${refusal}`));
      rest = bytes.subarray(used);
      for (let ping = 0; ping < pings; ping += 1) socket.write(PONG);
      seen += texts;
      if (seen - texts < answers && seen >= answers) connected();
      frames += told;
      if (frames >= wanted) reached();
    });
  });
}

const TEXT = 0x81;
const PING = 0x89;
/** An empty pong, masked with zeros. */
const PONG = Buffer.from([0x8a, 0x80, 0, 0, 0, 0]);
const beginning = (type: string) => Buffer.from(`{"type":"${type}"`);
/** How the frames begin that tell of what happens in rooms. */
const TOLD = ["event", "typing"].map(beginning);
const REFUSED = beginning("error");

/** The whole frames of some bytes, by kind, the first that refuses something, and how many bytes they take. */
type Frames = { texts: number; told: number; pings: number; refusal?: string; used: number };

function whole(bytes: Buffer): Frames {
  const found: Frames = { texts: 0, told: 0, pings: 0, used: 0 };
  while (found.used + 2 <= bytes.byteLength) {
    const { used } = found;
    const short = (bytes[used + 1] ?? 0) & 0x7f;
    if (short === 127) throw new Error("a frame of over 64 KB was not expected");
    if (short === 126 && used + 4 > bytes.byteLength) break;
    const payload = used + (short === 126 ? 4 : 2);
    const end = payload + (short === 126 ? bytes.readUInt16BE(used + 2) : short);
    if (end > bytes.byteLength) break;
    if (bytes[used] === PING) found.pings += 1;
    if (bytes[used] === TEXT) found.texts += 1;
    const begins = (start: Buffer) => bytes.compare(start, 0, start.length, payload, payload + start.length) === 0;
    if (bytes[used] === TEXT && TOLD.some(begins)) found.told += 1;
    if (bytes[used] === TEXT && begins(REFUSED)) found.refusal ??= bytes.toString("utf8", payload, end);
    found.used = end;
  }
  return found;
}

/** A client's text frame; a mask of zeros is one, too. */
function masked(text: string): Buffer {
  const payload = Buffer.from(text);
  if (payload.byteLength > 125) throw new Error("too long for a short frame");
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.byteLength, 0, 0, 0, 0]), payload]);
}
