// Sends hostile frames over sockets, before and after authentication, and looks at what is answered and what it leads to.
import { MAX_FRAME_BYTES } from "../../../src/api/realtime/limits.ts";
import { CLOSE as CODES } from "../../../src/contract/errors.ts";
import { answerFaults, isAnswer, isMalformed, oddFrames, oddMessage } from "./hostile-frames.ts";
import { type HostileRun, inParallel } from "./hostile-run.ts";
import { openScene, type Scene } from "./hostile-scene.ts";
import { type Heard, RawSocket, textFrame } from "./hostile-socket.ts";
import { pick, type Random, seeded } from "./random.ts";

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
      ? [CODES.frameTooLarge]
      : isMalformed(bytes)
        ? [CODES.malformed]
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
      const { kind, bytes } = oddMessage(random, scene.ids, scene.token);
      const words = `message ${sent} of socket ${nth} of seed ${seed}, ${kind}: ${bytes.subarray(0, 400).toString("latin1")}`;
      socket.send(textFrame(bytes));
      run.kinds.add(`message: ${kind}`);
      const heard = await answer(socket).catch(String);
      if (typeof heard === "string") {
        run.fault(words, heard);
        break;
      }
      run.fault(words, ...messageFaults(bytes, heard));
      run.answers.add("message" in heard ? heard.message.type : "closed" in heard ? heard.closed : "none");
      if ("message" in heard) {
        if (heard.message.type === "ok") done += 1;
        continue;
      }
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
    (codes.length === 0 || codes.includes(CODES.tooManyFrames) || codes.includes(CODES.malformed))
    ? []
    : [`answered with ${heard.message.type}`];
}
