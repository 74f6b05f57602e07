// Nobody stops another: while one caller sends what costs most, how long everybody waits, and what another tenant's posts take.
import { quantile } from "../harness/measure.ts";
import { type Goal, rowOf, shown } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { attacks, type Ground } from "../support/attacks.ts";
import { startProcess } from "../support/process.ts";
import { newApi, newEncryptionKey, newRoom, newToken, startServed } from "../support/served.ts";

const MAX_STANDSTILL_MS = 250;
const POLL_MS = 10;
/** Calls again and again until told to stop; how long each took, in ms. */
async function waits(stop: AbortSignal, call: () => Promise<unknown>): Promise<readonly number[]> {
  const taken: number[] = [];
  while (!stop.aborted) {
    const begun = performance.now();
    await call();
    taken.push(performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return taken;
}

const goals: readonly Goal[] = attacks.map(({ name }) => ({
  ...{ name: `19 longest wait for /livez beside ${name}`, goal: MAX_STANDSTILL_MS },
  ...{ direction: "at most", unit: "ms" },
}));

export const standstills: Subject = {
  name: "standstills",
  about: "what one caller can do to others",
  goals,
  async run({ rounds, turnMs, postgres, say }) {
    await using open = new AsyncDisposableStack();
    const database = open.use(await postgres.database());
    const { url } = open.use(await startServed({ databaseUrl: database.url, encryptionKey: newEncryptionKey() }));
    const receiver = open.use(startProcess(new URL("../processes/receiver.ts", import.meta.url)));
    const hanging = await receiver.call<string>("hang");
    // In a process of its own: what it costs to send must not count as waiting.
    const attacker = open.use(startProcess(new URL("../processes/attacker.ts", import.meta.url)));
    const other = await newApi(url);
    const otherRoom = await newRoom(other, ["bob"]);
    const post = () => other.call("POST", `/rooms/${otherRoom}/messages`, { sender_id: "bob", content: "Hello" });
    const watch = async (work: () => Promise<unknown>) => {
      const over = new AbortController();
      const alive = waits(over.signal, () => fetch(`${url}/livez`).then((answer) => answer.arrayBuffer()));
      const posts = waits(over.signal, post);
      try {
        await work();
      } finally {
        over.abort();
      }
      return { standstill: Math.max(...(await alive)), p99: quantile(await posts, 0.99) };
    };
    const quiet = await watch(() => new Promise((resolve) => setTimeout(resolve, turnMs)));
    const baseline = `nothing beside: ${shown(quiet.standstill)} ms; a post of another tenant, p99: ${shown(quiet.p99)} ms`;
    const rows = [];
    for (const [index, attack] of attacks.entries()) {
      say(`standstills: ${attack.name}`);
      const seen = [];
      for (let round = 0; round < rounds; round += 1) {
        // Each by a client of its own: budgets must not be spent already.
        const api = await newApi(url);
        const room = await newRoom(api, ["mallory"]);
        const ground: Ground = { url, key: api.key, room, hanging, token: await newToken(api, "mallory") };
        seen.push(await watch(() => attacker.call("attack", { index, ground })));
      }
      const p99 = Math.max(...seen.map((one) => one.p99));
      const ours = `a post of another tenant, p99: ${shown(p99)} ms`;
      const goal = goals[index];
      if (goal !== undefined)
        rows.push(
          rowOf(
            goal,
            seen.map((one) => one.standstill),
            { ours, baseline },
          ),
        );
    }
    return rows;
  },
};
