// Odd targets of requests: ids, paths and queries, as they go over the wire.
import type { Operation } from "../../e2e/support/stage.ts";
import { pick, type Random } from "./random.ts";

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
  ...[
    "/metrics?a=b",
    "/openapi.json/",
    "/hooks/email/x",
    "/hooks/email/%00",
    "/api/v1/ws",
    "/api",
    "/favicon.ico",
    "/.env",
  ],
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
