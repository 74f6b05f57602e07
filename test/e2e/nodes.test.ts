// Two API nodes, two projectors and two workers, started once: what holds between them, and how they recover from faults.
import { afterAll, beforeAll, describe } from "vitest";
import { holdBetweenNodes } from "./between-nodes.ts";
import { recoverFromFaults } from "./nodes-faults.ts";
import { followBetweenNodes } from "./nodes-follow.ts";
import { apiOf } from "./support/api.ts";
import { type OpenedCluster, openCluster } from "./support/cluster.ts";
import { available, START_TIMEOUT_MS } from "./support/setups.ts";

describe.skipIf(available(["nodes"]).length === 0)("two of each", () => {
  const given = { stack: new AsyncDisposableStack() } as OpenedCluster;

  beforeAll(async () => {
    given.cluster = given.stack.use(await openCluster({ RETRY_SCHEDULE: "1s,1s,1s,1s", RETRY_JITTER: "0" }));
    given.api = await given.cluster.newClient();
    given.there = apiOf(given.cluster.second.url, given.api.key);
  }, START_TIMEOUT_MS);
  afterAll(() => given.stack.disposeAsync(), 60_000);

  holdBetweenNodes(given);
  followBetweenNodes(given);
  recoverFromFaults(given);
});
