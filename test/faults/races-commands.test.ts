// Several nodes decide commands of one stream, in every order of their steps and with answers lost: what was answered holds.
import { expect, test } from "vitest";
import { DomainError } from "../../src/domain/decider.ts";
import { decode, type StoredEvent } from "../../src/event-store/envelope.ts";
import { StoreUnavailable } from "../../src/event-store/event-store.ts";
import { Commands, CommandTimedOut } from "../../src/event-store/handle-command.ts";
import { type CounterCommand, contextOf, counter } from "../support/counter.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { memoryKeyring } from "../support/memory-keyring.ts";
import fc from "../support/seed.ts";
import { Interleaving, orders } from "./support/interleaving.ts";
import { type Fates, fates, racingStore } from "./support/racing-store.ts";
import { scheduledTimers } from "./support/scheduled-timers.ts";

const STREAM = "counter-1";
const NODES = 3;
const TIME_IS_UP_MS = 1_000;
const NEVER_MS = 100_000;
const keyring = memoryKeyring();

/** What a client asks, of which node, and whether it waits for as long as it takes. */
const asked = fc.record({
  node: fc.nat({ max: NODES - 1 }),
  what: fc.constantFrom("add", "add", "add to a limit", "nothing", "load"),
  limit: fc.nat({ max: 8 }),
  /** Commands of one key are one command, as long as their bodies are one too. */
  key: fc.option(fc.constantFrom("k1", "k2"), { freq: 2 }),
  at: fc.nat({ max: 5_000 }),
  hurried: fc.boolean(),
});
type Asked = typeof asked extends fc.Arbitrary<infer A> ? A : never;

const clients = fc.array(fc.array(asked, { minLength: 1, maxLength: 4 }), { minLength: 2, maxLength: 4, size: "max" });

type Answer = { readonly revisions: readonly number[]; readonly ids: readonly string[]; readonly count: number };
/** One answer as its client had it, with the log's length when it asked and when it had it. */
type Told = { readonly one: Asked; readonly id: string; readonly from: number; readonly to: number } & (
  | { readonly answer: Answer }
  | { readonly refused: string }
  | { readonly unknown: true }
);

function commandOf({ what, limit, at }: Asked): CounterCommand {
  const add: CounterCommand = { type: "Add", at };
  if (what === "nothing") return { ...add, note: "nothing" };
  return what === "add to a limit" ? { ...add, limit } : add;
}

class Race {
  readonly told: Told[] = [];
  readonly #nodes: readonly Commands[];
  readonly #length: () => Promise<number>;
  #unkeyed = 0;

  constructor(nodes: readonly Commands[], length: () => Promise<number>) {
    this.#nodes = nodes;
    this.#length = length;
  }

  /** One who is not told the outcome asks the next node again, as long as that cannot do it twice. */
  async client(list: readonly Asked[]): Promise<void> {
    for (const one of list) {
      for (let tries = 0; tries < 3; tries += 1) {
        const told = await this.ask({ ...one, node: (one.node + tries) % NODES });
        if (!("unknown" in told) || one.key === null) break;
      }
    }
  }

  async ask(one: Asked): Promise<Told> {
    const node = this.#nodes[one.node];
    if (node === undefined) throw new Error("no such node");
    this.#unkeyed += 1;
    const id = one.key ?? `unkeyed-${this.#unkeyed}`;
    const about = { one, id, from: await this.#length() };
    const told = await this.#outcome(node, one, id).then(
      async (rest): Promise<Told> => ({ ...about, to: await this.#length(), ...rest }),
    );
    this.told.push(told);
    return told;
  }

  async #outcome(node: Commands, one: Asked, id: string) {
    try {
      if (one.what === "load") {
        const { state } = await node.load(counter, STREAM);
        return { answer: { revisions: [], ids: [], count: state.count } };
      }
      const body = `${one.what} ${one.what === "add to a limit" ? one.limit : ""}`;
      const context = one.key === null ? { ...contextOf(), commandId: id } : contextOf(id, body);
      const timeoutMs = one.hurried ? TIME_IS_UP_MS : NEVER_MS;
      const { events, state } = await node.execute(counter, STREAM, commandOf(one), context, { timeoutMs });
      const revisions = events.map((event) => event.revision);
      return { answer: { revisions, ids: events.map((event) => event.id), count: state.count } };
    } catch (error) {
      if (error instanceof DomainError) return { refused: error.code };
      if (error instanceof CommandTimedOut || error instanceof StoreUnavailable) return { unknown: true as const };
      throw error;
    }
  }
}

/** Runs what the clients ask, then asks every key once more of every node; gives the log beside what they were told. */
async function race(scheduler: fc.Scheduler, lists: readonly (readonly Asked[])[], drawn: Fates) {
  const interleaving = new Interleaving(scheduler);
  const log = await openInMemoryLog();
  const store = racingStore(log, interleaving, drawn);
  const parts = { store, keyring, snapshots: undefined, olderCommands: undefined, warn: () => undefined };
  using _timers = scheduledTimers(interleaving, TIME_IS_UP_MS * 2);
  const length = async () => (await log.readStream(STREAM, { limit: 1_000 })).length;
  const running = new Race(
    Array.from({ length: NODES }, () => new Commands(parts)),
    length,
  );
  await interleaving.until(Promise.all(lists.map((list) => running.client(list))));
  await interleaving.until(store.quiet());
  const keyed = new Map(running.told.flatMap(({ one }) => (one.key === null ? [] : [[one.key, one]])));
  const again = [...keyed.values()].flatMap((one) => Array.from({ length: NODES }, (_, node) => ({ ...one, node })));
  await interleaving.until(Promise.all(again.map((one) => running.ask({ ...one, hurried: false }))));
  const stored = await decode(keyring, await log.readStream(STREAM, { limit: 1_000 }));
  return { told: running.told, stored };
}

/** Seqs without gaps, times that never go back, and each event decided on the state that is before it in the log. */
function logHolds(stored: readonly StoredEvent[]): void {
  expect(stored.map((event) => event.revision)).toEqual(stored.map((_, index) => index));
  expect(stored.map((event) => "name" in event.data && event.data.name)).toEqual(
    stored.map((_, index) => `${index + 1}`),
  );
  const times = stored.map((event) => event.meta.at);
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  const once = stored.map((event) => event.meta.command);
  expect(once).toEqual([...new Set(once)]);
}

function answerHolds(told: Told, stored: readonly StoredEvent[]): void {
  const { one, id, from, to } = told;
  const own = stored.filter((event) => event.meta.command === id);
  if ("unknown" in told) return;
  if ("refused" in told) {
    if (told.refused === "idempotency_key_reused") {
      expect(own[0]?.revision).toBeLessThan(to);
      return;
    }
    // What it was refused for was in the log when it heard of it.
    expect(told.refused).toBe("last_key");
    expect(one.limit).toBeLessThanOrEqual(to);
    return;
  }
  const { revisions, ids, count } = told.answer;
  // The state that an answer shows was in the log before the answer came.
  expect(count).toBeLessThanOrEqual(to);
  if (one.what === "load" || one.what === "nothing") {
    expect(revisions).toEqual([]);
    expect(count).toBeGreaterThanOrEqual(from);
    return;
  }
  expect(own.map((event) => event.revision)).toEqual(revisions);
  expect(own.map((event) => event.id)).toEqual(ids);
  expect(revisions).toHaveLength(1);
  expect(count).toBe((revisions[0] ?? Number.NaN) + 1);
  if (one.what === "add to a limit") expect(revisions[0]).toBeLessThan(one.limit);
}

test("what was answered is in the log once, and nothing else is answered", {
  timeout: orders.timeout,
}, async () => {
  const seen = { answered: 0, refused: 0, unknown: 0 };
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), clients, fates(), async (scheduler, lists, drawn) => {
      const { told, stored } = await race(scheduler, lists, drawn);
      logHolds(stored);
      for (const one of told) answerHolds(one, stored);
      seen.answered += told.filter((one) => "answer" in one).length;
      seen.refused += told.filter((one) => "refused" in one).length;
      seen.unknown += told.filter((one) => "unknown" in one).length;
    }),
    orders.of(200, 20_000),
  );
  for (const times of Object.values(seen)) expect(times).toBeGreaterThan(100);
});
