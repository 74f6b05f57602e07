// Connections that speak HTTP in ways that two parsers could read differently, or no HTTP at all.
import { pick, type Random, seeded } from "./random.ts";

/** What a request that hides in another is called: it must never be carried out. */
export const HIDDEN = "hidden";

export type RawInput = {
  readonly kind: string;
  /** Written one after the other. */
  readonly pieces: readonly Buffer[];
  /** Methods of the requests that may be answered, in order. */
  readonly methods: readonly string[];
  /** What each of the first answers must have for its status; what follows are problems. */
  readonly first: readonly number[];
};

export type Speaker = { readonly host: string; readonly key: string; readonly room: string };

const LENGTHS = [
  "+5",
  "5,5",
  "5, 6",
  "0x5",
  "5 5",
  "-1",
  "1e1",
  "5.0",
  "",
  "\u00b2",
  "99999999999999999999",
  "5\r\nContent-Length: 5",
];
const CODINGS = [
  ...["xchunked", "chunked, identity", "identity", "chunked, chunked", '"chunked"', "chunked\u000b", "\u000bchunked"],
  ...["chunked\r\nTransfer-Encoding: cow", "\r\n chunked", "chunked;q=1", "", "gzip"],
];
const CHUNKS = [
  ...[
    "0x5\r\nhello\r\n",
    "+5\r\nhello\r\n",
    "-5\r\nhello\r\n",
    " 5\r\nhello\r\n",
    "5g\r\nhello\r\n",
    "5\nhello\n",
    "\r\nhello\r\n",
  ],
  ...[
    "5\r\nhelloX\r\n",
    "5\r\nhello",
    "fffffffffffffffff\r\nhello\r\n",
    "1_0\r\nhello\r\n",
    "5\r\rhello\r\n",
    "zz\r\n",
    "5;\u0000\r\nhello\r\n",
  ],
  ...[
    `5;${"a".repeat(20_000)}\r\nhello\r\n`,
    "٥\r\nhello\r\n",
    "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    "0\r\nX: \u0000\r\n\r\n",
  ],
];
const LINES = [
  ...[
    "GET / HTTP/1.1 HTTP/1.1",
    "GET  HTTP/1.1",
    "GET /",
    "get / HTTP/1.1",
    "GET\t/\tHTTP/1.1",
    "GET / HTTP/1.2",
    "GET / HTTP/3.0",
  ],
  ...[
    "GET / http/1.1",
    " GET / HTTP/1.1",
    "GET /\u0000 HTTP/1.1",
    "GET /\r HTTP/1.1",
    "GET / HTTP/1.1\rX: y",
    "GET /\u00ff HTTP/1.1",
  ],
  ...[
    "FOO / HTTP/1.1",
    "G@T / HTTP/1.1",
    "CONNECT localhost:1 HTTP/1.1",
    "CONNECT / HTTP/1.1",
    "PRI * HTTP/2.0",
    "GET ?x HTTP/1.1",
  ],
  ...[
    "GET x HTTP/1.1",
    `GET /${"x".repeat(17_000)} HTTP/1.1`,
    `${"X".repeat(5_000)} / HTTP/1.1`,
    "GET / ICE/1.0",
    "GET / HTTP/1.1 ",
  ],
];
const HEADERS = [
  ...[
    "no colon",
    ": empty",
    "X A: b",
    "X-A : b",
    "X-A: b\u0000c",
    "X-A: b\rc",
    "X-A: b\nc",
    "X-A: b\r\n folded",
    "X-A: \u007f",
  ],
  ...[
    "X\u0080: 1",
    "X-A: b\r\n\tHost: evil.example",
    `X-A: ${"a".repeat(17_000)}`,
    "a:\r\n".repeat(4_200),
    "Host : x",
    "(x): y",
  ],
];
const OTHERS = [
  ...[
    "\u0016\u0003\u0001\u0000\u00a5\u0001\u0000\u0000",
    "SSH-2.0-x\r\n",
    "EHLO x\r\nMAIL FROM:<a@b.c>\r\n",
    "\u0000".repeat(100),
  ],
  ...[
    "*1\r\n$4\r\nPING\r\n",
    "\u0000\u0000\u0000\u0008\u0004\u00d2\u0016/",
    "{}",
    "<policy-file-request/>\u0000",
    "\r\n\r\nx",
  ],
];

/** The nth connection of a seed. */
export function rawInput(seed: number, nth: number, { host, key, room }: Speaker): RawInput {
  const random: Random = seeded(seed + nth * 7_919);
  const by = [`Host: ${host}`, `X-API-Key: ${key}`, "Content-Type: application/json"];
  const head = (line: string, ...lines: readonly string[]) => `${[line, ...by, ...lines].join("\r\n")}\r\n\r\n`;
  const post = (...lines: string[]) => head("POST /api/v1/rooms HTTP/1.1", ...lines);
  const named = JSON.stringify({ name: "Hidden" });
  const hidden = post(`X-Request-Id: ${HIDDEN}-${nth}`, `Content-Length: ${named.length}`) + named;
  const get = (status: number, ...lines: string[]): readonly [string, number] => {
    const path = status === 200 ? "/api/v1/clients/me" : status === 404 ? "/api/v1/nope" : `/api/v1/rooms/${room}?x`;
    return [head(`GET ${path} HTTP/1.1`, ...lines), status];
  };
  const made = (kind: string, text: string, more: Partial<RawInput> = {}): RawInput => {
    const bytes = Buffer.from(text, "latin1");
    const at = random.below(bytes.length);
    const pieces = random.below(3) === 0 ? [bytes.subarray(0, at), bytes.subarray(at)] : [bytes];
    return { kind, pieces, methods: ["POST", "POST"], first: [], ...more };
  };
  const chunked = "Transfer-Encoding: chunked";
  switch (random.below(10)) {
    case 0:
      return made("two lengths", `${post(`Content-Length: ${hidden.length}`, chunked)}0\r\n\r\n${hidden}`);
    case 1:
      return made(
        "two lengths",
        `${post(chunked, "Content-Length: 4")}${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`,
      );
    case 2:
      return made("lengths", `${post(`Content-Length: ${pick(random, LENGTHS)}`)}hello${hidden}`);
    case 3:
      return made("codings", `${post(`Transfer-Encoding: ${pick(random, CODINGS)}`)}0\r\n\r\n${hidden}`);
    case 4:
      return made("chunks", post(chunked) + pick(random, CHUNKS) + hidden);
    case 5:
      return made("request lines", `${head(pick(random, LINES))}${hidden}`);
    case 6:
      return made("header lines", head("GET /livez HTTP/1.1", pick(random, HEADERS)) + hidden);
    case 7:
      return made("no HTTP", pick(random, OTHERS) + hidden);
    case 8: {
      // Within a body that nobody asked for it is a body; the one behind says that this is the end.
      const [last] = get(200, "Connection: close");
      const method = pick(random, ["GET", "HEAD", "DELETE", "OPTIONS"]);
      const outer = head(`${method} /api/v1/nope HTTP/1.1`, `Content-Length: ${hidden.length}`);
      return made("in a body", outer + hidden + last, { methods: [method, "GET"], first: [404, 200] });
    }
    default: {
      const asked = Array.from({ length: 1 + random.below(8) }, () => get(pick(random, [200, 404, 422])));
      const [end, ...after] = pick(random, [
        [get(404, "Connection: close"), get(200)],
        [[pick(random, OTHERS), 400] as const],
        [[head(pick(random, LINES)), 400] as const],
      ]);
      const isGood = after.length > 0;
      const first = [...asked, ...(isGood && end !== undefined ? [end] : [])].map(([, status]) => status);
      const text = [...asked, end, ...after].map((one) => one?.[0] ?? "").join("");
      return made("in a row", text, { methods: Array(first.length + 1).fill("GET"), first });
    }
  }
}
