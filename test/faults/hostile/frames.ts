// Frames that no client should send, odd as messages or as bytes, and what may be answered.
import { z } from "zod";
import { CLOSE as CODES, PROBLEMS } from "../../../src/contract/errors.ts";
import type { ClientFrame } from "../../../src/contract/frames.ts";
import type { Body } from "../../e2e/support/api.ts";
import { pick, type Random, seeded } from "../support/random.ts";
import { type HostileRun, inParallel } from "./run.ts";
import { LATER, openScene, type Scene } from "./scene.ts";
import type { Schema } from "./schemas.ts";
import { BINARY, CLOSE, frameBytes, type Heard, PING, RawSocket, TEXT, textFrame } from "./socket.ts";
import { type OddBody, oddBody } from "./values.ts";

const MAX_FRAME_BYTES = 256 * 1024;

const room = { room_id: z.string() };
const key = { idempotency_key: z.string().optional() };
const messageFields = {
  content: z.string(),
  meta: z.looseObject({}).optional(),
  reply_to: z.string().optional(),
  thread_of: z.string().optional(),
  mentions: z.array(z.string()).optional(),
  sender_id: z.string().optional(),
  sender_name: z.string().optional(),
  state: z.enum(["complete", "growing"]).optional(),
  send_at: z.iso.datetime().optional(),
};
/** By type: a frame without a schema does not pass the compiler. */
const FRAMES: Readonly<Record<ClientFrame["type"] | "subscribe_batch", z.ZodRawShape>> = {
  auth: { token: z.string(), user_id: z.string().optional() },
  subscribe: { ...room, after_seq: z.int().min(0).optional() },
  subscribe_batch: { rooms: z.array(z.strictObject({ ...room, after_seq: z.int().min(0).optional() })) },
  unsubscribe: room,
  follow: { after: z.string().optional(), limit: z.int().min(1).max(100).optional() },
  unfollow: {},
  read: { ...room, seq: z.int().min(0) },
  delivered: { ...room, seq: z.int().min(0) },
  ack: { delivery_id: z.string() },
  ping: {},
  typing: { ...room, active: z.boolean() },
  // Without one its answer is as what comes unasked.
  presence: { ...room, active: z.boolean(), ref: z.union([z.string(), z.number()]) },
  post: { ...room, ...messageFields, message_type: z.string().optional(), ...key },
  edit: {
    ...{ ...room, message_id: z.string(), content: z.string().optional() },
    ...{ meta: z.looseObject({}).optional(), mentions: z.array(z.string()).optional() },
  },
  delete: { ...room, message_id: z.string() },
  restore: { ...room, message_id: z.string(), ...key },
  append: { ...room, message_id: z.string(), text: z.string(), offset: z.int().min(0).max(100_000), ...key },
  complete: { ...room, message_id: z.string(), content: z.string().optional(), ...key },
  cancel: { ...room, message_id: z.string(), ...key },
  react: { ...room, message_id: z.string(), emoji: z.string(), user_id: z.string().optional() },
  unreact: { ...room, message_id: z.string(), emoji: z.string(), user_id: z.string().optional() },
};
const SCHEMAS = Object.entries(FRAMES).map(([type, fields]) => {
  const ref = z.union([z.string(), z.number()]).optional();
  return z.toJSONSchema(z.strictObject({ type: z.literal(type.replace("_batch", "")), ref, ...fields })) as Schema;
});

/** Of a message that grows. */
const OF_GROWING: ReadonlySet<unknown> = new Set(["append", "complete", "cancel"]);

/** A message of any type, odd in one way or in none. */
const oddMessage = (random: Random, { ids, growing, token }: Scene): OddBody => {
  const schema = pick(random, SCHEMAS);
  const grows = OF_GROWING.has(schema.properties?.type?.const);
  const good = {
    ...{
      room_id: JSON.stringify(ids.room_id),
      delivery_id: JSON.stringify(ids.delivery_id),
      message_id: JSON.stringify(grows ? pick(random, growing) : ids.message_id),
      token: JSON.stringify(token),
    },
    ...{
      user_id: '"alice"',
      sender_id: '"alice"',
      content: '"Hello"',
      active: "false",
      emoji: '"👍"',
      meta: '{"plan":"pro"}',
      message_type: '"text"',
      reply_to: JSON.stringify(ids.message_id),
      thread_of: JSON.stringify(ids.message_id),
      mentions: '["alice"]',
      idempotency_key: '"k-1"',
      text: '" and more"',
      offset: "5",
      state: pick(random, ['"growing"', '"complete"']),
      send_at: JSON.stringify(LATER),
      seq: "1",
      after_seq: "0",
      ref: pick(random, ['"r"', "7", "0.1", '"😀"', `"${"x".repeat(200)}"`]),
    },
  };
  const types = ["dance", "", "__proto__", "constructor", "toString", "AUTH", "welcome", "a\ud800", "x".repeat(300)];
  if (random.below(12) > 0) return oddBody(random, schema, good);
  return { kind: "type", bytes: Buffer.from(JSON.stringify({ type: pick(random, types), ref: "r" })) };
};

/** Codes of errors that only sockets tell. */
const ERRORS = new Set([
  ...["unknown_type", "seq_out_of_range", "already_subscribed", "too_many_subscriptions", "user_required"],
  "already_following",
  ...Object.keys(PROBLEMS).filter((code) => code !== "internal"),
]);

const ANSWERS = new Set([
  ...["ok", "pong", "welcome", "authenticated", "subscribed", "unsubscribed", "presence", "error"],
  ...["inbox", "following", "unfollowed"],
]);

const UNASKED = [
  ...["event", "notification", "heartbeat", "caught_up", "acked", "inbox_counts", "typing", "room"],
  "growing",
];

/** What comes unasked, and is no answer to a frame. */
const isAnswer = ({ type, reason, at, ref }: Body): boolean =>
  !UNASKED.includes(type) &&
  !((type === "read" || type === "delivered") && at !== undefined) &&
  !(type === "presence" && ref === undefined) &&
  !(type === "unsubscribed" && reason !== "asked");

/** The `ref` that an answer must bring back, of a frame that has one which may be brought back. */
function refOf(bytes: Uint8Array): unknown {
  try {
    const { ref } = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) ?? {};
    const isRef = typeof ref === "number" ? Number.isFinite(ref) : typeof ref === "string" && [...ref].length <= 200;
    return isRef ? ref : undefined;
  } catch {
    return undefined;
  }
}

/** In words, what is wrong with the answer to a message. */
function answerFaults(bytes: Uint8Array, answer: Body): readonly string[] {
  const { type, code, message, ref, expected } = answer;
  const faults: string[] = [];
  if (!ANSWERS.has(type)) faults.push(`type ${type}`);
  if (type === "error" && !ERRORS.has(code)) faults.push(`code ${code}`);
  if (type === "error" && (typeof message !== "string" || message.length > 1_100 || message === ""))
    faults.push("message");
  if ((code === "offset_mismatch") !== Number.isInteger(expected)) faults.push(`expected ${expected} with ${code}`);
  if (refOf(bytes) !== ref) faults.push(`ref ${ref}, not ${refOf(bytes)}`);
  return faults;
}

/** Whether a message must end the connection: no JSON, no object, or without a `type`. */
function isMalformed(bytes: Uint8Array): boolean {
  try {
    const value: Body = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
    return typeof value !== "object" || value === null || Array.isArray(value) || typeof value.type !== "string";
  } catch {
    return true;
  }
}

type OddFrames = { readonly kind: string; readonly bytes: readonly Buffer[]; readonly codes: readonly number[] };

const PONG = JSON.stringify({ type: "ping", ref: "r" });

/** Frames that are odd as bytes, and the codes that may follow; none where the connection must stay. */
function oddFrames(random: Random): OddFrames {
  const text = Buffer.from(PONG);
  const half = text.subarray(0, 9);
  const rest = text.subarray(9);
  const first = frameBytes(TEXT, half, { fin: false });
  const last = frameBytes(0, rest);
  const malformed = [CODES.malformed];
  const protocol = [1002];
  const notUtf8 = [1007];
  const tooLarge = [1009];
  const made = (kind: string, codes: readonly number[], ...bytes: Buffer[]): OddFrames => ({ kind, codes, bytes });
  const large = Buffer.alloc(MAX_FRAME_BYTES + 1, 0x20);
  return pick(random, [
    () => made("binary", malformed, frameBytes(BINARY, text)),
    () => made("in pieces", [], first, last),
    () => made("in pieces around a ping", [], first, frameBytes(PING, Buffer.from("x")), last),
    () => made("in bytes", [], Buffer.concat([...textFrame(text)].map((byte) => Buffer.from([byte])))),
    () =>
      made(
        "in pieces of nothing",
        [],
        frameBytes(TEXT, half, { fin: false }),
        ...Array(200).fill(frameBytes(0, Buffer.alloc(0), { fin: false })),
        last,
      ),
    () =>
      made(
        "in very many pieces",
        [1008],
        first,
        ...Array(17_000).fill(frameBytes(0, Buffer.from(" "), { fin: false })),
        last,
      ),
    () => made("a piece of nothing", protocol, last),
    () => made("a message within another", protocol, first, textFrame(text)),
    () => made("too large", tooLarge, frameBytes(TEXT, large)),
    () => made("too large in pieces", tooLarge, first, frameBytes(0, large)),
    () => made("as large as may be", [], frameBytes(TEXT, Buffer.concat([text, large.subarray(text.length + 1)]))),
    () =>
      made(
        "said to be endless",
        tooLarge,
        frameBytes(TEXT, text, { told: pick(random, [2n ** 62n, 2n ** 63n, 2n ** 53n + 1n]) }),
      ),
    () => made("longer than told", [...protocol, ...malformed], frameBytes(TEXT, text, { told: 3n })),
    () => made("a length wider than needed", [], frameBytes(TEXT, text, { width: pick(random, [2, 8]) })),
    () => made("unmasked", protocol, frameBytes(TEXT, text, { masked: false })),
    () => made("reserved bits", protocol, frameBytes(TEXT, text, { rsv: 1 + random.below(7) })),
    () => made("compressed", protocol, frameBytes(TEXT, Buffer.from("ca0104f81f0000ffff", "hex"), { rsv: 4 })),
    () => made("reserved opcode", protocol, frameBytes(pick(random, [3, 4, 5, 6, 7, 11, 12, 15]), text)),
    () => made("control in pieces", protocol, frameBytes(PING, half, { fin: false })),
    () =>
      made("control too long", protocol, frameBytes(pick(random, [PING, CLOSE, 10]), Buffer.alloc(126), { width: 2 })),
    () =>
      made(
        "no UTF-8",
        notUtf8,
        textFrame(
          pick(
            random,
            [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]].map((one) => Buffer.from(one)),
          ),
        ),
      ),
    () => made("nothing", malformed, textFrame("")),
    () => made("a close of no code", protocol, frameBytes(CLOSE, Buffer.from([3]))),
    () =>
      made(
        "a close of a wrong code",
        protocol,
        frameBytes(
          CLOSE,
          Buffer.from(
            pick(random, [
              [0, 0],
              [3, 0xed],
              [3, 0xee],
              [0xff, 0xff],
              [7, 0xd0],
            ]),
          ),
        ),
      ),
    () => made("a close without UTF-8", notUtf8, frameBytes(CLOSE, Buffer.from([3, 0xe8, 0xff]))),
    () => made("a close", [1000], frameBytes(CLOSE, Buffer.from([3, 0xe8]))),
    () => made("many pings", [CODES.tooManyFrames], ...Array(150).fill(frameBytes(PING, Buffer.alloc(125)))),
    () => made("many messages", [CODES.tooManyFrames], ...Array(150).fill(textFrame(text))),
  ])();
}

/** Below what a connection may send in a second. */
const MESSAGES = 80;
/** Scenes, each with users of its own: one user has few sockets. */
const SCENES = 4;

const scenesOf = ({ url }: HostileRun): Promise<readonly Scene[]> =>
  Promise.all(Array.from({ length: SCENES }, () => openScene(url)));

async function answer(socket: RawSocket): Promise<Heard> {
  for (;;) {
    const heard = await socket.next();
    if (!("message" in heard) || isAnswer(heard.message)) return heard;
  }
}

/** How many rooms a frame subscribes to in a list; one for any other. */
function roomsIn(bytes: Uint8Array): number {
  try {
    const { type, rooms }: Body = JSON.parse(Buffer.from(bytes).toString()) ?? {};
    return type === "subscribe" && Array.isArray(rooms) ? rooms.length : 1;
  } catch {
    return 1;
  }
}

/** All that answers a message: of a list of rooms one for each, unless it is refused as a whole. */
async function answersTo(bytes: Uint8Array, socket: RawSocket): Promise<readonly Heard[]> {
  const first = await answer(socket);
  const isOfRoom = "message" in first && first.message.room_id !== undefined;
  const all = [first];
  for (let left = isOfRoom ? roomsIn(bytes) - 1 : 0; left > 0; left -= 1) all.push(await answer(socket));
  return all;
}

/** Opens a socket as a user, a key, or a key for a user; gives it with its connection's id. */
async function opened(run: HostileRun, random: Random, { api, token }: Scene) {
  const socket = await RawSocket.open(run.url);
  const by = pick(random, [{ token }, { token }, { token: api.key }, { token: api.key, user_id: "alice" }]);
  socket.send(textFrame(JSON.stringify({ type: "auth", ...by })));
  const heard = await answer(socket);
  if (!("message" in heard)) throw new Error(`no welcome: ${JSON.stringify(heard)}`);
  return { socket, id: String(heard.message.connection_id) };
}

/** What may follow a message on an authenticated socket; undefined when it is as it should be. */
function messageFaults(bytes: Buffer, heard: Heard): readonly string[] {
  if ("message" in heard) {
    return isMalformed(bytes) ? ["malformed, and answered"] : answerFaults(bytes, heard.message);
  }
  if ("cut" in heard) return ["the connection ended without a close"];
  const codes =
    bytes.length > MAX_FRAME_BYTES
      ? [1009]
      : isMalformed(bytes)
        ? [CODES.malformed, 1007]
        : [CODES.unauthenticated, CODES.forbidden];
  return (codes as readonly number[]).includes(heard.closed) ? [] : [`closed with ${heard.closed}`];
}

/** Sends so many messages, one after the other on each socket: each is answered, or ends its socket. */
export async function sendMessages(run: HostileRun, seed: number, count: number): Promise<void> {
  const scenes = await scenesOf(run);
  await inParallel(run, Math.ceil(count / MESSAGES), async (nth) => {
    const random = seeded(seed + nth * 15_485_863);
    const scene = scenes[nth % SCENES] ?? (await openScene(run.url));
    let { socket, id } = await opened(run, random, scene);
    let done = 0;
    for (let sent = 0; sent < MESSAGES && !run.full; sent += 1) {
      const { kind, bytes } = oddMessage(random, scene);
      const words = `message ${sent} of socket ${nth} of seed ${seed}, ${kind}: ${bytes.subarray(0, 400).toString("latin1")}`;
      socket.send(textFrame(bytes));
      run.kinds.add(`message: ${kind}`);
      const all = await answersTo(bytes, socket).catch(String);
      if (typeof all === "string") {
        run.fault(words, all);
        break;
      }
      run.fault(words, ...all.flatMap((heard) => messageFaults(bytes, heard)));
      for (const heard of all)
        run.answers.add("message" in heard ? heard.message.type : "closed" in heard ? heard.closed : "none");
      done += all.filter((heard) => "message" in heard && heard.message.type === "ok").length;
      if (all.every((heard) => "message" in heard)) continue;
      run.log.allow(id, done);
      socket[Symbol.dispose]();
      ({ socket, id } = await opened(run, random, scene));
      done = 0;
    }
    run.log.allow(id, done);
    socket[Symbol.dispose]();
  });
  await run.look();
}

/** Sends frames that are odd as bytes: the connection ends with a code that says why, or goes on as if nothing were. */
export async function sendFrames(run: HostileRun, seed: number, count: number): Promise<void> {
  const scenes = await scenesOf(run);
  await inParallel(run, count, async (nth) => {
    const random = seeded(seed + nth * 32_452_843);
    const isKnown = random.below(4) > 0;
    const scene = scenes[nth % SCENES] ?? (await openScene(run.url));
    const { socket } = isKnown ? await opened(run, random, scene) : { socket: await RawSocket.open(run.url) };
    using _ends = socket;
    const { kind, bytes, codes } = oddFrames(random);
    const words = `frames ${nth} of seed ${seed}, ${isKnown ? "" : "before authentication, "}${kind}`;
    run.kinds.add(`frames: ${kind}`);
    for (const one of bytes) socket.send(one);
    const heard = await answer(socket).catch(String);
    run.answers.add(
      typeof heard === "string" || "cut" in heard ? "none" : "closed" in heard ? heard.closed : heard.message.type,
    );
    if (typeof heard === "string") return run.fault(words, heard);
    run.fault(words, ...frameFaults(heard, codes, isKnown));
    if ("message" in heard && random.below(2) === 0) socket.cut();
  });
  await run.look();
}

function frameFaults(heard: Heard, codes: readonly number[], isKnown: boolean): readonly string[] {
  if ("cut" in heard) return ["the connection ended without a close"];
  if ("closed" in heard) {
    const may: readonly number[] = isKnown ? codes : [...codes, CODES.unauthenticated];
    return may.includes(heard.closed) ? [] : [`closed with ${heard.closed}, not ${codes}`];
  }
  const isFirst = heard.message.type === "pong";
  return isFirst &&
    isKnown &&
    (codes.length === 0 || [CODES.tooManyFrames, CODES.malformed, 1002].some((code) => codes.includes(code)))
    ? []
    : [`answered with ${heard.message.type}`];
}
