// Redrives of many deliveries: each once, whatever happens in the middle.
import { describe, expect, test } from "vitest";
import type { ClientId, DeliveryId, NotificationId, RedriveId } from "../../src/contract/ids.ts";
import { redriveDecider, redriveStream } from "../../src/domain/redrive.ts";
import { deliveryId, deriveTail } from "../../src/event-store/derived-ids.ts";
import type { Commands } from "../../src/event-store/handle-command.ts";
import { mapBounded } from "../../src/platform/bounded.ts";
import { notificationById } from "../../src/projections/models/notifications.ts";
import { redriveById } from "../../src/projections/models/redrives.ts";
import type { TakenJob } from "../../src/workers/jobs.ts";
import { redriveDeliveries } from "../../src/workers/redrive.ts";
import { jobServices } from "../support/job-services.ts";
import { sized, sizedTimeout } from "../support/size.ts";
import { until } from "../support/until.ts";
import { receiver } from "./webhooks.ts";
import { openWorld, type World } from "./world.ts";

/** More than a page. */
const COUNT = sized(230, 10_000);
/** Recipients of one notification. */
const AT_ONCE = 1_000;
const WAIT_MS = sizedTimeout(20_000, 1_200_000);
const READS_AT_ONCE = 20;
const SOME = 100;
const ID: RedriveId = `rdr_${deriveTail("redrive", "test")}`;

/** Webhooks that were refused for good. */
async function deadLetters(world: World, client: ClientId, url: string): Promise<readonly DeliveryId[]> {
  const ids: DeliveryId[] = [];
  for (let from = 0; from < COUNT; from += AT_ONCE) {
    const urls = Array.from({ length: Math.min(AT_ONCE, COUNT - from) }, (_, n) => `${url}/${from + n}`);
    const notification = await world.notify(client, "webhook", urls);
    await exhaustedAre(world, client, notification, urls.length);
    for (const one of urls) {
      ids.push(deliveryId(notification, await world.keyring.subjectOfAddress(client, one), "webhook"));
    }
  }
  return ids;
}

const exhaustedAre = (world: World, client: ClientId, id: NotificationId, count: number) =>
  until(
    () => notificationById(world.readSide.readAs(client), id),
    (row) => row?.counts.exhausted === count,
    WAIT_MS,
  );

async function request(world: World, client: ClientId, matched: number): Promise<void> {
  const filter = {
    ...{ statuses: ["exhausted" as const], channels: null, providers: null, endpoints: null },
    ...{ errorCodes: null, fromAt: null, toAt: null },
  };
  const command = { type: "Request", at: Date.now(), filter, matched } as const;
  await world.commands.execute(redriveDecider, redriveStream(ID), command, world.context(client));
}

const redrivenTimes = async (world: World, ids: readonly DeliveryId[]): Promise<readonly number[]> => {
  const types = await mapBounded(ids, READS_AT_ONCE, (id) => world.types(id));
  return types.map((some) => some.filter((type) => type === "DeliveryRedriven").length);
};

/** Commands of a process that dies after so many. */
function dying(commands: Commands, after: number): Commands {
  let executed = 0;
  const execute: Commands["execute"] = async (...request) => {
    executed += 1;
    if (executed > after) throw new Error("the process is dead");
    return commands.execute(...request);
  };
  return new Proxy(commands, {
    get: (target, name) => (name === "execute" ? execute : Reflect.get(target, name).bind(target)),
  });
}

describe("a redrive", () => {
  test("that dies in the middle of a page starts each delivery again once, those too that failed again meanwhile", async () => {
    await using world = await openWorld();
    const client = await world.client();
    await using target = await receiver(() => 410);
    const ids = await deadLetters(world, client, target.url);
    await world.stopWorkers();
    await request(world, client, COUNT);
    const job: TakenJob = {
      ...{ id: "job", key: "key", client, endpoint: null, priority: "normal", cause: null, at: null, queue: "tasks" },
      ...{ round: 1, failures: 0, retryCount: 0, work: { kind: "redrive", redrive: ID } },
    };
    const { store, keyring, readSide } = world;
    const services = jobServices({ store, keyring, readSide, commands: dying(world.elsewhere(), SOME) });
    const { signal } = new AbortController();
    await expect(redriveDeliveries(services, job, ID, signal)).rejects.toThrow("the process is dead");
    const begun = (await redrivenTimes(world, ids)).filter((times) => times > 0).length;
    expect(begun).toBeGreaterThan(0);
    expect(begun).toBeLessThan(SOME);
    // What was started again is refused again, and matches once more when the rest is done.
    await world.restart();
    await world.startWorkers();
    const progress: number[] = [];
    const state = await until(
      () => redriveById(world.readSide.readAs(client), ID),
      (row) => {
        progress.push(row?.done ?? -1);
        return row?.status === "done";
      },
      WAIT_MS,
    );
    expect(state).toMatchObject({ status: "done", matched: COUNT, done: COUNT });
    // It goes on from where it was, and is told meanwhile.
    expect(progress).toEqual(progress.toSorted((a, b) => a - b));
    expect(progress[0]).toBeLessThan(COUNT);
    expect(new Set(await redrivenTimes(world, ids))).toEqual(new Set([1]));
  });

  test("whose job is lost is found by the sweep; it takes no more than matched", async () => {
    await using world = await openWorld({ limits: { sweepEveryMs: 300 } });
    const client = await world.client();
    await using target = await receiver(() => 410);
    const ids = await deadLetters(world, client, target.url);
    await world.stopWorkers();
    await request(world, client, SOME);
    await world.restart("jobs", "read");
    await world.startWorkers();
    await until(
      () => redriveById(world.readSide.readAs(client), ID),
      (row) => row?.status === "done" && row.done === SOME,
      WAIT_MS,
    );
    const times = await redrivenTimes(world, ids);
    expect([times.filter((one) => one === 1).length, times.filter((one) => one > 1).length]).toEqual([SOME, 0]);
  });
});
