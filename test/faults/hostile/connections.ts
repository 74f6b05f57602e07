// Connections that speak HTTP oddly, slowly or not to the end, and odd upgrades; and what may come back.
import { setTimeout as sleep } from "node:timers/promises";
import { pick, type Random, seeded } from "../support/random.ts";
import { answerFaults, type Known } from "./answers.ts";
import { oddQuery, oddStep, oddTarget } from "./requests.ts";
import { type HostileRun, inParallel } from "./run.ts";
import { openScene, type Scene } from "./scene.ts";
import { bytesOf, type Header, type Request, Wire, type WireAnswer } from "./wire.ts";

/** What a request that hides in another is called: it must never be carried out. */
const HIDDEN = "hidden";

type RawInput = {
  readonly kind: string;
  /** Written one after the other. */
  readonly pieces: readonly Buffer[];
  /** Methods of the requests that may be answered, in order. */
  readonly methods: readonly string[];
  /** What each of the first answers must have for its status; what follows are problems. */
  readonly first: readonly number[];
};

type Speaker = { readonly host: string; readonly key: string; readonly room: string };

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
function rawInput(seed: number, nth: number, { host, key, room }: Speaker): RawInput {
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

/** A body that is given up on its way, or comes in small pieces. */
type SlowInput = {
  readonly pieces: readonly Buffer[];
  readonly end: "cut" | "half-closed" | "whole";
  readonly id: string;
};

/** The nth body of a seed that takes its time. */
function slowInput(seed: number, nth: number, { host, key }: Speaker): SlowInput {
  const random = seeded(seed + nth * 104_729);
  const id = `slow${seed}-${nth}`;
  const body = JSON.stringify({ name: "Slow", description: "x".repeat(random.below(2_000)) });
  const lines = [`Host: ${host}`, `X-API-Key: ${key}`, "Content-Type: application/json", `X-Request-Id: ${id}`];
  const isChunked = random.below(2) === 0;
  const framing = isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${body.length}`;
  const framed = isChunked ? `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body;
  const bytes = Buffer.from(`${["POST /api/v1/rooms HTTP/1.1", ...lines, framing].join("\r\n")}\r\n\r\n${framed}`);
  const end = pick(random, ["cut", "half-closed", "whole"] as const);
  const upTo = end === "whole" ? bytes.length : random.below(bytes.length - 1) + 1;
  const size = Math.ceil(upTo / (2 + random.below(6)));
  const pieces = [];
  for (let at = 0; at < upTo; at += size) pieces.push(bytes.subarray(at, Math.min(upTo, at + size)));
  return { pieces, end, id };
}

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
function oddUpgrade(seed: number, nth: number, scene: Scene): Request {
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

/** Between the pieces of a slow body. */
const PIECE_MS = 30;

async function speakerOf({ url }: HostileRun): Promise<Speaker> {
  const { api, ids, host } = await openScene(url);
  return { key: api.key ?? "", room: ids.room_id ?? "", host };
}

/** Everything that comes until the server ends the connection. */
async function hear(wire: Wire): Promise<readonly WireAnswer[]> {
  const answers: WireAnswer[] = [];
  for (let answer = await wire.next(); answer !== undefined; answer = await wire.next()) answers.push(answer);
  return answers;
}

/** Sends raw connections: each must be ended by the server, with the answers that it may have and no other. */
export async function sendRaw(run: HostileRun, seed: number, count: number): Promise<void> {
  const known: Known = new Map();
  const speaker = await speakerOf(run);
  await inParallel(run, count, async (nth) => {
    const { kind, pieces, methods, first } = rawInput(seed, nth, speaker);
    const words = `connection ${nth} of seed ${seed}, ${kind}: ${Buffer.concat(pieces).toString("latin1").slice(0, 400)}`;
    run.kinds.add(`connection: ${kind}`);
    run.log.refuse(`${HIDDEN}-${nth}`, words);
    using wire = await Wire.open(run.url);
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) await sleep(1);
      wire.send(piece, ...(index === 0 ? methods : []));
    }
    const answers = await hear(wire).catch(String);
    if (typeof answers === "string") return run.fault(words, answers);
    if (answers.length === 0) run.answers.add("none");
    const statuses = answers.map(({ status }) => status);
    if (first.join() !== statuses.slice(0, first.length).join()) run.fault(words, `${statuses}, not ${first}`);
    const hidden = answers.filter(({ headers }) => headers["x-request-id"]?.startsWith(HIDDEN));
    if (hidden.length > 0) run.fault(words, "what was hidden was answered");
    for (const [index, answer] of answers.entries()) {
      run.answers.add(answer.status);
      run.fault(words, ...answerFaults(answer, { method: methods[index] ?? "GET", operation: undefined }, known));
    }
  });
  await run.look();
}

/** Asks for sockets as no client should: each becomes one that is closed at once, or gets a problem. */
export async function sendUpgrades(run: HostileRun, seed: number, count: number): Promise<void> {
  const known: Known = new Map();
  const scene = await openScene(run.url);
  await inParallel(run, count, async (nth) => {
    const request = oddUpgrade(seed, nth, scene);
    const words = `upgrade ${nth} of seed ${seed}: ${bytesOf(request).toString("latin1").slice(0, 600)}`;
    run.kinds.add("upgrade");
    using wire = await Wire.open(run.url);
    wire.send(bytesOf({ ...request, headers: [...request.headers, ["Connection", "close"]] }), request.method);
    const answer = await wire.next().catch(String);
    run.answers.add(typeof answer === "object" ? answer.status : "none");
    if (typeof answer !== "object") return run.fault(words, answer ?? "the connection ended without an answer");
    run.fault(words, ...answerFaults(answer, { method: request.method, operation: undefined }, known));
    // Without a credential a socket is closed after five seconds: nobody waits for that.
    if (answer.status === 101) wire.cut();
    else await wire.next().catch((error: unknown) => run.fault(words, String(error)));
  });
  await run.look();
}

/** Sends bodies that come slowly or break off: what came whole is carried out, of the rest nothing remains. */
export async function sendSlowly(run: HostileRun, seed: number, count: number): Promise<void> {
  const speaker = await speakerOf(run);
  await inParallel(run, count, async (nth) => {
    const { pieces, end, id } = slowInput(seed, nth, speaker);
    const words = `slow body ${nth} of seed ${seed}, ${end}`;
    run.kinds.add(`body: slow, ${end}`);
    if (end === "whole") run.log.allow(id);
    else run.log.refuse(id, words);
    using wire = await Wire.open(run.url);
    for (const [index, piece] of pieces.entries()) {
      wire.send(piece, ...(index === 0 ? ["POST"] : []));
      await sleep(PIECE_MS);
    }
    if (end === "cut") {
      wire.cut();
      run.answers.add("none");
      return;
    }
    if (end === "half-closed") wire.halfClose();
    const answer = await wire.next().catch(String);
    run.answers.add(typeof answer === "object" ? answer.status : "none");
    const expected = end === "whole" ? 201 : 400;
    // To who has ended a request in its middle nothing need be said.
    const isRight = typeof answer === "object" ? answer.status === expected : answer === undefined && end !== "whole";
    if (!isRight) run.fault(words, `answered ${typeof answer === "object" ? answer.status : answer}`);
  });
  await run.look();
}
