// The fences of the read models' checkpoint, each alone: who does not know where the group stands writes nothing.
import { afterAll, beforeAll, expect, test } from "vitest";
import { positionOf } from "../../src/event-store/event-store.ts";
import {
  checkGroup,
  commitBatch,
  createGroups,
  type Fence,
  ForeignCheckpoint,
  openGroup,
} from "../../src/projections/group.ts";
import { openInMemoryLog } from "../support/in-memory-log.ts";
import { type TestDatabase, testDatabase } from "../support/postgres.ts";

const LOG = "thelog";
const at = (number: number) => positionOf(LOG, number);
const LEASE = { table: "read.leases", name: "projections" } as const;

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
  await createGroups(database.pool);
  await using store = await openInMemoryLog({ logId: LOG });
  await openGroup(database.pool, store);
});
afterAll(() => database[Symbol.asyncDispose]());

/** The group at a checkpoint, under a lease of a generation. */
async function stands(checkpoint: string, generation: number, lease: number): Promise<void> {
  await database.pool.query("update read.groups set checkpoint = $1, generation = $2", [checkpoint, generation]);
  await database.pool.query(
    `insert into read.leases (name, holder, generation, expires_at) values ($1, 'test', $2, now() + interval '1 h')
     on conflict (name) do update set generation = excluded.generation`,
    [LEASE.name, lease],
  );
}
const commit = (fence: Fence, lease: number) =>
  commitBatch(database.pool, fence, at(9), [], { ...LEASE, generation: lease });
const checkpoint = async () => (await database.pool.query("select checkpoint from read.groups")).rows[0].checkpoint;

test("who knows all of it moves the checkpoint", async () => {
  await stands(at(5), 3, 7);
  expect(await commit({ checkpoint: at(5), generation: 3 }, 7)).toBe(true);
  expect(await checkpoint()).toBe(at(9));
});

test.each([
  ["a checkpoint that another has moved", { checkpoint: at(4), generation: 3 }, 7],
  ["tables that were swapped", { checkpoint: at(5), generation: 2 }, 7],
  ["a lease that is over", { checkpoint: at(5), generation: 3 }, 6],
])("%s: nothing is written", async (_what, fence, lease) => {
  await stands(at(5), 3, 7);
  expect(await commit(fence, lease)).toBe(false);
  expect(await checkpoint()).toBe(at(5));
});

test("a group that was made from another log is refused", async () => {
  await using store = await openInMemoryLog({ logId: LOG });
  const group = { logId: LOG, checkpoint: "start", generation: 1, tables: new Set<string>() } as const;
  await checkGroup(group, store);
  await expect(checkGroup({ ...group, logId: "another" }, store)).rejects.toThrow(ForeignCheckpoint);
});
