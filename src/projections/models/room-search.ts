// Finding rooms by a part of their name or description, in any case and any script, from an index.
import { sql } from "kysely";
import type { ClientId, RoomId } from "../../contract/ids.ts";
import type { RoomSettings } from "../../domain/room-state.ts";
import { integers, projection, put, type RowOf, remove, roomOf, text } from "../projection.ts";
import type { ReadAs } from "../read-as.ts";

const columns = {
  room_id: text<RoomId>(),
  client: text<ClientId>(),
  /** Name and description in lower case. */
  content: text(),
  /** Of each character and each pair of characters in `content` the hash with the client, sorted, each once. */
  grams: integers(),
};
type Entry = RowOf<typeof columns>;

const VERSION = 1;

/**
 * Looks into the index for a client's query. Row-level security lets no query use it, since its operator could tell of
 * rows that are not shown; so a function does whose owner may, for the client of the session alone. What it finds is only
 * ids: the query that asked reads the rows, under the fence.
 */
const SEARCH_FUNCTION = `
create or replace function read.search_rooms_v${VERSION}(needle text, wanted integer[], most integer)
returns setof text language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_bitmapscan = on as $$
begin
  return query select s.room_id from read.room_search_v${VERSION} s
    where /* fence: search-client */ s.client = current_setting('chatapi.client', true) /* end */
      and s.grams @> wanted and strpos(s.content, needle) > 0
    limit most;
end $$;
revoke all on function read.search_rooms_v${VERSION} from public;
grant execute on function read.search_rooms_v${VERSION} to pg_database_owner`;

/** Rooms that are not deleted. Apart from the rooms' own table, whose rows change with every message. */
export const roomSearch = projection({
  name: "room_search",
  version: VERSION,
  key: ["room_id"],
  columns,
  indexes: ["using gin (grams)"],
  functions: [SEARCH_FUNCTION],
  personal: [],
  on: {
    RoomCreated: (e) => [put([roomOf(e.stream)], entryOf(e.meta.client, e.data))],
    RoomUpdated: (e) => [put([roomOf(e.stream)], entryOf(e.meta.client, e.data))],
    RoomDeleted: (e) => [remove([roomOf(e.stream)])],
  },
});

/** What names are searched and sorted by. */
export const searchKey = (name: string): string => name.toLowerCase();

/** Between name and description: nobody searches for it. */
const SEPARATOR = "\u001f";

function entryOf(client: ClientId | null, { name, description }: RoomSettings): Omit<Entry, "room_id" | "client"> {
  const content = searchKey(`${name ?? ""}${SEPARATOR}${description ?? ""}`);
  const characters = [...content];
  return { content, grams: hashes(client ?? "", [...characters, ...pairsOf(characters)]) };
}

const pairsOf = (characters: readonly string[]): readonly string[] =>
  characters.slice(1).map((character, index) => `${characters[index]}${character}`);

/** With the client in it, so that looking one up passes over no entry of another. */
function hashes(client: string, grams: readonly string[]): number[] {
  const seed = fnv1a(0x811c9dc5, client);
  return [...new Set(grams.map((gram) => fnv1a(seed, gram)))].sort((a, b) => a - b);
}

function fnv1a(seed: number, value: string): number {
  let hash = seed;
  for (let index = 0; index < value.length; index += 1) hash = Math.imul(hash ^ value.charCodeAt(index), 0x01000193);
  return hash | 0;
}

/** Ids of rooms with this in their name or description, in no order; undefined when there are more than `most`. */
export async function roomsWith(read: ReadAs, part: string, most: number): Promise<readonly RoomId[] | undefined> {
  const needle = searchKey(part);
  const characters = [...needle];
  const wanted = hashes(read.client, characters.length === 1 ? characters : pairsOf(characters));
  const found = sql<{
    id: RoomId;
  }>`${sql.ref(`read.search_rooms_v${VERSION}`)}(${needle}, ${wanted}::integer[], ${most + 1})`;
  const rows = await read.rows(read.over({}).selectFrom(found.as<"found">(sql`found(id)`)).selectAll());
  return rows.length > most ? undefined : rows.map(({ id }) => id);
}
