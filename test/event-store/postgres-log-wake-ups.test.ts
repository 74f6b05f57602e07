// A Postgres log with a bus beside its NOTIFY: each append is told there, and being told twice does no harm.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { NO_STREAM, type Position } from "../../src/event-store/event-store.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { processBus } from "../../src/platform/bus.ts";
import { testDatabase } from "../support/postgres.ts";

test("what one process appends it tells on the bus; another one that hears it both ways reads it once", async () => {
  await using database = await testDatabase();
  await using first = await openPostgresLog({ url: database.url });
  await using second = await openPostgresLog({ url: database.url });
  await using bus = processBus();
  const told: Position[] = [];
  bus.on("log", (position) => told.push(position));
  first.wakeBy(bus);
  second.wakeBy(bus);
  const seen: string[] = [];
  await using _reading = second.subscribe({
    name: "test",
    after: await second.tail(),
    handle: async ({ events }) => {
      seen.push(...events.map((event) => event.stream));
    },
  });
  const event = { id: crypto.randomUUID(), type: "Happened", data: Buffer.from("{}"), metadata: Buffer.from("{}") };
  const { position } = await first.append("thing-1", NO_STREAM, [event]);
  for (let tries = 0; tries < 500 && (seen.length === 0 || told.length === 0); tries += 1) await sleep(10);
  await sleep(200);
  expect([seen, told]).toEqual([["thing-1"], [position]]);
});
