// The fan-out to webhook endpoints: what each gets, from where on, and that nothing is lost with the schema `jobs`.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ClientId } from "../../src/contract/ids.ts";
import { seal } from "../../src/domain/event.ts";
import { positionOf } from "../../src/event-store/event-store.ts";
import { readDecoded } from "../../src/event-store/handle-command.ts";
import { allCursors } from "../../src/projections/endpoint-cursors.ts";
import { loadRoster, openFanOut } from "../../src/workers/endpoint-loading.ts";
import { candidatesOf, requestAll } from "../../src/workers/endpoint-requests.ts";
import { JobQueue } from "../../src/workers/queue.ts";
import { createRoom, post, quietLogger } from "../support/live.ts";
import { roomCommands } from "../support/room-commands.ts";
import { until } from "../support/until.ts";
import { attemptsAre, endpointOf, eventReceiver, newRoom, steer } from "./endpoint-parts.ts";
import { openWorld, type World } from "./world.ts";

let world: World;
let client: ClientId;
beforeAll(async () => {
  world = await openWorld();
  client = await world.client();
});
afterAll(() => world[Symbol.asyncDispose]());

const room = async (of: ClientId = client) => {
  const id = newRoom();
  await createRoom(world, of, id, { ann: "owner" });
  return id;
};
const say = (id: Awaited<ReturnType<typeof room>>, content: string, of: ClientId = client) =>
  post(world, of, id, "ann", content);

describe("an endpoint", () => {
  test("gets the events that it names, of its own client, its rooms and its filter", async () => {
    await using target = await eventReceiver();
    const other = await world.client("Other");
    const [mine, alsoMine, theirs] = [await room(), await room(), await room(other)];
    await endpointOf(world, client, { url: target.url("/all") });
    await endpointOf(world, client, { url: target.url("/rooms"), roomIds: [mine] });
    await endpointOf(world, client, { url: target.url("/types"), events: ["room.*"] });
    await endpointOf(world, client, { url: target.url("/filter"), filter: seal({ "data.content": "two" }) });
    await endpointOf(world, other, { url: target.url("/other") });
    await say(theirs, "theirs", other);
    await say(mine, "one");
    await say(alsoMine, "two");
    await roomCommands(world, client, mine).rename("New");
    // What comes last shows that all before it was fanned out.
    await say(mine, "last");
    await roomCommands(world, client, alsoMine).rename("Newer");
    await Promise.all([target.come("/all", 3), target.come("/types", 2), target.come("/other", 1)]);
    await attemptsAre(world, 0);
    expect(target.contents("/all").toSorted()).toEqual(["last", "one", "two"]);
    expect(target.contents("/rooms").toSorted()).toEqual(["last", "one"]);
    expect(target.contents("/filter")).toEqual(["two"]);
    expect(target.contents("/other")).toEqual(["theirs"]);
    expect(target.at("/types").map(({ body }) => body.type)).toEqual(["room.updated", "room.updated"]);
  });

  test("from an hour ago gets exactly that hour", async () => {
    await using target = await eventReceiver();
    const id = await room();
    const before = await say(id, "before");
    const events = await world.store.readStream(`room-${id}`, { limit: 100 });
    // Nothing came before the first of these: the hour begins with the message's own moment.
    const moment = JSON.parse(Buffer.from(events[before.seq - 1]?.metadata ?? "").toString()).at + 1;
    await new Promise((resolve) => setTimeout(resolve, 2));
    await say(id, "first");
    await say(id, "second");
    const start = { after: positionOf(world.store.logId, 0), notBefore: moment };
    await endpointOf(world, client, { url: target.url("/hour"), start });
    await say(id, "later");
    await target.come("/hour", 3);
    await attemptsAre(world, 0);
    expect(target.contents("/hour").toSorted()).toEqual(["first", "later", "second"]);
  });

  test("gets nothing while it is paused; once it is resumed, what was open goes out, and what happened since", async () => {
    let status = 500;
    await using target = await eventReceiver((path) => (path === "/paused" ? status : 204));
    const id = await room();
    const own = await endpointOf(world, client, {
      url: target.url("/paused"),
      retrySchedule: ["1s", "1s", "1s", "1s"],
    });
    await endpointOf(world, client, { url: target.url("/goes-on") });
    await say(id, "one");
    await target.come("/paused", 1);
    await steer(world, client, own, "PauseEndpoint");
    status = 204;
    const came = target.at("/paused").length;
    await say(id, "two");
    await target.come("/goes-on", 2);
    await attemptsAre(world, 0);
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    await attemptsAre(world, 0);
    expect(target.at("/paused")).toHaveLength(came);
    await steer(world, client, own, "ResumeEndpoint");
    const all = await target.come("/paused", came + 2);
    expect(all.slice(came).map(({ body }) => body.data.content)).toEqual(expect.arrayContaining(["one", "two"]));
    expect(new Set(all.map(({ id: webhook }) => webhook)).size).toBe(2);
  });

  test("that is ordered gets one event of a room at a time", async () => {
    let status: number | null = null;
    await using target = await eventReceiver(() => status);
    const [one, other] = [await room(), await room()];
    await endpointOf(world, client, { url: target.url("/ordered"), ordered: true });
    await say(one, "first");
    await say(one, "second");
    await say(other, "elsewhere");
    await target.come("/ordered", 2);
    // The attempts of both rooms are under way, and the second of the first room has no job.
    await attemptsAre(world, 2);
    expect(target.contents("/ordered").toSorted()).toEqual(["elsewhere", "first"]);
    status = 204;
    target.release();
    expect((await target.come("/ordered", 3)).at(-1)?.body.data.content).toBe("second");
  });

  test("that is ordered gets the next event, though the fan-out was loaded anew when the one before had ended", async () => {
    const { pool } = world.database;
    await using target = await eventReceiver((path) => (target.at(path).length > 1 ? 204 : null));
    const id = await room();
    await endpointOf(world, client, { url: target.url("/in-turn"), ordered: true });
    await say(id, "first");
    await say(id, "second");
    await target.come("/in-turn", 1);
    await attemptsAre(world, 1);
    // A sequence counts also what is rolled back.
    await pool.query("create sequence failures");
    await pool.query(`create function fail() returns trigger language plpgsql as
      $$ begin perform nextval('failures'); raise exception 'the checkpoint cannot move'; end $$`);
    await pool.query(`create trigger fails before update on jobs.reactor_checkpoints
      for each row when (new.name = 'endpoints') execute function fail()`);
    target.release();
    await until(async () => {
      const { rows } = await pool.query<{ is_called: boolean }>("select is_called from failures");
      return rows[0]?.is_called === true;
    });
    expect(target.contents("/in-turn")).toEqual(["first"]);
    await pool.query("drop trigger fails on jobs.reactor_checkpoints");
    await target.come("/in-turn", 2);
    expect(target.contents("/in-turn")).toEqual(["first", "second"]);
  });
});

test("a delivery is known to be open once the endpoints are loaded, though it was requested behind the checkpoint", async () => {
  await using own = await openWorld({ startWorkers: false });
  const { commands, readSide, store } = own;
  const { pool } = own.database;
  await using _queue = await JobQueue.open({ pool, logger: quietLogger as never, now: Date.now });
  const tenant = await own.client();
  const id = newRoom();
  await createRoom(own, tenant, id, { ann: "owner" });
  const endpoint = await endpointOf(own, tenant, { url: "http://127.0.0.1:9/", ordered: true });
  const { seq } = await post(own, tenant, id, "ann", "first");
  const at = await store.tail();
  const { roster } = await loadRoster({ pool, store, readSide }, at);
  const [event] = await readDecoded(own, `room-${id}`, { from: seq - 1, limit: 1 });
  const followed = roster.get(endpoint);
  if (event === undefined || followed === undefined) throw new Error("nothing to request");
  const candidates = await candidatesOf(own as never, event, false);
  const requests = candidates.map((candidate) => roster.request(followed, candidate, Date.now()));
  await requestAll({ commands, now: Date.now }, roster, requests);
  const again = await loadRoster({ pool, store, readSide }, at);
  expect(requests).toHaveLength(1);
  expect([...(again.roster.get(endpoint)?.open ?? [])]).toEqual(requests.map(({ delivery }) => delivery));
});

test("on a fresh schema `jobs` each endpoint goes on behind the last batch that it had, and loses nothing", async () => {
  await using own = await openWorld();
  const tenant = await own.client();
  await using target = await eventReceiver();
  const id = newRoom();
  await createRoom(own, tenant, id, { ann: "owner" });
  const [had, fresh] = [
    await endpointOf(own, tenant, { url: target.url("/had"), ordered: true }),
    await endpointOf(own, tenant, { url: target.url("/fresh"), events: ["room.*"] }),
  ];
  const talk = (content: string) => post(own, tenant, id, "ann", content);
  await talk("one");
  await target.come("/had", 1);
  await own.stopWorkers();
  for (const content of ["two", "three", "four"]) await talk(content);
  await roomCommands(own, tenant, id).rename("New");
  const tail = await own.store.tail();
  await own.restart("jobs");
  const { pool } = own.database;
  const queue = await JobQueue.open({ pool, logger: quietLogger as never, now: Date.now });
  const options = { pool, store: own.store, readSide: own.readSide };
  // What comes to be while it opens, once the endpoints were read.
  const meanwhile = async () => {
    await endpointOf(own, tenant, { url: target.url("/made-meanwhile") });
    await talk("five");
  };
  const busy: Parameters<typeof openFanOut>[0]["store"] = {
    logId: own.store.logId,
    tail: () => own.store.tail(),
    readStream: (...args) => meanwhile().then(() => own.store.readStream(...args)),
  };
  expect(await openFanOut({ ...options, store: busy })).toBe(tail);
  const cursors = await allCursors(pool);
  const stored = await own.store.readStream(`room-${id}`, { limit: 100 });
  const [created, first, second] = stored;
  expect([...cursors.keys()].toSorted()).toEqual([had, fresh].toSorted());
  // Before what it had last, behind what is older.
  const at = cursors.get(had)?.position ?? "";
  expect(at >= (created?.position ?? "~") && at < (first?.position ?? "")).toBe(true);
  expect((cursors.get(fresh)?.position ?? "~") < (second?.position ?? "")).toBe(true);
  // Once it is opened, it is as it was left.
  expect(await openFanOut(options)).toBe(tail);
  expect(await allCursors(pool)).toEqual(cursors);
  await queue[Symbol.asyncDispose]();
  await own.startWorkers();
  await Promise.all([target.come("/had", 5), target.come("/fresh", 1), target.come("/made-meanwhile", 1)]);
  await attemptsAre(own, 0);
  expect(target.contents("/had")).toEqual(["one", "two", "three", "four", "five"]);
  expect(target.contents("/made-meanwhile")).toEqual(["five"]);
  expect(target.at("/fresh")).toHaveLength(1);
});
