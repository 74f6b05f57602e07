// Whatever a client sends: no fault of the server's, no hang, no crash, and nothing in the log of what was refused.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { seed } from "../support/seed.ts";
import { sendRaw, sendSlowly, sendUpgrades } from "./support/hostile-connections.ts";
import { sendMails } from "./support/hostile-mail.ts";
import { type HostileRun, openRun, sendRequests } from "./support/hostile-run.ts";
import { sendFrames, sendMessages } from "./support/hostile-sockets.ts";
import { sized, sizedTimeout } from "./support/size.ts";

/** The first request: a failure names the one that it came of. */
const from = Number(process.env.FAULTS_FROM ?? 0);
const timeout = sizedTimeout(60_000, 7_200_000);

let run: HostileRun;
beforeAll(async () => {
  run = await openRun();
}, 120_000);
afterEach(() => {
  run.faults.length = 0;
});
afterAll(async () => {
  console.log(
    `${run.kinds.total} inputs: ${run.kinds}\nanswers: ${run.answers}\nevents of what was taken: ${run.log.events}`,
  );
  await run[Symbol.asyncDispose]();
});

const inputs = [
  ["requests of every operation", sized(500, 90_000), (count: number) => sendRequests(run, seed, from, count)],
  ["connections that speak HTTP oddly", sized(60, 6_000), (count: number) => sendRaw(run, seed, count)],
  ["bodies that are slow or break off", sized(16, 500), (count: number) => sendSlowly(run, seed, count)],
  ["upgrades", sized(40, 3_000), (count: number) => sendUpgrades(run, seed, count)],
  ["messages on sockets, of every type", sized(320, 20_000), (count: number) => sendMessages(run, seed, count)],
  ["frames that are odd as bytes", sized(50, 2_000), (count: number) => sendFrames(run, seed, count)],
  ["mails whose fields try to end their header", sized(25, 2_000), (count: number) => sendMails(run, seed, count)],
] as const;

test.each(inputs)(`%s (%i of seed ${seed})`, { timeout }, async (_what, count, send) => {
  await send(count);
  expect(run.faults.join("\n")).toBe("");
});
