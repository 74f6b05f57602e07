// Two logs side by side: opened with their keys, read whole, and compared but for what moving may change.
import pg from "pg";
import { type EventStore, LOG_STREAM, type RecordedEvent } from "../../src/event-store/event-store.ts";
import { openKeyring, type PostgresKeyring } from "../../src/event-store/keyring.ts";
import { openPostgresLog } from "../../src/event-store/postgres/log.ts";
import { storedProjections } from "../../src/projections/models/all.ts";
import { inboxBlocks } from "../../src/projections/models/inbox-list.ts";
import { tableName } from "../../src/projections/projection.ts";
import { rebuild } from "../../src/projections/rebuild.ts";

export type Stores = AsyncDisposable & {
  readonly pool: pg.Pool;
  readonly store: EventStore;
  readonly keyring: PostgresKeyring;
};

/** Opens what a log needs in a database; the log is there too unless another is given. */
export async function openStores(url: string, key: string, log?: EventStore): Promise<Stores> {
  await using open = new AsyncDisposableStack();
  const pool = open.adopt(new pg.Pool({ connectionString: url, max: 5 }), (one) => one.end());
  pool.on("error", () => {});
  const keyring = await openKeyring({ pool, encryptionKeys: [key] });
  const store = await keyring.trust(open.use(log ?? (await openPostgresLog({ url }))), { importing: true });
  const moved = open.move();
  return { pool, store, keyring, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

/** Every event but the log's own first. */
export async function eventsOf(store: EventStore): Promise<readonly RecordedEvent[]> {
  const events: RecordedEvent[] = [];
  for (;;) {
    const page = await store.readAll({ after: events.at(-1)?.position ?? "start", limit: 500 });
    if (page.length === 0) return events.filter((event) => event.stream !== LOG_STREAM);
    events.push(...page);
  }
}

/** An event as text, without where it stands in its log, its MAC, and its origin apart. */
export function content({ stream, revision, id, type, data, metadata }: RecordedEvent) {
  const { origin, mac: _mac, ...rest } = JSON.parse(Buffer.from(metadata).toString());
  return { stream, revision, id, type, data: Buffer.from(data).toString(), metadata: JSON.stringify(rest), origin };
}

/** Blocks of positions are other ones in another log: what they count in all is the same. */
const BLOCKS = tableName(inboxBlocks);
const BLOCK_SUMS = `(select client, subject, width, 0 as block, sum(count) as count from read.${BLOCKS} group by 1, 2, 3)`;

/** Rebuilds every read model and gives their rows as text; positions are told by the event that stands there. */
export async function rowsOf({ pool, store, keyring }: Stores): Promise<ReadonlyMap<string, readonly string[]>> {
  const warn = (fields: object, message: string) => {
    throw new Error(`${message} ${JSON.stringify(fields)}`);
  };
  await rebuild(
    { pool, store, keyring, logger: { warn }, projections: storedProjections },
    { names: "all", verify: false },
  );
  const names = new Map(
    (await eventsOf(store)).map((one) => [one.position as string, `${one.stream}@${one.revision}`]),
  );
  const position = new RegExp(`${store.logId}\\.[0-9a-f]{16}`, "g");
  const tables = storedProjections.map(async (projection) => {
    const table = tableName(projection);
    const from = table === BLOCKS ? BLOCK_SUMS : `read.${table}`;
    const { rows } = await pool.query(
      `select row_to_json(t)::text as row from ${from} t order by ${projection.key.map((name) => `t.${name}`).join(", ")}`,
    );
    return [table, rows.map(({ row }) => String(row).replaceAll(position, (at) => names.get(at) ?? at))] as const;
  });
  return new Map(await Promise.all(tables));
}
