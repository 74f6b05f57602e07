// Each link of a server × each fault of a network: what was answered is there once, and all comes back by itself.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { apiOf } from "../e2e/support/api.ts";
import { timeUntil } from "../e2e/support/cluster.ts";
import { missingOwnEventStore } from "../support/eventstored.ts";
import { seed } from "../support/seed.ts";
import { isLong, sized } from "../support/size.ts";
import { check } from "./support/failpoint-oracle.ts";
import { LINKS, type LinkName, type Network, notReady, openNetwork, watchedApi } from "./support/network-links.ts";
import { startLoad } from "./support/network-load.ts";
import type { TcpProxy } from "./support/proxy.ts";

const FAULT_MS = sized(1_500, 6_000);
const AROUND_MS = sized(400, 1_000);
/** What is cut is cut again and again. */
const AGAIN_MS = 300;
/** What takes longer to come back is not back by itself. */
const BACK_MS = 30_000;
const RUN_TIMEOUT_MS = 180_000;

type Fault = {
  readonly begin: (link: TcpProxy) => void;
  readonly again?: true;
  /** Longer than any request may take: whoever waits for what is stalled has to give up. */
  readonly ms?: number;
};

const STALL_MS = sized(FAULT_MS, 20_000);

const FAULTS: Readonly<Record<string, Fault>> = {
  cut: { begin: (link) => link.cut(), again: true },
  reset: { begin: (link) => link.reset(), again: true },
  refuse: { begin: (link) => link.refuse() },
  stall: { begin: (link) => link.stall(), ms: STALL_MS },
  "stall of the answers": { begin: (link) => link.stall("down"), ms: STALL_MS },
  "half open towards the client": { begin: (link) => link.halfOpen("client"), again: true },
  "half open towards the server": { begin: (link) => link.halfOpen("server"), again: true },
  slow: { begin: (link) => link.slow({ bytesPerSecond: 40_000, latencyMs: 30 }) },
};

console.log(`network: seed ${seed} (set FAULTS_SEED)`);
type Run = { readonly link: LinkName; readonly fault: string };

function runsOn(setup: "postgres" | "eventstoredb"): readonly Run[] {
  const links = LINKS.filter((link) => setup === "eventstoredb" || link !== "eventstoredb");
  const only = process.env.FAULTS_LINK?.split(",");
  const all = links
    .filter((link) => only === undefined || only.includes(link))
    .flatMap((link) => Object.keys(FAULTS).map((fault) => ({ link, fault })));
  return all;
}

const named = process.env.FAULTS_LINK !== undefined;
// Half a minute for each fault on each link: too long for the short form.
if (!isLong && !named) console.log("network: in the long form, or of one link with FAULTS_LINK");

const setups = (isLong ? (["postgres", "eventstoredb"] as const) : (["postgres"] as const)).filter((setup) => {
  const missing = setup === "eventstoredb" ? missingOwnEventStore : undefined;
  if (missing !== undefined) console.log(`${setup}: ${missing}`);
  return missing === undefined;
});

describe.runIf(isLong || named).each(setups)("the network of a server on %s", (setup) => {
  const stack = new AsyncDisposableStack();
  let network: Network;
  beforeAll(async () => {
    network = stack.use(await openNetwork(setup));
  }, RUN_TIMEOUT_MS);
  afterAll(() => stack.disposeAsync(), RUN_TIMEOUT_MS);

  async function put(run: Run): Promise<readonly string[]> {
    const { scene, node, links, receivers, url, directUrl, key, history } = network;
    const link = links.get(run.link);
    const fault = FAULTS[run.fault];
    if (link === undefined || fault === undefined) throw new Error(`no ${run.link}, ${run.fault}`);
    const faults: string[] = [];
    const name = `${run.link}-${run.fault.replaceAll(" ", "-")}`;
    const api = watchedApi(url, key, faults);
    const load = await startLoad({ api, history, receivers, run: name, faults });
    await sleep(AROUND_MS);
    const before = { ...link.counters, bytes: { ...link.counters.bytes } };
    fault.begin(link);
    const count = ({ cut, held, refused } = link.counters) => cut + held + refused;
    const begun = performance.now();
    const lastsMs = run.link === "clients" ? FAULT_MS : (fault.ms ?? FAULT_MS);
    // A link that is used now and then may have had nothing on it for a while.
    const isOver = (ms: number) => ms >= lastsMs && (count() > count(before) || ms >= BACK_MS);
    while (!isOver(performance.now() - begun)) {
      await sleep(AGAIN_MS);
      if (fault.again) fault.begin(link);
    }
    const met = count() - count(before);
    if (met === 0) faults.push(`${name}: nothing was on the link`);
    const during = load.answered();
    link.heal();
    const backMs = await timeUntil(async () => (await notReady(directUrl)) === undefined, BACK_MS, "/readyz").catch(
      async () => {
        faults.push(`not ready again: ${JSON.stringify(await notReady(directUrl).catch(String))}`);
        return Number.NaN;
      },
    );
    await timeUntil(async () => load.answered() > during, BACK_MS, "writing").catch((error) => faults.push(`${error}`));
    await sleep(AROUND_MS);
    await load.stop();
    if (node.over.aborted) return [...faults, `the server died: ${(await node.ended).output}`];
    const direct = apiOf(directUrl, key);
    const unknown = await history.settle(direct);
    for (const [room, shown] of load.shown()) {
      const { seq } = (await direct.get(`/rooms/${room}`)).body;
      const complete = async () => (load.shown().get(room)?.length ?? 0) >= seq;
      await timeUntil(complete, BACK_MS, `the frames of ${room}`).catch((error) => faults.push(`${error}`));
      const wanted = Array.from({ length: seq }, (_, n) => n + 1);
      const came = load.shown().get(room) ?? shown;
      if (String(came) !== String(wanted)) faults.push(`${room} has ${seq} events, and was shown as ${came}`);
    }
    await load.close();
    faults.push(...(await check(scene, history, direct, name)));
    const said = `${load.answered()} answered, ${unknown} unknown at first, ready ${Math.round(backMs)} ms after`;
    console.log(`${setup}, ${name}: ${said}, the fault met ${met} times`);
    return faults;
  }

  test.each(runsOn(setup))("$link: $fault", { timeout: RUN_TIMEOUT_MS }, async (run) => {
    const faults = await put(run);
    if (faults.length > 0) console.log(`seed ${seed}: ${faults.join("\n").slice(0, 4_000)}`);
    expect(faults.map((fault) => fault.slice(0, 500))).toEqual([]);
  });

  test.runIf(isLong)("in the end every delivery has ended", { timeout: 2 * RUN_TIMEOUT_MS }, async () => {
    const { scene, history, directUrl, key } = network;
    expect(await check(scene, history, apiOf(directUrl, key), undefined)).toEqual([]);
  });
});
