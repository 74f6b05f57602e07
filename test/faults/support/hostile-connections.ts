// Sends connections that speak HTTP oddly, slowly or not to the end, and holds what comes back against what may.
import { setTimeout as sleep } from "node:timers/promises";
import type { Known } from "../../e2e/support/refusals.ts";
import { HIDDEN, rawInput, type Speaker } from "./hostile-bytes.ts";
import { answerFaults } from "./hostile-oracle.ts";
import { type HostileRun, inParallel } from "./hostile-run.ts";
import { openScene } from "./hostile-scene.ts";
import { slowInput } from "./hostile-slow.ts";
import { oddUpgrade } from "./hostile-upgrades.ts";
import { bytesOf, Wire, type WireAnswer } from "./hostile-wire.ts";

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
