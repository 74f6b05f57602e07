// Headers that are odd: values that mean something to the server, twice, overlong, or of bytes that few expect.
import type { Header } from "./hostile-wire.ts";
import { pick, type Random } from "./random.ts";

const LONG = "x".repeat(8_000);
/** Bytes beyond ASCII, each one character here. */
const LATIN = "\u00ff\u0080\u00e9";

const VALUES: readonly (readonly [name: string, values: readonly string[]])[] = [
  [
    "Authorization",
    [
      "",
      "Bearer",
      "Bearer ",
      "Bearer x",
      `Bearer ${LONG}`,
      `Bearer ck_${"0".repeat(49)}`,
      "Basic eDp4",
      `Bearer ${LATIN}`,
      "bearer\tx",
      "Bearer a b",
      "Bearer eyJhbGciOiJub25lIn0.e30.",
      "null",
    ],
  ],
  ["X-API-Key", ["", "x", LONG, `ck_${"A".repeat(49)}`, LATIN]],
  [
    "Host",
    [
      "",
      "evil.example",
      "localhost:99999",
      "localhost:",
      "[::1]",
      "[::1",
      "a b",
      "@",
      "localhost, evil.example",
      LATIN,
      "127.0.0.1.evil.example",
      "LOCALHOST.",
      "x".repeat(300),
    ],
  ],
  [
    "Content-Type",
    [
      "",
      "text/plain",
      "application/json; charset=latin1",
      "application/json;charset=UTF-8",
      'application/json; charset="utf-8"',
      "application/json;;",
      "application/json, text/plain",
      "APPLICATION/JSON",
      "application/merge-patch+json",
      "multipart/form-data; boundary=x",
      "application/x-www-form-urlencoded",
      `application/json; a="${LONG}"`,
      "application/jsonx",
      LATIN,
    ],
  ],
  ["Content-Encoding", ["gzip", "br", "identity", "IDENTITY", "", "gzip, identity", "x".repeat(1_000), LATIN]],
  [
    "Idempotency-Key",
    [
      "",
      '""',
      "a b",
      "a\tb",
      LATIN,
      "x".repeat(255),
      "x".repeat(256),
      `"${"x".repeat(255)}"`,
      `"${"x".repeat(256)}"`,
      '"',
      "same",
      "__proto__",
      "a, b",
    ],
  ],
  [
    "If-Match",
    [
      "",
      "*",
      "17",
      '"1"',
      '"17',
      '"1","2"',
      'W/"1"',
      '"9007199254740993"',
      '"-1"',
      '"1e3"',
      LATIN,
      `"${LONG}"`,
      '"\u0080"',
      '""',
    ],
  ],
  [
    "Read-After",
    [
      "",
      "none",
      "NONE",
      "x",
      "0",
      "0000000000000000.0000000000000001",
      "ffffffffffffffff.ffffffffffffffff",
      LONG,
      LATIN,
    ],
  ],
  [
    "X-Request-Id",
    ["", "a b", "x".repeat(128), "x".repeat(129), LATIN, "../../x", "<script>", "__proto__", "a,b", '"\\u0000"', LONG],
  ],
  [
    "Origin",
    [
      "null",
      "",
      "https://evil.example",
      "http://localhost:3000",
      "file://",
      LATIN,
      LONG,
      "http://[::1",
      "javascript:0",
    ],
  ],
  ["Accept", ["", "*/*;q=NaN", "text/event-stream", "text/html", LONG, LATIN]],
  ["Expect", ["100-continue", "200-ok", "100-continue, x", "", LATIN]],
  ["Connection", ["close", "keep-alive", "Upgrade", "X-Request-Id", "Authorization", "close, keep-alive", ""]],
  ["Upgrade", ["h2c", "websocket2", "TLS/1.0", LATIN]],
  ["X-Forwarded-For", ["127.0.0.1", "::1", "1.2.3.4, ", ",".repeat(4_000), LATIN, LONG]],
  ["X-Forwarded-Host", ["evil.example", LATIN]],
  ["X-HTTP-Method-Override", ["DELETE", "GET"]],
  ["Range", ["bytes=0-0", "bytes=-1", "x=1"]],
  ["If-None-Match", ["*", '"1"']],
  ["If-Modified-Since", ["Thu, 01 Jan 1970 00:00:00 GMT", "x"]],
  ["Access-Control-Request-Method", ["PUT", "", LATIN]],
  ["Cookie", ["a=b; c", "__proto__=1", LONG]],
  ["Accept-Encoding", ["gzip;q=1", "*", "identity;q=0"]],
  ["__proto__", ["x", "1"]],
  ["constructor", ["x"]],
  [`X-${"a".repeat(3_000)}`, ["1"]],
];

/** The headers with one that is odd: changed, added, twice, or left out. */
export function oddHeaders(random: Random, sound: readonly Header[]): readonly Header[] {
  const [name, values] = pick(random, VALUES);
  const odd: Header = [pick(random, [name, name, name.toLowerCase(), name.toUpperCase()]), pick(random, values)];
  const others = sound.filter(([one]) => one.toLowerCase() !== name.toLowerCase());
  switch (random.below(8)) {
    case 0: // twice, the odd one last
      return [...sound, odd];
    case 1: // twice, the odd one first
      return [odd, ...sound];
    case 2:
      return sound.toSpliced(random.below(sound.length), 1);
    case 3: // as many as may be
      return [...others, ...Array.from({ length: 300 }, (_, index): Header => [`X-${index}`, "1"]), odd];
    default:
      return [...others, odd];
  }
}
