// Full-text search in messages: the index, and looking into it for one client, as far as a viewer may see.
import { sql } from "kysely";
import type { Cursor } from "../../contract/fields.ts";
import type { ClientId, RoomId, Subject } from "../../contract/ids.ts";
import { EVERYONE } from "../../contract/messages.ts";
import type { Instant } from "../../contract/time.ts";
import { reveal } from "../../domain/event.ts";
import type { RoomEvent } from "../../domain/room-state.ts";
import { type Facets, queriesOf, type Term, vectorOf } from "../../domain/search.ts";
import { InvalidCursor, type Page, pageOf, readCursor } from "../page.ts";
import {
  bigint,
  boolean,
  change,
  type EventFacts,
  integer,
  projection,
  put,
  type RowOf,
  roomOf,
  tableName,
  text,
  tsvector,
} from "../projection.ts";
import type { ReadAs } from "../read-as.ts";
import { MESSAGE_TABLES, type ShownMessageRow, shownMessage } from "./messages.ts";
import { members, rooms } from "./rooms.ts";

const columns = {
  room_id: text<RoomId>(),
  seq: integer(),
  client: text<ClientId>(),
  sender: text<Subject>(),
  type: text(),
  created_at: bigint(),
  deleted: boolean(),
  /** Whether its text still grows: it is found from its end on. */
  growing: boolean(),
  /** The words, and what searches are narrowed by. */
  document: tsvector(),
};
type Entry = RowOf<typeof columns>;

const VERSION = 1;
/** Replaced only by what reads the same tables: nodes of another version go on with theirs. */
const FUNCTION = ["search_messages", VERSION, rooms.version, members.version].join("_");
const TABLE = `read.message_search_v${VERSION}`;
const ROOMS = `read.${tableName(rooms)}`;
const MEMBERS = `read.${tableName(members)}`;

/** What one search costs at most. */
type SearchBounds = {
  /** So many of the newest messages are read one by one. */
  readonly scanned: number;
  /** Among them as many that match are enough: no older ones are looked for. */
  readonly enough: number;
  /** Of fewer, up to so many matches are read from the index, whatever their age. */
  readonly indexed: number;
  /** Of more, those among so many of the newest messages are ranked; where they are not enough, those from the index too. */
  readonly deep: number;
};
const BOUNDS: SearchBounds = { scanned: 2_000, enough: 200, indexed: 2_000, deep: 20_000 };
/** A user's rooms are in the query for the index, unless there are more. */
const MAX_SCOPE = 200;

const VISIBLE = `s.created_at >= since and s.created_at < until and (within is null or s.room_id = any(within))
  and exists (select from ${ROOMS} r where r.room_id = s.room_id and /* fence: search-deleted-rooms */ not r.deleted /* end */
    and (viewer is null or /* fence: search-unseen */ r.history = 'all' or s.seq >= (
      select m.joined_seq from ${MEMBERS} m where m.room_id = s.room_id and m.subject = viewer) /* end */))
  and (viewer is null or /* fence: search-members */ exists (select from ${MEMBERS} m where m.room_id = s.room_id and m.subject = viewer) /* end */)`;
const OWN = "/* fence: search-messages-client */ s.client = tenant /* end */ and not s.deleted and not s.growing";

/** Matches among so many of the newest messages, of the client or of a few rooms. */
const newest = (depth: string) => `
  if scope is null then
    select array_agg(c.id) into hits from (
      select s.id from (
        select s.ctid as id, s.* from ${TABLE} s where ${OWN} and s.created_at >= since and s.created_at < until
        order by s.created_at desc limit ${depth}
      ) s where s.document @@ wanted and ${VISIBLE} order by s.created_at desc limit enough
    ) c;
  else
    select array_agg(c.id) into hits from (
      select s.id from unnest(scope) o(room_id) cross join lateral (
        select s.ctid as id, s.* from ${TABLE} s where s.room_id = o.room_id and ${OWN}
          and s.created_at >= since and s.created_at < until
        order by s.created_at desc limit greatest(${depth} / cardinality(scope), 1)
      ) s where s.document @@ wanted and ${VISIBLE} order by s.created_at desc limit enough
    ) c;
  end if;`;

/** About how many messages a client has that has many of all. An estimate decides how a search is carried out, not what is found. */
const CLIENT_MESSAGES = `
  select c.reltuples * coalesce(p.most_common_freqs[array_position(p.most_common_vals::text::text[], tenant)], 0) into posted
    from pg_class c left join pg_stats p on p.schemaname = 'read' and p.tablename = c.relname and p.attname = 'client'
    where c.oid = '${TABLE}'::regclass;`;

/**
 * Looks into the index for a client's query. Row-level security lets no query use it, since its operator could tell of rows
 * that are not shown; so a function does whose owner may, for the client of the session alone. It gives keys and scores: the
 * query that asked reads the messages, under the fence. `newest`: when the newest of all that were found was posted.
 *
 * Common words are found among the newest messages without the index, rare ones in the index; of what is neither, the newest.
 */
const SEARCH_FUNCTION = `
create or replace function read.${FUNCTION}(
  wanted tsquery, loose tsquery, ranked tsquery, viewer text, within text[], since bigint, until bigint,
  after_score real, after_at bigint, after_room text, after_seq integer,
  most integer, scanned integer, enough integer, indexed integer, deep integer
)
returns table (room text, message integer, score real, at bigint, newest bigint) language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_bitmapscan = on set plan_cache_mode = force_custom_plan set jit = off as $$
declare
  tenant text := current_setting('chatapi.client', true);
  scope text[];
  hits tid[];
  older tid[];
  found integer;
  posted real;
begin
  if viewer is not null then
    select coalesce(array_agg(m.room_id), '{}') into scope from ${MEMBERS} m
      where m.client = tenant and m.subject = viewer and (within is null or m.room_id = any(within));
  elsif within is not null then
    select coalesce(array_agg(r.room_id), '{}') into scope from ${ROOMS} r where r.client = tenant and r.room_id = any(within);
  end if;
  if cardinality(scope) = 0 then return; end if;
  if cardinality(scope) > ${MAX_SCOPE} then
    scope := null;
  end if;
  ${newest("scanned")}
  found := coalesce(cardinality(hits), 0);
  -- Of a word that is in so many messages that the index would gather thousands in vain, the newest are enough.
  if scope is null and found > 0 and found < enough and found::bigint * deep >= 2 * enough * scanned then
    ${CLIENT_MESSAGES}
    if posted * found > 3 * indexed * scanned then
      ${newest("deep")}
      found := coalesce(cardinality(hits), 0);
    end if;
  end if;
  if found < enough then
    if scope is not null then
      loose := loose && (select string_agg(quote_literal('#' || o.room_id), '|') from unnest(scope) o(room_id))::tsquery;
    end if;
    -- How many there are says which way to go: whether they may be shown is asked only of those that are taken.
    select coalesce(array_agg(s.id), '{}') into older from (
      select s.ctid as id from ${TABLE} s where s.document @@ loose and not s.deleted and not s.growing limit indexed + 1
    ) s;
    if cardinality(older) > indexed then
      ${newest("deep")}
    end if;
    if cardinality(older) <= indexed or coalesce(cardinality(hits), 0) < enough then
      select array_agg(s.ctid) || hits into hits from ${TABLE} s
        where s.ctid = any(older) and s.document @@ wanted and ${OWN} and ${VISIBLE};
    end if;
  end if;
  return query
    select s.room_id, s.seq, s.rank, s.created_at, max(s.created_at) over () from (
      select s.room_id, s.seq, ts_rank(s.document, ranked, 1) as rank, s.created_at from ${TABLE} s where s.ctid = any(hits)
    ) s
    where after_score is null or s.rank < after_score or s.rank = after_score and (s.created_at < after_at
      or s.created_at = after_at and (s.room_id, s.seq) > (after_room, after_seq))
    order by s.rank desc, s.created_at desc, s.room_id, s.seq limit most;
end $$;
revoke all on function read.${FUNCTION} from public;
grant execute on function read.${FUNCTION} to pg_database_owner`;

/** All messages: a deleted one is left out of the index until it is restored. Apart from their own table, which lists read. */
export const messageSearch = projection({
  name: "message_search",
  version: VERSION,
  key: ["room_id", "seq"],
  columns,
  indexes: [
    "using gin (document) with (fastupdate = off) where not deleted and not growing",
    "(client, created_at) where not deleted and not growing",
    "(room_id, created_at) where not deleted and not growing",
  ],
  functions: [SEARCH_FUNCTION],
  personal: ["document"],
  on: {
    MessagePosted: (e) => {
      const entry = { sender: e.data.sender, type: e.data.type, created_at: e.meta.at };
      const room = roomOf(e.stream);
      const document = documentOf(e.meta.client, room, entry, e.data);
      return [put([room, e.revision + 1], { ...entry, document, deleted: false, growing: e.data.growing })];
    },
    MessageCompleted: (e) => [said(e)],
    MessageCancelled: (e) => [said(e)],
    MessageEdited: (e) => [said(e)],
    MessageDeleted: (e) => [marked(e, /* fence: search-deleted */ true)],
    MessageRestored: (e) => [marked(e, false)],
  },
});

type Saying = EventFacts & { readonly data: Content & { readonly messageSeq: number } };

const said = ({ stream, meta, data }: Saying) =>
  change<Entry, Entry>([roomOf(stream), data.messageSeq], (row) => ({
    ...row,
    growing: false,
    document: documentOf(meta.client, row.room_id, row, data),
  }));

const marked = ({ stream, data }: { stream: string; data: { messageSeq: number } }, deleted: boolean) =>
  change<Entry, Entry>([roomOf(stream), data.messageSeq], (row) => ({ ...row, deleted }));

type Content = Pick<Extract<RoomEvent, { type: "MessagePosted" }>["data"], "content" | "mentions" | "everyone">;

const documentOf = (
  client: ClientId | null,
  room: RoomId,
  { sender, type }: Pick<Entry, "sender" | "type">,
  { content, mentions, everyone }: Content,
): string => {
  const mentioned = [...mentions.map(({ subject }) => subject), ...(everyone ? [EVERYONE] : [])];
  return vectorOf(client ?? "", reveal(content) ?? "", { rooms: [room], senders: [sender], types: [type], mentioned });
};

export type MessageSearch = Omit<Facets, "rooms"> & {
  readonly terms: readonly Term[];
  /** Only what this user may see: messages of rooms that it is in. */
  readonly viewer?: Subject;
  readonly rooms?: readonly string[];
  /** `from` inclusive and `to` exclusive bound the posting. */
  readonly from?: Instant;
  readonly to?: Instant;
  readonly limit: number;
  readonly cursor?: Cursor;
};
type FoundMessage = { readonly row: ShownMessageRow; readonly score: number };

const MAX_INSTANT = Number.MAX_SAFE_INTEGER;

/**
 * Messages that match and are not deleted, the best first, among equals the newest. Further pages leave out what came after
 * the first one. Throws InvalidCursor.
 */
export async function searchMessages(
  read: ReadAs,
  { terms, viewer, rooms: within, from = 0, to = MAX_INSTANT, limit, cursor, mentioned, ...facets }: MessageSearch,
  bounds: SearchBounds = BOUNDS,
): Promise<Page<FoundMessage>> {
  const after = readPosition(cursor);
  const until = Math.min(to, after?.until ?? MAX_INSTANT);
  const mentioning = mentioned === undefined ? {} : { mentioned: [...mentioned, EVERYONE] };
  const { wanted, loose, ranked } = queriesOf(read.client, terms, { ...facets, ...mentioning });
  const found = sql<Found>`${sql.ref(`read.${FUNCTION}`)}(
    ${wanted}::tsquery, ${loose}::tsquery, ${ranked}::tsquery, ${viewer ?? null}, ${within ?? null}::text[],
    ${from}::bigint, ${until}::bigint, ${after?.score ?? null}::real, ${after?.at ?? null}::bigint, ${after?.room ?? null},
    ${after?.seq ?? null}::integer, ${limit + 1}::integer, ${bounds.scanned}::integer, ${bounds.enough}::integer,
    ${bounds.indexed}::integer, ${bounds.deep}::integer)`;
  const keys = await read.rows(
    read.over({}).selectFrom(found.as<"found">(sql`found(room_id, seq, score, at, newest)`)).selectAll(),
  );
  const { rows, next } = pageOf(keys, limit, (last) => cursorOf(last, after?.until ?? last.newest + 1));
  const shown = new Map((await shownOf(read, rows)).map((row) => [`${row.room_id} ${row.seq}`, row]));
  return {
    rows: rows.flatMap(({ room_id, seq, score }) => {
      const row = shown.get(`${room_id} ${seq}`);
      return row === undefined ? [] : [{ row, score }];
    }),
    next,
  };
}

type Found = { room_id: RoomId; seq: number; score: number; at: Instant; newest: Instant };

const cursorOf = ({ score, at, room_id, seq }: Found, until: Instant): Cursor => [
  String(score),
  String(at),
  room_id,
  seq,
  String(until),
];

/** Where the page before ended. Throws InvalidCursor. */
function readPosition(cursor: Cursor | undefined) {
  const values = readCursor(cursor, ["text", "text", "text", "integer", "text"]);
  if (values === undefined) return undefined;
  const [score, at, room, seq, until] = values;
  const numbers = [score, at, until].map((value) => (/^[0-9.e+-]{1,30}$/.test(value) ? Number(value) : Number.NaN));
  const [rank = 0, ...times] = numbers;
  if (!(rank >= 0 && rank < 1e9) || !times.every(Number.isSafeInteger))
    throw new InvalidCursor("not a cursor of a search");
  return { score: rank, at: times[0] ?? 0, room, seq, until: times[1] ?? 0 };
}

/** Those that are not deleted, in no order, each by its key, whatever the planner makes of their number. */
async function shownOf(read: ReadAs, keys: readonly Found[]): Promise<readonly ShownMessageRow[]> {
  if (keys.length === 0) return [];
  const named = sql<{ room_id: RoomId; seq: number }>`unnest(
    ${keys.map(({ room_id }) => room_id)}::text[], ${keys.map(({ seq }) => seq)}::integer[])`;
  const query = read
    .over(MESSAGE_TABLES)
    .selectFrom(named.as<"o">(sql`o(room_id, seq)`))
    .innerJoinLateral(
      (eb) =>
        eb
          .selectFrom("m")
          .select(shownMessage)
          .whereRef("m.room_id", "=", "o.room_id")
          .whereRef("m.seq", "=", "o.seq")
          .where("m.deleted_at", "is", null)
          .offset(0)
          .as("m"),
      (join) => join.onTrue(),
    )
    .selectAll("m");
  return read.rows(query);
}
