// Messages for later whose nodes die around their time, over restarts and on two nodes: each once, or refused and why.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { DAY_MS } from "../../src/contract/time.ts";
import { type Api, apiOf, type Body, until } from "../e2e/support/api.ts";
import { missingOwnEventStore } from "../support/eventstored.ts";
import { seed } from "../support/seed.ts";
import { isLong, sized, sizedTimeout } from "../support/size.ts";
import { deathFault, settleIn, urlOf } from "./support/failpoint-runs.ts";
import { type Node, openScene, type Scene } from "./support/failpoint-scene.ts";
import { seeded } from "./support/random.ts";

const TIMEOUT_MS = sizedTimeout(180_000, 1_800_000);
/** What a dead worker had in hand comes back after a while. */
const DECIDED_MS = 120_000;
const ROUNDS = sized(1, 20);
const MESSAGES = 12;
/** Their times lie within this, and so does the death of a node. */
const WINDOW_MS = 2_000;

const setups = (isLong ? (["postgres", "eventstoredb"] as const) : (["postgres"] as const)).filter((setup) => {
  const missing = setup === "eventstoredb" ? missingOwnEventStore : undefined;
  if (missing !== undefined) console.log(`${setup}: ${missing}`);
  return missing === undefined;
});

type Talk = { readonly room: string; readonly waiting: readonly Body[] };

/** A room in which ann and bob say something later, at these times from now on; bob is removed before. */
async function talk(api: Api, times: readonly number[]): Promise<Talk> {
  const members = [{ user_id: "ann" }, { user_id: "bob" }];
  const room: string = (await api.post("/rooms", { name: "Talk", members })).body.id;
  const inMs = (ms: number) => new Date(Date.now() + ms).toISOString();
  const schedule = async (nth: number) => {
    const later = { sender_id: nth % 3 === 2 ? "bob" : "ann", content: `message ${nth}`, send_at: inMs(DAY_MS) };
    const { status, body } = await api.post(`/rooms/${room}/messages`, later);
    expect(status).toBe(202);
    return body;
  };
  const scheduled = await Promise.all(times.map((_, nth) => schedule(nth)));
  expect((await api.delete(`/rooms/${room}/members/bob`)).status).toBe(204);
  const waiting = await Promise.all(
    times.map(async (ms, nth) => {
      const path = `/rooms/${room}/scheduled-messages/${scheduled[nth].id}`;
      const { status, body } = await api.patch(path, { send_at: inMs(ms) });
      expect(status).toBe(200);
      return body;
    }),
  );
  return { room, waiting };
}

/** Resolves once each is decided; then all that is wrong. */
async function faultsOf(api: Api, scene: Scene, { room, waiting }: Talk): Promise<readonly string[]> {
  const faults: string[] = [];
  const events = (): Promise<Body[]> =>
    api.get(`/rooms/${room}/events?after_seq=1&limit=100`).then(({ body }) => body.data);
  for (const { id, send_at: sendAt, sender_id: sender } of waiting) {
    const { body } = await until(
      () => api.get(`/rooms/${room}/scheduled-messages/${id}`),
      (answer) => answer.body.status !== "scheduled",
      DECIDED_MS,
    );
    const { status, reason, message_id: message } = body;
    const wanted = sender === "ann" ? ["posted", null] : ["refused", "not_a_member"];
    if ([status, reason].join() !== wanted.join()) faults.push(`${id} of ${sender} is ${status}, ${reason}`);
    const told = (await events()).filter((one) => one.type === "message.posted" && one.data.id === message);
    if (told.length !== (sender === "ann" ? 1 : 0)) faults.push(`${id} was told ${told.length} times`);
    for (const { at } of told) if (at < sendAt) faults.push(`${id} is of ${at}, before ${sendAt}`);
  }
  const ofRoom = (await events()).filter((one) => one.type === "message.posted");
  const ids = new Set(waiting.map((one) => `scheduled-${one.id}`));
  const own = (await scene.events()).filter(({ stream }) => ids.has(stream));
  const count = (type: string) => own.filter((one) => one.type === type).length;
  const bobs = waiting.filter((one) => one.sender_id === "bob").length;
  const seen = {
    posted: ofRoom.length,
    ...{ due: count("MessageDue"), ended: count("ScheduledMessagePosted"), refused: count("MessageRefused") },
  };
  const right = {
    ...{ posted: waiting.length - bobs, due: waiting.length, ended: waiting.length - bobs, refused: bobs },
  };
  if (JSON.stringify(seen) !== JSON.stringify(right))
    faults.push(`${JSON.stringify(seen)}, not ${JSON.stringify(right)}`);
  return faults;
}

describe.each(setups)("%s", (setup) => {
  test(
    "the only node dies when the room has decided and nothing else knows: two others know it, and do it once",
    async () => {
      await using scene = await openScene(setup);
      const { key } = await settleIn(scene);
      // Of three one is posted and known, one is posted, and the third waits or is in hand.
      await using dying = scene.launch("scheduled-posted/recorded:2");
      const { room, waiting } = await talk(apiOf(await urlOf(dying), key), [2_000, 2_000, 2_000]);
      expect(deathFault(await dying.ended, "scheduled-posted/recorded")).toBeUndefined();
      const others = [scene.launch(), scene.launch()];
      const [first = ""] = await Promise.all(others.map(urlOf));
      expect(await faultsOf(apiOf(first, key), scene, { room, waiting })).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    `${ROUNDS} rounds: one of two nodes is killed around their times, and another started (seed ${seed})`,
    async () => {
      await using scene = await openScene(setup);
      const { key } = await settleIn(scene);
      const random = seeded(seed);
      let nodes: readonly Node[] = [scene.launch(), scene.launch()];
      for (let round = 1; round <= ROUNDS; round += 1) {
        const [dying, living] = nodes;
        if (dying === undefined || living === undefined) throw new Error("there are two nodes");
        await urlOf(dying);
        const api = apiOf(await urlOf(living), key);
        const times = Array.from({ length: MESSAGES }, () => 500 + random.below(WINDOW_MS));
        const said = await talk(api, times);
        await sleep(500 + random.below(WINDOW_MS));
        await dying.kill();
        nodes = [living, scene.launch()];
        expect(await faultsOf(api, scene, said), `round ${round}`).toEqual([]);
      }
    },
    TIMEOUT_MS,
  );
});
