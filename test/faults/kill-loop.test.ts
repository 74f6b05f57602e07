// Rounds of SIGKILL at random moments, over one log, while clients post, listen, notify and acknowledge.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { closedPort } from "../channels/servers.ts";
import { registeredClient } from "../e2e/support/setups.ts";
import { missingOwnEventStore } from "../support/eventstored.ts";
import { missingRedis, testRedis } from "../support/redis.ts";
import { seed } from "../support/seed.ts";
import { sized, sizedTimeout } from "../support/size.ts";
import { urlOf } from "./support/failpoint-runs.ts";
import { openScene, type Scene } from "./support/failpoint-scene.ts";
import { killBoth } from "./support/kill-postgres.ts";
import { faultsOf, type Logged } from "./support/oracle.ts";
import { seeded } from "./support/random.ts";
import { openWorkload, type Workload } from "./support/workload.ts";

/** Rounds after which everything is looked at, beside the end. */
const CHECK_EVERY = 25;
/** The longest that a server lives before it is killed, beyond LIFE_MS. */
const CHANCE_MS = 1_500;
const LIFE_MS = 200;

type Setting = { readonly setup: "embedded" | "eventstoredb"; readonly rounds: number };
const SETTINGS: readonly Setting[] = [
  { setup: "embedded", rounds: Number(process.env.FAULTS_ROUNDS ?? sized(1, 200)) },
  { setup: "eventstoredb", rounds: sized(0, 20) },
];
const available = SETTINGS.filter(({ setup, rounds }) => {
  const server = setup === "embedded" ? undefined : (missingOwnEventStore ?? missingRedis);
  const missing = rounds === 0 ? "in the long form only" : server;
  if (missing !== undefined) console.log(`${setup}: ${missing}`);
  return missing === undefined;
});

describe.each(available)("$setup", ({ setup, rounds }) => {
  test(
    `${rounds} rounds of SIGKILL under load, seed ${seed}: what was answered is there, once`,
    async () => {
      await using open = new AsyncDisposableStack();
      const more = setup === "embedded" ? {} : { REDIS_URL: open.use(await testRedis()).url };
      const env = { PORT: String(await closedPort()), RETRY_SCHEDULE: "1s,1s,1s,1s,1s,1s", ...more };
      const scene = open.use(await openScene(setup, env));
      let node = open.use(scene.launch());
      const url = await urlOf(node);
      const { key = "" } = await registeredClient(url, scene.receivers.mailbox);
      const workload = open.use(await openWorkload(url, key, scene.receivers, seed));
      const random = seeded(seed);
      const figures = { rounds: 0, postgres: 0, slowestStartMs: 0 };
      for (let round = 1; round <= rounds; round += 1) {
        workload.go();
        await sleep(LIFE_MS + random.below(CHANCE_MS));
        const kind = setup === "embedded" ? random.below(6) : 5;
        if (kind < 2) {
          figures.postgres += 1;
          await killBoth(scene, node, kind === 0);
        } else await node.kill();
        const begun = performance.now();
        node = open.use(scene.launch());
        await urlOf(node);
        figures.slowestStartMs = Math.max(figures.slowestStartMs, Math.round(performance.now() - begun));
        figures.rounds = round;
        await workload.rest();
        expect(workload.strange(), `seed ${seed}, round ${round}`).toEqual([]);
        if (round % CHECK_EVERY === 0 || round === rounds)
          await look(scene, workload, `seed ${seed}, round ${round}`, figures);
      }
      expect(workload.history.resent).toBeGreaterThan(0);
      expect(Math.min(...workload.listeners.map((one) => one.connections))).toBeGreaterThan(1);
      expect((await node.stop()).code).toBe(0);
    },
    sizedTimeout(180_000, 7_200_000),
  );
});

/** Waits until nothing is under way, and holds everything against the history. */
async function look(scene: Scene, workload: Workload, when: string, figures: object): Promise<void> {
  await workload.settle();
  const log = await logOf(scene);
  const evidence = await workload.evidence(log);
  const { writes, webhooks, mails } = evidence;
  const webhooksCame = [...webhooks.values()].flat().length;
  const doubles = {
    webhooks: webhooksCame - webhooks.size,
    mails: mails.length - new Set(mails.map((one) => one.delivery)).size,
  };
  const counts = { events: log.length, writes: writes.length, resent: workload.history.resent };
  console.log(`${when}: ${JSON.stringify({ ...figures, ...counts, webhooksCame, mails: mails.length, doubles })}`);
  expect(faultsOf(evidence), when).toEqual([]);
  const rebuilt = await scene.command(["projections", "rebuild", "--all", "--verify", "--json"]);
  expect([rebuilt.code, rebuilt.output], when).toEqual([0, expect.stringContaining('"differences":[]')]);
}

async function logOf(scene: Scene): Promise<readonly Logged[]> {
  const textOf = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString());
  return (await scene.events()).map(({ position, stream, revision, id, type, data, metadata }) => {
    return { position, stream, revision, id, type, correlation: textOf(metadata).correlation, data: textOf(data) };
  });
}
