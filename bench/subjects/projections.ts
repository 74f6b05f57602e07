// Read models: kept up live in batches against row by row, and rebuilt from the whole log.
import { parsePosition } from "../../src/event-store/event-store.ts";
import { decodeFor, foldBatch } from "../../src/projections/fold.ts";
import { commitBatch, openGroup } from "../../src/projections/group.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { createProjector } from "../../src/projections/projector.ts";
import { openReadSide } from "../../src/projections/read-side.ts";
import { rebuild } from "../../src/projections/rebuild.ts";
import { interleave, median } from "../harness/measure.ts";
import { type Goal, ratioRow, rowOf, shown } from "../harness/row.ts";
import type { Bench, Subject } from "../harness/subject.ts";
import { fillRooms, type OpenLog, openLog, registerClient } from "../support/log.ts";
import type { BenchDatabase } from "../support/postgres.ts";
import { newEncryptionKey } from "../support/served.ts";

const ratio = { direction: "at least", unit: "x" } as const;
const overRows: Goal = { ...ratio, name: "9 live projection, over row by row", goal: 6 };
const overLive: Goal = { ...ratio, name: "10 rebuild, over the live path", goal: 3.5 };
const flat: Goal = { ...ratio, name: "10 rebuild, its last tenth over its first tenth", goal: 0.9 };

const PAGE = 500;
const MESSAGES_EACH = 1_000;

/** A log of so many messages, whose read models know its first event alone. Nobody is connected to it afterwards. */
async function makeBacklog({ postgres, events, say }: Bench, encryptionKey: string): Promise<BenchDatabase> {
  const database = await postgres.database();
  await using log = await openLog(database.url, encryptionKey);
  const readSide = await openReadSide(log);
  await readSide.start();
  await readSide.caughtUp();
  await readSide[Symbol.asyncDispose]();
  say(`writing ${shown(events)} messages`);
  const start = performance.now();
  const { client } = await registerClient(log);
  await fillRooms(log, { client, rooms: Math.ceil(events / MESSAGES_EACH), messagesEach: MESSAGES_EACH });
  say(`${shown((events * 1_000) / (performance.now() - start))} messages/s`);
  return database;
}

const numberOf = (position: string): number => Number(parsePosition(position)?.value ?? 0n);

/** Lets the runner work for a time; gives the events that it handled per second. */
async function live(log: OpenLog, ms: number): Promise<number> {
  const group = await openGroup(log.pool, log.store);
  const from = numberOf(group.checkpoint);
  if (from === numberOf(await log.store.tail()))
    throw new Error("the log is too short for so many rounds: use --events");
  let at = from;
  const start = performance.now();
  let last = start;
  const onMoved = (checkpoint: string) => {
    at = numberOf(checkpoint);
    last = performance.now();
  };
  const projector = createProjector(log, { onMoved });
  await projector.start();
  await new Promise((resolve) => setTimeout(resolve, ms));
  await projector[Symbol.asyncDispose]();
  return ((at - from) * 1_000) / (last - start);
}

/** The same folds, each event by itself: its rows are loaded, folded and written before the next; a commit a page. */
async function rowByRow(log: OpenLog, ms: number): Promise<number> {
  const client = await log.pool.connect();
  const start = performance.now();
  let handled = 0;
  try {
    while (performance.now() - start < ms) {
      let fence = await openGroup(log.pool, log.store);
      const recorded = await log.store.readAll({ after: fence.checkpoint, limit: PAGE });
      const events = await decodeFor(log.keyring, storedProjections, recorded);
      await client.query("begin");
      for (const event of events) {
        const { position } = event.facts;
        const writes = await foldBatch(client, storedProjections, [event]);
        if (!(await commitBatch(client, fence, position, writes))) throw new Error("the fence was lost");
        fence = { ...fence, checkpoint: position };
      }
      await client.query("commit");
      handled += events.length;
    }
  } finally {
    client.release();
  }
  return (handled * 1_000) / (performance.now() - start);
}

type Rebuild = { readonly perSecond: number; readonly firstTenth: number; readonly lastTenth: number };

/** Makes every read model anew from the first event. */
async function rebuildAll(log: OpenLog): Promise<Rebuild> {
  await log.pool.query("drop schema read cascade");
  const start = performance.now();
  const pages = [{ events: 0, at: start }];
  const onProgress = ({ events }: { events: number }) => void pages.push({ events, at: performance.now() });
  const { events } = await rebuild(log, { names: "all", verify: false, onProgress });
  const perSecond = (events * 1_000) / (performance.now() - start);
  const rate = (from: number, to: number) => {
    const part = pages.filter((page) => page.events >= from && page.events <= to);
    const [first, last] = [part[0], part.at(-1)];
    if (first === undefined || last === undefined || first === last) throw new Error("too few pages to see their pace");
    return (last.events - first.events) / (last.at - first.at);
  };
  return { perSecond, firstTenth: rate(0, events / 10), lastTenth: rate(events * 0.9, events) };
}

export const projections: Subject = {
  name: "projections",
  about: "keeping read models up, and rebuilding them",
  goals: [overRows, overLive, flat],
  async run(bench) {
    const { rounds, turnMs, postgres, events, say } = bench;
    const encryptionKey = newEncryptionKey();
    await using open = new AsyncDisposableStack();
    const backlog = open.use(await makeBacklog(bench, encryptionKey));
    const opened = async () => {
      const copy = open.use(await postgres.database(backlog.name));
      return open.use(await openLog(copy.url, encryptionKey));
    };
    const logs = { row: await opened(), live: await opened(), rebuild: await opened() };
    const names = { row: "row by row", live: "live, batches of 500", rebuild: `rebuild of ${shown(events)} messages` };
    const evenness: number[] = [];
    const paces: Rebuild[] = [];
    const rebuilding = async (round: number) => {
      const done = await rebuildAll(logs.rebuild);
      say(`round ${round}: rebuilt at ${shown(done.perSecond)} events/s`);
      if (round > 0) {
        evenness.push(done.lastTenth / done.firstTenth);
        paces.push(done);
      }
      return done.perSecond;
    };
    const reached = await interleave(
      [
        { name: names.row, turn: () => rowByRow(logs.row, turnMs) },
        { name: names.live, turn: () => live(logs.live, turnMs) },
        { name: names.rebuild, turn: rebuilding },
      ],
      rounds,
    );
    const tenth = (which: "firstTenth" | "lastTenth") => shown(1_000 * median(paces.map((pace) => pace[which])));
    return [
      ratioRow(overRows, reached, names.live, names.row),
      ratioRow(overLive, reached, names.rebuild, names.live),
      rowOf(flat, evenness, {
        ours: `last tenth: ${tenth("lastTenth")} /s`,
        baseline: `first tenth: ${tenth("firstTenth")} /s`,
      }),
    ];
  },
};
