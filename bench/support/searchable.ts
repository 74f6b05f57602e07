// Read models with many messages of one client in ten languages: the rows that the projections' own folds make of events, copied.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import type { ClientId, RoomId, Subject } from "../../src/contract/ids.ts";
import { roomStream } from "../../src/domain/room.ts";
import type { RoomEvent } from "../../src/domain/room-state.ts";
import { encode, type StoredEvent } from "../../src/event-store/envelope.ts";
import { foldRows } from "../../src/projections/fold.ts";
import { messageSearch } from "../../src/projections/models/message-search.ts";
import { messages } from "../../src/projections/models/messages.ts";
import { members, rooms } from "../../src/projections/models/rooms.ts";
import { type Projection, tableName } from "../../src/projections/projection.ts";
import { copyRows } from "../../src/projections/row-store.ts";
import { createIndexes } from "../../src/projections/tables.ts";
import { shown } from "../harness/row.ts";
import type { Bench } from "../harness/subject.ts";
import {
  contextOf,
  messagePosted,
  type OpenLog,
  type OpenReadModels,
  openReadModels,
  roomCreated,
  roomName,
} from "./log.ts";
import { LANGUAGES, type Language, seeded } from "./texts.ts";

export const ROOMS = 20_000;
/** Readers by the number of rooms that they are in: one room of so many, from the largest on. */
export const READERS: ReadonlyMap<number, Subject> = new Map(
  [10, 1_000, 10_000].map((count) => [count, `sub_in${count}`]),
);

const SENDERS = 500;
const FIRST_AT = 1_767_225_600_000;
const SPAN_MS = 180 * 86_400_000;
const CHUNK = 5_000;
const SAMPLE = 500;

const languageOf = (n: number): Language => LANGUAGES[n % LANGUAGES.length] as Language; // below the length
/** The text of the nth message: languages take turns. */
export const textOf = (n: number): string => languageOf(n).sentence(seeded(n * 7_919));

/** An event as it would be read from the log. */
function stored(client: ClientId, room: RoomId, revision: number, at: number, event: RoomEvent): StoredEvent {
  const { commandId: command, ...context } = contextOf(client);
  const place = { id: randomUUID(), stream: roomStream(room), revision, position: "bench.0000000000000001" } as const;
  return { ...event, ...place, meta: { ...context, command, v: 1, at, subjects: [] } };
}

/** Rooms are unlike: a few have most of the messages. Gives the nth message as its room's next event. */
function messagesOf(client: ClientId, count: number): (n: number) => StoredEvent {
  const posted = new Map<RoomId, number>();
  return (n) => {
    const room = roomName(Math.floor(ROOMS ** seeded(n * 31 + 7)()) - 1);
    const ordinal = (posted.get(room) ?? 0) + 1;
    posted.set(room, ordinal);
    const at = FIRST_AT + Math.floor((n * SPAN_MS) / count);
    return stored(client, room, ordinal, at, messageFrom(room, ordinal, at, n));
  };
}

function messageFrom(room: RoomId, ordinal: number, at: number, n: number): RoomEvent {
  const sender = n % SENDERS;
  return messagePosted(room, ordinal, at, { user: `user-${sender}`, sender: `sub_${sender}`, content: textOf(n) });
}

function roomsOf(client: ClientId): readonly StoredEvent[] {
  return Array.from({ length: ROOMS }, (_, number) => {
    const isIn = ([count]: readonly [number, Subject]) => number % (ROOMS / count) === 0;
    const present = [...READERS].filter(isIn).map(([, subject]) => ({
      ...({ subject, user: { open: subject }, role: "member", name: null, meta: { open: {} } } as const),
    }));
    return stored(client, roomName(number), 0, FIRST_AT, roomCreated(`Room ${number}`, present));
  });
}

/** Fills the read models with so many messages; what is not searched is left as it was. */
export async function openSearchable({ postgres, say }: Bench, open: AsyncDisposableStack, count: number) {
  say(`${shown(count)} messages`);
  const models = await openReadModels(postgres, open);
  const { log, client } = models;
  const connection = await log.pool.connect();
  using _released = { [Symbol.dispose]: () => connection.release() };
  await checkSample(models, connection);
  await connection.query("set synchronous_commit = off");
  await connection.query("set maintenance_work_mem = '256MB'");
  const fill = async (model: Projection, events: readonly StoredEvent[]) =>
    copyRows(connection, model, tableName(model), foldRows(model, events));
  for (const model of [rooms, members]) await fill(model, roomsOf(client));
  const large = [messages, messageSearch];
  for (const model of large)
    for (const index of model.indexes.keys()) await connection.query(`drop index read.${tableName(model)}_i${index}`);
  const next = messagesOf(client, count);
  for (let from = 0; from < count; from += CHUNK) {
    const events = Array.from({ length: Math.min(CHUNK, count - from) }, (_, nth) => next(from + nth));
    for (const model of large) await fill(model, events);
    if ((from + CHUNK) % 100_000 === 0) say(`${shown(from + CHUNK)} messages copied`);
  }
  for (const model of large)
    for (const statement of createIndexes(model, tableName(model))) await connection.query(statement);
  await connection.query("vacuum analyze");
  const table = `read.${tableName(messageSearch)}`;
  const { rows: sizes } = await connection.query(
    `select pg_size_pretty(pg_total_relation_size('${table}')) as all, pg_size_pretty(pg_relation_size('${table}_i0')) as words`,
  );
  say(`the index with its table: ${sizes[0].all}, of it the words: ${sizes[0].words}`);
  return models;
}

/** What is copied must be what the projector writes: of a sample, each row of a room that is posted to the log. */
async function checkSample({ log, client, readSide }: OpenReadModels, connection: pg.PoolClient): Promise<void> {
  const room = roomName(ROOMS);
  const events = Array.from({ length: SAMPLE }, (_, n) => messageFrom(room, n + 1, FIRST_AT, n));
  await append(log, client, room, [roomCreated("Sample", []), ...events]);
  await readSide.caughtUp();
  for (const model of [messages, messageSearch]) {
    const table = `sample_of_${model.name}`;
    await connection.query(`create table read.${table} (like read.${tableName(model)})`);
    const rows = foldRows(
      model,
      events.map((event, n) => stored(client, room, n + 1, FIRST_AT, event)),
    );
    await copyRows(connection, model, table, rows);
    const own = `select to_jsonb(t) from read.${tableName(model)} t where room_id = '${room}'`;
    const copied = `select to_jsonb(t) from read.${table} t`;
    const { rows: counts } = await connection.query<{ rows: number; differ: number }>(`select
      (select count(*)::int from read.${table}) as rows,
      (select count(*)::int from ((${own} except ${copied}) union all (${copied} except ${own})) d) as differ`);
    if (counts[0]?.rows !== SAMPLE || counts[0].differ !== 0)
      throw new Error(`${model.name}: of ${SAMPLE} rows ${counts[0]?.differ} are not those that the projector writes`);
    await connection.query(`drop table read.${table}`);
  }
}

async function append(log: OpenLog, client: ClientId, room: RoomId, events: readonly RoomEvent[]): Promise<void> {
  const stream = roomStream(room);
  const commit = { stream, events, context: contextOf(client), at: FIRST_AT, firstRevision: 0 };
  await log.store.append(stream, -1, await encode(log.keyring, commit));
}
