// Requests for a socket that are odd in path, query, headers or method.
import type { Scene } from "./hostile-scene.ts";
import { oddQuery, oddStep, oddTarget } from "./hostile-targets.ts";
import type { Header, Request } from "./hostile-wire.ts";
import { pick, type Random, seeded } from "./random.ts";

const VALUES: readonly Header[] = [
  ...["", "short", "dGhlIHNhbXBsZSBub25jZQ", "x".repeat(5_000), "\u00ff"].map(
    (one): Header => ["Sec-WebSocket-Key", one],
  ),
  ...["", "0", "8", "12", "13, 8", "1e1", "99", "NaN", "\u00ff"].map((one): Header => ["Sec-WebSocket-Version", one]),
  ...["", "chat", "chat, chat", ",", "a b", "\u00ff", "x".repeat(5_000)].map(
    (one): Header => ["Sec-WebSocket-Protocol", one],
  ),
  ...["permessage-deflate; server_max_window_bits=1", ";", 'permessage-deflate; a="\u00ff"', "x".repeat(5_000)].map(
    (one): Header => ["Sec-WebSocket-Extensions", one],
  ),
  ...["null", "https://evil.example", "http://localhost:3000", "", "\u00ff"].map((one): Header => ["Origin", one]),
  ...["evil.example", "", "localhost, evil.example", "[::1"].map((one): Header => ["Host", one]),
  ...["", "Bearer", "Bearer x", `Bearer ${"x".repeat(5_000)}`].map((one): Header => ["Authorization", one]),
  ...["websocket, h2c", "WEBSOCKET", "websocket/13"].map((one): Header => ["Upgrade", one]),
  ["X-Request-Id", "a b"],
  ["Content-Length", "5"],
  ["Transfer-Encoding", "chunked"],
];

function query(random: Random, { token, api }: Scene): string {
  return pick(random, [
    () =>
      oddQuery(random, {
        query: new Map([
          ["token", {}],
          ["user_id", {}],
        ]),
      }),
    () => `?token=${oddStep(random)}&user_id=${oddStep(random)}`,
    () => `?token=${token}&user_id=${oddStep(random)}`,
    () => `?token=${token}&token=${token}`,
    () => `?token=${api.key}`,
  ])();
}

/** The nth upgrade of a seed. */
export function oddUpgrade(seed: number, nth: number, scene: Scene): Request {
  const random = seeded(seed + nth * 86_028_121);
  const sound: readonly Header[] = [
    ["Host", scene.host],
    ["Connection", "Upgrade"],
    ["Upgrade", "websocket"],
    ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
    ["Sec-WebSocket-Version", "13"],
  ];
  const [name, value] = pick(random, VALUES);
  const others = random.below(4) === 0 ? sound : sound.filter(([one]) => one !== name);
  const target = pick(random, ["/ws", "/ws/", "/api/v1/ws"]);
  switch (random.below(4)) {
    case 0:
      return { method: "GET", target: target + query(random, scene), headers: sound };
    case 1:
      return { method: "GET", target: oddTarget(random, target), headers: sound };
    case 2:
      return { method: pick(random, ["POST", "HEAD", "PUT", "DELETE", "OPTIONS"]), target, headers: sound };
    default:
      return { method: "GET", target, headers: [...others, [name, value]] };
  }
}
