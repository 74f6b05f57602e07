// Appending, against other event stores on the same PostgreSQL with the same durability.
import { randomUUID } from "node:crypto";
import pg from "pg";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { interleave, perSecond } from "../harness/measure.ts";
import { type Goal, ratioRow } from "../harness/row.ts";
import type { Subject } from "../harness/subject.ts";
import { openEmmett } from "../rivals/emmett.ts";
import { installMessageDb, writeMessage } from "../rivals/message-db.ts";
import { appendsPerSecond } from "../support/appending.ts";
import { someEvent } from "../support/events.ts";

const ratio = { direction: "at least", unit: "x" } as const;
const overEmmett: Goal = { ...ratio, name: "3 append, same durability, over Emmett on PostgreSQL", goal: 5 };
const overMessageDb: Goal = { ...ratio, name: "3 append, same durability, over Message DB", goal: 8 };

/** As many as write beside each other with one INSERT a commit. Message DB holds a lock for each category of streams. */
const CONNECTIONS = 32;
const IN_FLIGHT = 256;

type Append = (stream: string, count: number) => Promise<void>;

function rivalAppends(append: Append, ms: number): Promise<number> {
  const lanes = Array.from({ length: CONNECTIONS }, () => ({ stream: `room-${randomUUID()}`, count: 0 }));
  return perSecond(CONNECTIONS, ms, async (number) => {
    const lane = lanes[number];
    if (lane === undefined) return 0;
    await append(lane.stream, lane.count);
    lane.count += 1;
    return 1;
  });
}

export const eventStores: Subject = {
  name: "event-stores",
  about: "appending, against other event stores on PostgreSQL",
  goals: [overEmmett, overMessageDb],
  async run({ rounds, turnMs, postgres }) {
    await using open = new AsyncDisposableStack();
    const [ours, emmetts, messageDbs] = [
      open.use(await postgres.database()),
      open.use(await postgres.database()),
      open.use(await postgres.database()),
    ];
    const poolOf = (url: string, options?: string) => {
      const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS, ...(options ? { options } : {}) });
      return open.adopt(pool, (one) => one.end());
    };
    const store = open.use(await openPostgresLog({ url: ours.url }));
    const emmettPool = open.adopt(new pg.Pool({ connectionString: emmetts.url, max: CONNECTIONS }), async (pool) => {
      if (!pool.ended) await pool.end();
    });
    const emmett = open.use(await openEmmett(emmetts.url, emmettPool));
    const messageDb = poolOf(messageDbs.url, "-c search_path=message_store,public");
    const client = await messageDb.connect();
    try {
      await installMessageDb(client);
    } finally {
      client.release();
    }
    // Both keep JSON, not bytes: they are given what ours is made of.
    const { type, data, metadata } = someEvent();
    const texts = { data: Buffer.from(data).toString(), metadata: Buffer.from(metadata).toString() };
    const event = { type, data: JSON.parse(texts.data), metadata: JSON.parse(texts.metadata) };
    const names = {
      ours: `ours, ${IN_FLIGHT} in flight`,
      emmett: `Emmett, ${CONNECTIONS} connections`,
      messageDb: `Message DB, ${CONNECTIONS} connections`,
    };
    const byEmmett: Append = (stream, count) => emmett.append(stream, count, event);
    const byMessageDb: Append = (stream, count) =>
      writeMessage(messageDb, stream.replace("-", "Stream-"), count, { id: randomUUID(), type, ...texts });
    const reached = await interleave(
      [
        { name: names.emmett, turn: () => rivalAppends(byEmmett, turnMs) },
        { name: names.messageDb, turn: () => rivalAppends(byMessageDb, turnMs) },
        { name: names.ours, turn: () => appendsPerSecond(store, IN_FLIGHT, turnMs) },
      ],
      rounds,
    );
    return [
      ratioRow(overEmmett, reached, names.ours, names.emmett),
      ratioRow(overMessageDb, reached, names.ours, names.messageDb),
    ];
  },
};
