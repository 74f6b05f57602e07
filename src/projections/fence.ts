// The second fence around a client: PostgreSQL itself shows a client's queries no row of another, whatever they say.
import pg from "pg";
import type { ClientId } from "../contract/ids.ts";
import { hasCode, NO_ANSWER, within } from "../platform/postgres.ts";

/**
 * What makes a table of read models readable for clients, each its own rows. Who owns the table writes and reads all of it.
 *
 * Clients' queries run as `pg_database_owner`. Every database has this role and its owner may become it; but nobody can
 * log in as it, let it own what it is not given, make it a member of anything or exempt it from policies. So it is
 * confined also where the server connects as a superuser, and there is no role to be made.
 */
export const fenceOf = (table: string): readonly string[] => [
  `alter table read.${table} enable row level security`,
  `create policy client on read.${table} for select to pg_database_owner
    using (/* fence: rls-policy */ client = current_setting('chatapi.client', true) /* end */)`,
  `grant select on read.${table} to pg_database_owner`,
];

/** Lets clients' queries look into the schema; of what is in it they see fenced tables alone. */
export const OPEN_SCHEMA = "grant usage on schema read to pg_database_owner";

/**
 * Confines the transaction that it stands in to one client, and its statements to a time; gives no row. Each of our queries
 * has an index that gives its rows in their order: without the other scans it is taken whatever PostgreSQL knows, or does not
 * know yet, of the tables' sizes.
 */
const CONFINE = {
  name: "confine",
  // fence: rls-end
  text: `select where /* fence: rls-role */ set_config('role', 'pg_database_owner', true) || /* end */ set_config('chatapi.client', $1, true)
    || /* fence: statement-timeout */ set_config('statement_timeout', $2, true) /* end */
    || set_config('plan_cache_mode', $3, true) || set_config('enable_seqscan', 'off', true) || set_config('enable_bitmapscan', 'off', true) is null`,
  types: [],
};

/** One with a name keeps one plan: what is saved is the planning. Others are planned for their parameters. */
const planCacheMode = ({ name }: Pick<ClientQuery, "name">) => (name === undefined ? "auto" : "force_generic_plan");

/** Queries cannot be confined to a client in this database. The message says what it takes. */
export class NoFence extends Error {
  override readonly name = "NoFence";
}

const INSUFFICIENT_PRIVILEGE = "42501";
const UNDEFINED_OBJECT = "42704";

/** Throws NoFence, or what the database throws. */
export async function checkFence(pool: pg.Pool): Promise<void> {
  try {
    await queryAsClient(pool, "cli_", { text: "select", values: [] });
  } catch (error) {
    if (hasCode(error, UNDEFINED_OBJECT)) throw new NoFence("DATABASE_URL: PostgreSQL must be of version 14 or later");
    if (!hasCode(error, INSUFFICIENT_PRIVILEGE)) throw error;
    throw new NoFence("DATABASE_URL: its user must own the database (alter database <name> owner to <user>)");
  }
}

/** How long PostgreSQL works on a client's query before it cancels it. */
const ANSWER_MS = 10_000;
/** How much longer its answer is waited for: the connection may be gone without a word. */
const GRACE_MS = 2_000;
const QUERY_CANCELED = "57014";

type QueryOptions = {
  readonly answerMs?: number;
  /** Aborted when nobody reads the answer any more: PostgreSQL is told to stop. */
  readonly signal?: AbortSignal | undefined;
};

type ClientQuery = Pick<pg.QueryConfig<unknown[]>, "name" | "text" | "types"> & { readonly values: unknown[] };

/**
 * The rows that a client's query gives. What confines it goes ahead in the same message to PostgreSQL, which makes one
 * transaction of the two: no round trip more, nothing is left on the connection, and when the one fails the other is not carried out.
 * Throws the signal's reason, an error that says that the database is away when the time is up, or what the database throws.
 */
export async function queryAsClient<R extends object>(
  pool: Pick<pg.Pool, "connect" | "query">,
  client: ClientId,
  config: ClientQuery,
  { answerMs = ANSWER_MS, signal }: QueryOptions = {},
): Promise<readonly R[]> {
  const connection = await pool.connect();
  const ignored = () => undefined; // the query reports it
  connection.on("error", ignored);
  try {
    signal?.throwIfAborted();
    const answer = new Promise<readonly R[]>((resolve, reject) => {
      const found: R[] = [];
      const query = connection.query(confined(client, answerMs, config));
      query.on("row", (row) => found.push(row));
      query.on("error", reject);
      query.on("end", () => resolve(found));
    });
    const cancel = () => pool.query("select pg_cancel_backend($1)", [Reflect.get(connection, "processID")]);
    const rows = await within(answerMs + GRACE_MS, abortable(answer, cancel, signal), NO_ANSWER);
    connection.release();
    return rows;
  } catch (error) {
    const wasCanceled = hasCode(error, QUERY_CANCELED);
    // Whether a statement with a name was prepared before that is not known.
    connection.release(!wasCanceled || config.name !== undefined);
    signal?.throwIfAborted();
    throw wasCanceled ? new Error(NO_ANSWER, { cause: error }) : error;
  } finally {
    connection.off("error", ignored);
  }
}

/** Runs one query after the other as a client; what they give is of one moment. */
type Snapshot = <R extends object>(config: ClientQuery) => Promise<readonly R[]>;

/**
 * Runs a client's queries in one transaction that shows one moment of the database. `before` runs ahead of them, in the same
 * transaction, and not as the client. Throws what the database throws, or an error that says that it is away.
 */
export async function snapshotAsClient<B, T>(
  pool: Pick<pg.Pool, "connect">,
  client: ClientId,
  before: (connection: pg.PoolClient) => Promise<B>,
  work: (query: Snapshot, before: B) => Promise<T>,
): Promise<T> {
  const connection = await pool.connect();
  const ignored = () => undefined; // the query reports it
  connection.on("error", ignored);
  try {
    const timed = <A>(answer: Promise<A>) => within(ANSWER_MS + GRACE_MS, answer, NO_ANSWER);
    await timed(connection.query("begin transaction isolation level repeatable read, read only"));
    const known = await timed(before(connection));
    let mode = planCacheMode({});
    await timed(connection.query(CONFINE.text, [client, String(ANSWER_MS), mode]));
    // A connection takes one query at a time.
    let last: Promise<unknown> = Promise.resolve();
    const run = <R extends object>(config: ClientQuery): Promise<readonly R[]> => {
      const answer = last.then(async () => {
        if (mode !== planCacheMode(config)) {
          mode = planCacheMode(config);
          await timed(connection.query("select set_config('plan_cache_mode', $1, true)", [mode]));
        }
        return (await timed(connection.query<R>({ ...config }))).rows;
      });
      last = answer.catch(() => undefined);
      return answer;
    };
    const done = await work(run, known);
    await last;
    await timed(connection.query("commit"));
    connection.release();
    return done;
  } catch (error) {
    connection.release(true); // its transaction ends with it
    throw error;
  } finally {
    connection.off("error", ignored);
  }
}

/** The answer; aborted, `cancel` makes it come soon. What cancels has ended then: it must not meet the connection's next query. */
async function abortable<T>(answer: Promise<T>, cancel: () => Promise<unknown>, signal?: AbortSignal): Promise<T> {
  let canceling: Promise<unknown> | undefined;
  const abort = () => {
    canceling = cancel().catch(() => undefined);
  };
  // fence: reader-gone
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await answer;
  } finally {
    signal?.removeEventListener("abort", abort);
    await canceling;
  }
}

/** Connections that know the statement which confines. */
const knowing = new WeakSet<pg.Connection>();

function confined(client: ClientId, answerMs: number, config: ClientQuery): pg.Query {
  // Only of this kind are several statements one transaction until a `Sync`, which the query sends behind itself.
  const query = new pg.Query({ ...config, ...EXTENDED });
  const submit = query.submit.bind(query);
  query.submit = (connection) => {
    connection.stream.cork();
    if (!knowing.has(connection)) connection.parse(CONFINE, true);
    knowing.add(connection);
    connection.bind({ statement: CONFINE.name, values: [client, String(answerMs), planCacheMode(config)] }, true);
    connection.execute(null, true);
    submit(connection);
    connection.stream.uncork();
  };
  return query;
}

const EXTENDED = { queryMode: "extended" };
