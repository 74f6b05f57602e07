// Requests that no client should send: of every operation, odd in body, query, path, method, headers or credentials.
import { pick, type Random, seeded } from "../support/random.ts";
import { idIn, needsToken, type Operation, type Scene } from "./scene.ts";
import { exampleText, type Schema, variants } from "./schemas.ts";
import { type Good, oddBody } from "./values.ts";
import type { Header, Request } from "./wire.ts";

const LONG = "x".repeat(8_000);
/** Bytes beyond ASCII, each one character here. */
const LATIN = "\u00ff\u0080\u00e9";

const HEADER_VALUES: readonly (readonly [name: string, values: readonly string[]])[] = [
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
function oddHeaders(random: Random, sound: readonly Header[]): readonly Header[] {
  const [name, values] = pick(random, HEADER_VALUES);
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

const PIECES = [
  ...["%00", "%ff", "%zz", "%", "%2", "%E0%A4", "%ED%A0%80", "%C0%80", "%F4%90%80%80", "%0d%0aX-A:%20b", "%20", "+"],
  ...["%2e%2e%2f", "%2F", "%5c", "%252e", "%EF%BC%99", "%F0%9F%98%80", "%E2%80%AE", "%uD800", "&amp;", ";", "'", '"'],
  ...["__proto__", "constructor", "toString", "hasOwnProperty", "null", "undefined", "NaN", "-1", "0", "1e400", "{id}"],
  ...[
    "$all",
    "*",
    "ext:",
    "ext:%00",
    "ext:a",
    "room_",
    "room_x",
    "msg_0000",
    "client",
    "client-x",
    "user-sub_x",
    "$log",
  ],
  ...["alice", "ALICE", "bob", "a@b.c", "..", ".", "x".repeat(130), "x".repeat(5_000), "%61lice", "alice%00", "a,b"],
];

/** What stands for an id. */
export const oddStep = (random: Random): string =>
  random.below(4) === 0 ? pick(random, PIECES) + pick(random, PIECES) : pick(random, PIECES);

/** What is beside the API. */
const SITE = [
  ...[
    "/dev/mailbox",
    "/dev/mailbox?to=%00",
    "/dev/mailbox?to=a&to=b",
    "/dev/mailbox/x",
    "/dev/mailbox/%ff/raw",
    "/dev",
  ],
  ...[
    "/dev/mailbox/__proto__/html",
    "/docs/../dev/mailbox",
    "/docs?x=%00",
    "/docs/errors/x",
    "/readyz?x",
    "/livez/",
    "/ws",
  ],
  ...["/metrics?a=b", "/openapi.json/", "/hooks/email/x", "/hooks/email/%00", "/api", "/favicon.ico", "/.env"],
];

/** A path that is none, or is spelt in a way of its own. */
export function oddTarget(random: Random, path: string): string {
  if (random.below(5) === 0) return pick(random, SITE);
  const at = random.below(path.length);
  const upper = path.toUpperCase();
  return pick(random, [
    ...[
      `${path}/`,
      `${path}//`,
      `/${path}`,
      `//evil.example${path}`,
      `${path}/..`,
      `/..${path}`,
      `${path}/.`,
      `${path};a=b`,
    ],
    ...[`${path}/${oddStep(random)}`, `${path}%2F`, `${path}#x`, `${path}?`, `${path}??`, `/./${path.slice(1)}`],
    ...[upper, path.replace("/api/v1", "/API/v1"), path.replace("v1", "v2"), path.replaceAll("/", "%2f"), "*", "/"],
    ...[path.replaceAll("/", "//"), path.replaceAll("/", "\\"), path.replaceAll("o", "%6F"), `/api/v1/..${path}`],
    ...[`http://localhost${path}`, `http://evil.example${path}`, `http://[::1${path}`, `http://u:p@localhost${path}`],
    ...[`https://localhost${path}`, `ftp://localhost${path}`, `http://${path}`, `${path}/${"x/".repeat(2_000)}`],
    ...[path.slice(0, at), path.slice(0, at) + pick(random, PIECES) + path.slice(at), `${path}/${"x".repeat(12_000)}`],
  ]);
}

const VALUES = [
  ...["", "0", "1", "-1", "100", "101", "1.5", "1e1", "1e400", "99999999999999999999", "2147483648", "true", "false"],
  ...[
    "TRUE",
    "asc",
    "desc",
    "2026-01-01",
    "2026-02-30",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00%2B23:59",
    "x,y,,",
  ],
  ...[",", ",,,,", "-created_at", "name", "sent", "email", "text", "[]", "{}", "none", "client", "x".repeat(300)],
  ...["AAAAAAAAAAAAAAAAAAAAAAAA", "x".repeat(6_000), Array(101).fill("a").join(), "http://a,b/", ...PIECES],
];

const NAMES = [
  ...["bogus", "__proto__", "constructor", "toString", "", "limit[]", "limit[0]", "cursor[a]", "%00", "%ff", "%zz"],
  ...["api_key", "token", "Limit", "limit%20", "x".repeat(2_000), "%F0%9F%98%80", "a.b", "$where"],
];

/** A query with parameters that are odd, unknown, or there twice. */
export function oddQuery(random: Random, { query }: Pick<Operation, "query">): string {
  const known = [...query.keys()];
  const one = (): string => {
    const name = known.length === 0 || random.below(4) === 0 ? pick(random, NAMES) : pick(random, known);
    const { minimum, maximum } = query.get(name) ?? {};
    const bounds = minimum === undefined || maximum === undefined ? [] : [minimum - 1, minimum, maximum, maximum + 1];
    const value = bounds.length > 0 && random.below(2) === 0 ? String(pick(random, bounds)) : pick(random, VALUES);
    return pick(random, [
      `${name}=${value}`,
      `${name}=${value}`,
      `${name}=${value}&${name}=${value}`,
      name,
      `${name}==${value}`,
    ]);
  };
  const count = pick(random, [1, 1, 1, 2, 3, 30]);
  return `?${Array.from({ length: count }, one).join(pick(random, ["&", "&", "&", "&&", ";"]))}`.slice(0, 12_000);
}

export type Hostile = {
  readonly kind: string;
  /** The operation that it is for, when its method and path still are that operation's. */
  readonly operation: Operation | undefined;
  readonly request: Request;
};

const METHODS = [
  "OPTIONS",
  "TRACE",
  "PROPFIND",
  "QUERY",
  "PURGE",
  "M-SEARCH",
  "LINK",
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "DELETE",
];
/** The one field for recipients that a notification of each kind is given, so that more than that can be wrong with it. */
const TARGETS: Readonly<Record<string, string>> = { email: "to_email", websocket: "user_ids", webhook: "url" };
const OTHER_TARGETS = ["to", "recipients", "urls"];

function ofOneTarget(schema: Schema): Schema {
  const oneOf = variants(schema).map((one): Schema => {
    const { type, ...properties } = one.properties ?? {};
    const target = TARGETS[type?.const ?? ""];
    if (type === undefined || target === undefined) return one;
    const kept = Object.entries(properties).filter(([name]) => !OTHER_TARGETS.includes(name));
    return { ...one, properties: { type, ...Object.fromEntries(kept) }, required: [...(one.required ?? []), target] };
  });
  return { oneOf };
}

const goodOf = ({ ids }: Scene, { template }: Operation, nth: number): Good => ({
  ...{ sender_id: '"alice"', user_id: '"alice"', user_ids: '["alice"]', content: '"Hello"', seq: "1" },
  ...{ room_id: JSON.stringify(ids.room_id), external_id: `"e${nth}"`, members: '[{"user_id":"alice"}]' },
  ...{ offset: "5", state: nth % 2 === 0 ? '"growing"' : '"complete"' },
  ...{ config: '{"host":"127.0.0.1","port":1,"security":"none"}', email_fallback: "true", grace_seconds: "0" },
  ...(template.endsWith("/messages") ? { reply_to: JSON.stringify(ids.message_id) } : {}),
});

const JSON_TYPE: Header = ["Content-Type", "application/json"];

/** The credential that an operation lets in; now and then a user's where that will do, or one that will not. */
function credential(random: Random, scene: Scene, operation: Operation): readonly Header[] {
  if (operation.template === "/api/v1/clients") return [];
  const dice = random.below(20);
  const isToken = dice === 0 ? !needsToken(operation) : needsToken(operation) || dice < 4;
  return [["Authorization", `Bearer ${isToken ? scene.token : scene.api.key}`]];
}

/** The nth input of a seed, always the same one but for its ids. */
export function hostileRequest(seed: number, nth: number, operation: Operation, scene: Scene): Hostile {
  const random = seeded(seed + nth * 7_919);
  const { schema, method, template } = operation;
  const path = template.replaceAll(
    /\{([a-z_]+)\}/g,
    (_whole, name: string) => idIn(template, name, scene.ids) ?? "missing",
  );
  const by = credential(random, scene, operation);
  const id: Header = ["X-Request-Id", `f${seed}-${nth}`];
  const host: Header = ["Host", scene.host];
  const good = goodOf(scene, operation, nth);
  const plain = schema === undefined ? undefined : Buffer.from(exampleText(schema));
  const made = (kind: string, more: Partial<Request>, isElsewhere = false): Hostile => ({
    kind,
    operation: isElsewhere ? undefined : operation,
    request: { method, target: path, headers: [host, id, ...by, JSON_TYPE], body: plain, ...more },
  });
  const dice = random.below(100);
  if (schema !== undefined && dice < 75) {
    const { kind, bytes } = oddBody(random, random.below(4) === 0 ? schema : ofOneTarget(schema), good);
    return made(`body: ${kind}`, { body: bytes, isChunked: random.below(8) === 0 });
  }
  const rest = schema === undefined ? dice : dice * 4 - 300;
  if (rest < 35) return made("query", { target: path + oddQuery(random, operation) });
  if (rest < 60 && template.includes("{")) {
    const steps = template.split("/");
    const at = pick(
      random,
      [...steps.keys()].filter((index) => steps[index]?.startsWith("{")),
    );
    return made("id in the path", { target: path.split("/").with(at, oddStep(random)).join("/") });
  }
  if (rest < 68) return made("path", { target: oddTarget(random, path) }, true);
  if (rest < 73) return made("method", { method: pick(random, METHODS) }, true);
  const headers = oddHeaders(random, [host, id, ...by, JSON_TYPE]);
  return made("headers", { headers, isChunked: schema !== undefined && random.below(8) === 0 });
}
